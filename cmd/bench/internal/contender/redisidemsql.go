package contender

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/redisidem/redisidem/contrib/sqlidem"
	"github.com/redisidem/redisidem/redisidem"
)

// RedisidemSQL returns this library with each stage in a transaction of the PostgreSQL at a URL.
func RedisidemSQL(url string) Kind {
	return Kind{
		Name: "redisidem-sql", Title: "redisidem with a SQL transaction",
		About: "This library with contrib/sqlidem: the work runs in a transaction of PostgreSQL that also stores its outcome, on disk " +
			"when it ends. Replays come from Redis.",
		Own: true, Replays: true,
		Open: func(ctx context.Context, dial Dial, prefix string) (Contender, error) {
			g, err := library(func(*redisidem.Config) {})(ctx, dial, prefix)
			if err != nil {
				return nil, err
			}
			s := &sqlContender{libraryContender: g.(*libraryContender)} //nolint:errcheck // library makes no other
			if err := s.open(ctx, url, dial.Callers()); err != nil {
				return nil, errors.Join(err, g.Close())
			}
			return s, nil
		},
	}
}

type sqlContender struct {
	*libraryContender
	db     *sql.DB
	schema string
	store  *sqlidem.Store
}

func (g *sqlContender) open(ctx context.Context, url string, callers int) error {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return errors.New("the URL of the PostgreSQL cannot be parsed") // the error must not contain the password
	}
	g.schema = "redisidem_bench_" + strings.ToLower(rand.Text())
	cfg.RuntimeParams["search_path"] = g.schema
	g.db = stdlib.OpenDB(*cfg)
	n := min(max(callers, 1), sqlConnections)
	g.db.SetMaxOpenConns(n)
	g.db.SetMaxIdleConns(n)
	if _, err := g.db.ExecContext(ctx, "create schema "+pgx.Identifier{g.schema}.Sanitize()); err != nil {
		return errors.Join(fmt.Errorf("redisidem-sql: no schema could be made: %w", err), g.db.Close())
	}
	if g.store, err = sqlidem.New(g.db, sqlidem.Config{Dialect: sqlidem.PostgreSQL, Timeout: patience}); err == nil {
		err = g.store.Migrate(ctx)
	}
	if err != nil {
		return errors.Join(err, g.drop())
	}
	return nil
}

func (g *sqlContender) Do(ctx context.Context, r Request, work Work) (response []byte, replayed bool, err error) {
	return answer(g.scope.Do(ctx, r.Key, redisidem.Request{Method: r.Method, Path: r.Path, Params: r.Params},
		g.store.Stage(func(ctx context.Context, _ *sql.Tx, _ *redisidem.Stage) (redisidem.Outcome, error) {
			body, err := work(ctx)
			if err != nil {
				return redisidem.Outcome{}, err
			}
			return redisidem.Finish(redisidem.Response{Code: 200, Body: body}), nil
		})))
}

func (g *sqlContender) Close() error { return errors.Join(g.libraryContender.Close(), g.drop()) }

// drop removes what open made.
func (g *sqlContender) drop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	_, err := g.db.ExecContext(ctx, "drop schema "+pgx.Identifier{g.schema}.Sanitize()+" cascade")
	return errors.Join(err, g.db.Close())
}
