//go:build unix

package consumer

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/contrib/sqlidem"
	"github.com/redisidem/redisidem/contrib/watermillidem"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/internal/sqltest"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/child"
	"github.com/redisidem/redisidem/test/internal/rung"
)

const (
	mostCommits = 300         // of which one, drawn at random, is the one at which a process dies
	flushPause  = time.Second // between two FLUSHALL

	postgresVariable = "REDISIDEM_TEST_POSTGRES"
	deathVariable    = "REDISIDEM_TEST_DEATH"
)

// book is the main function of a process that writes a row for each message, in a transaction. It
// kills itself right before or after one of its COMMITs, if it lives so long.
func book() {
	death, err := strconv.ParseInt(os.Getenv(deathVariable), 10, 64)
	if err != nil {
		panic(err)
	}
	var commits atomic.Int64
	db := sqltest.OpenWith(stdlib.GetDefaultDriver(), os.Getenv(postgresVariable), func(_ context.Context, _ driver.Conn, commit func() error) error {
		dies := commits.Add(1) == death
		if dies && death%2 == 0 {
			child.Die()
		}
		err := commit()
		if dies {
			child.Die()
		}
		return err
	})
	store, err := sqlidem.New(db, sqlidem.Config{Dialect: sqlidem.PostgreSQL})
	if err != nil {
		panic(err)
	}
	p := newProcess(&watermillidem.Config{Reconcile: store.Reconcile()})
	p.router.AddMiddleware(p.handled)
	p.router.AddConsumerHandler("book", orders, p.subscriber, p.idem.Handler(store.Stage(
		func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) (redisidem.Outcome, error) {
			uuid := watermillidem.Message(ctx).UUID
			p.began(uuid, st)
			_, err := tx.ExecContext(ctx, "INSERT INTO business (message) VALUES ($1)", uuid)
			time.Sleep(workTime)
			return redisidem.Finish(redisidem.JSON(201, uuid)), err
		})))
	p.run()
}

// TestEachMessageHasOneRowOfCompetingConsumers has two processes that write a row for each message
// into a table without any constraint. Redis loses all of its data now and then.
func TestEachMessageHasOneRowOfCompetingConsumers(t *testing.T) {
	seed, messages := rung.Seed(t), max(300, rung.Size(t, 1_000, 20_000, 50_000))
	b := newBroker(t)
	server, postgres := rediscase.Server(t), sqltest.Postgres(t)
	db := newTable(t, postgres)
	random := rand.New(rand.NewPCG(seed, 0))
	sent := b.publishAll(t, random, messages)
	ledger := child.NewLedger(t)

	c := competition{b: b, start: func(number int) (*child.Process, error) {
		death := 0 // at no COMMIT
		if number > 0 {
			death = 1 + rand.New(rand.NewPCG(seed, uint64(number)<<8)).IntN(mostCommits) //nolint:gosec // a small number
		}
		return child.Start(t, "booker", ledger, redisVariable+"="+server.Addr(), natsVariable+"="+b.url,
			postgresVariable+"="+postgres.PostgresURL(), deathVariable+"="+strconv.Itoa(death))
	}}
	stop := flushing(t, server.Addr())
	took := c.run(t, seed, messages)
	flushed := stop()

	var rows, once int
	if err := db.QueryRowContext(t.Context(), `SELECT COALESCE(SUM(n), 0), COUNT(CASE WHEN n = 1 THEN 1 END)
		FROM (SELECT COUNT(*) AS n FROM business GROUP BY message) counted`).Scan(&rows, &once); err != nil {
		t.Fatal(err)
	}
	if rows != messages || once != messages {
		t.Errorf("%d rows, and %d of %d messages have one", rows, once, messages)
	}
	runs := 0
	ledger.Each(t, func(line string) {
		if _, _, run := runOf(line); run {
			runs++
		}
	})
	kills, stops := c.kills.Load(), c.stops.Load()
	if kills == 0 || messages >= 1_000 && (stops == 0 || flushed == 0) {
		t.Errorf("too little has happened: %d kills, %d stops, %d times FLUSHALL", kills, stops, flushed)
	}
	rung.Figure(t, "R24", "%d messages and %d duplicates in %.0f s through two consumers side by side with a stage in PostgreSQL, "+
		"%d killed and %d stopped past their lease, %d times FLUSHALL: one row for each message, %d transactions rolled back and repeated",
		messages, sent-messages, took.Seconds(), kills, stops, flushed, runs-messages)
}

// newTable makes the table of the test and the schema of package sqlidem.
func newTable(t *testing.T, at sqltest.Database) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", at.PostgresURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	store, err := sqlidem.New(db, sqlidem.Config{Dialect: sqlidem.PostgreSQL})
	if err == nil {
		err = store.Migrate(t.Context())
	}
	if err == nil {
		_, err = db.ExecContext(t.Context(), "CREATE TABLE business (message TEXT)")
	}
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// flushing removes all data of Redis now and then, until stop is called, which returns how often.
func flushing(t *testing.T, addr string) (stop func() (times int)) {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = client.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	times := make(chan int, 1)
	go func() {
		ticker := time.NewTicker(flushPause)
		defer ticker.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				times <- n
				return
			case <-ticker.C:
			}
			if err := client.FlushAll(context.Background()).Err(); err != nil {
				t.Error(err)
			}
		}
	}()
	return func() int {
		cancel()
		return <-times
	}
}
