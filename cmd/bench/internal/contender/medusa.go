package contender

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// MedusaSQL returns the SQL service that this library is modelled on, on the PostgreSQL at a URL.
// It does not use the Redis under test.
func MedusaSQL(url string) Kind {
	return Kind{
		Name: "medusa-sql", Title: "Medusa's SQL service",
		About: "The pattern that this library is modelled on: a table in PostgreSQL, one SERIALIZABLE transaction for " +
			"initializeRequest and one for workStage, on disk when they end, and tried again when they collide. Nothing is " +
			"locked: callers who bring a key at the same time all execute it, a collision executes it again, and the result of " +
			"one is kept.",
		Replays: true,
		Open: func(ctx context.Context, dial Dial, prefix string) (Contender, error) {
			return openMedusa(ctx, url, dial.Callers(), prefix)
		},
	}
}

// sqlConnections limits the connections to PostgreSQL. With more connections throughput falls,
// since serializable transactions of different keys also collide. They do when their rows or index
// entries share a page.
const sqlConnections = 16

// medusaTable is the service's table, except for response_body. The service uses jsonb, which does
// not return bytes unchanged.
const medusaTable = `
create table idempotency_key (
	id              text primary key,
	idempotency_key text not null unique,
	created_at      timestamptz not null default now(),
	locked_at       timestamptz,
	request_method  text,
	request_params  jsonb,
	request_path    text,
	response_code   integer,
	response_body   bytea,
	recovery_point  text not null default 'started'
)`

func openMedusa(ctx context.Context, url string, callers int, prefix string) (*medusa, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the URL of the PostgreSQL cannot be parsed") // the error must not contain the password
	}
	g := &medusa{schema: "redisidem_bench_" + strings.ToLower(rand.Text()), prefix: prefix}
	cfg.MaxConns = int32(min(max(callers, 1), sqlConnections))
	cfg.ConnConfig.RuntimeParams["search_path"] = g.schema
	if g.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return nil, fmt.Errorf("medusa-sql: %w", err)
	}
	if _, err := g.pool.Exec(ctx, "create schema "+pgx.Identifier{g.schema}.Sanitize()); err != nil {
		g.pool.Close()
		return nil, fmt.Errorf("medusa-sql: no schema could be made: %w", err)
	}
	if _, err := g.pool.Exec(ctx, medusaTable); err != nil {
		return nil, errors.Join(fmt.Errorf("medusa-sql: no table could be made: %w", err), g.Close())
	}
	return g, nil
}

type medusa struct {
	pool   *pgxpool.Pool
	schema string
	prefix string
}

// medusaRow is the part of a row that a request needs.
type medusaRow struct {
	point string
	body  []byte
}

func (g *medusa) Do(ctx context.Context, r Request, work Work) (response []byte, replayed bool, err error) {
	key := g.prefix + ":" + r.Key
	var row medusaRow
	err = g.serializable(ctx, func(tx pgx.Tx) (err error) {
		row, err = initializeRequest(ctx, tx, key, r)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("initializeRequest: %w", err)
	}
	if row.point == "finished" {
		return row.body, true, nil
	}
	err = g.serializable(ctx, func(tx pgx.Tx) (err error) {
		row, replayed, err = workStage(ctx, tx, key, work)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("workStage: %w", err)
	}
	return row.body, replayed, nil
}

const selectRow = `select recovery_point, response_body from idempotency_key where idempotency_key = $1`

// initializeRequest retrieves a key or creates it.
func initializeRequest(ctx context.Context, tx pgx.Tx, key string, r Request) (medusaRow, error) {
	var row medusaRow
	err := tx.QueryRow(ctx, selectRow, key).Scan(&row.point, &row.body)
	if !errors.Is(err, pgx.ErrNoRows) {
		return row, err
	}
	row.point = "started"
	_, err = tx.Exec(ctx, `insert into idempotency_key (id, idempotency_key, request_method, request_params, request_path)
		values ($1, $2, $3, $4, $5)`, "ikey_"+rand.Text(), key, r.Method, r.Params, r.Path)
	return row, err
}

// workStage runs the work and stores its response. After a collision it returns the stored
// response, if there is one.
func workStage(ctx context.Context, tx pgx.Tx, key string, work Work) (row medusaRow, replayed bool, err error) {
	if err := tx.QueryRow(ctx, selectRow, key).Scan(&row.point, &row.body); err != nil {
		return row, false, err
	}
	if row.point == "finished" {
		return row, true, nil
	}
	body, err := work(ctx)
	if err != nil {
		return row, false, err
	}
	done, err := tx.Exec(ctx, `update idempotency_key set recovery_point = 'finished', response_code = 200, response_body = $2
		where idempotency_key = $1`, key, body)
	if err == nil && done.RowsAffected() != 1 {
		err = errors.New("the row is gone, and " + strconv.FormatInt(done.RowsAffected(), 10) + " rows were updated")
	}
	return medusaRow{"finished", body}, false, err
}

// collisions is the maximum number of tries of a transaction.
const collisions = 200

// serializable runs f in a transaction, again and again until one does not collide.
func (g *medusa) serializable(ctx context.Context, f func(pgx.Tx) error) error {
	var err error
	for range collisions {
		err = pgx.BeginTxFunc(ctx, g.pool, pgx.TxOptions{IsoLevel: pgx.Serializable}, f)
		var refused *pgconn.PgError
		if !errors.As(err, &refused) {
			return err
		}
		switch refused.Code {
		case "40001", "40P01", "23505": // serialization failure, deadlock, the same key was created at the same time
		default:
			return err
		}
	}
	return fmt.Errorf("gave up after %d collisions: %w", collisions, err)
}

// Close drops the table that Open created.
func (g *medusa) Close() error {
	defer g.pool.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	if _, err := g.pool.Exec(ctx, "drop schema "+pgx.Identifier{g.schema}.Sanitize()+" cascade"); err != nil {
		return fmt.Errorf("medusa-sql: %w", err)
	}
	return nil
}
