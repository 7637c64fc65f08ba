//go:build unix

// Package sql tests the promise of package sqlidem with real processes: each visit's SQL effects
// happen once, and every caller gets the same bytes.
//
// Two workers at a time finish the same keys with a flow on PostgreSQL and Redis. Its two stages
// in SQL write a row each into a table without any constraint, and so does the undo of the first
// one. Between them the flow snoozes for a random number of times. The workers are killed at
// random points, a part of them right before or right after a COMMIT. Some are stopped for longer
// than their lease. Redis loses all of its data now and then. At the end each key has one row for
// each stage, and all answers of a key are the same. A key that has failed has as many rows of its
// first stage as of the undo: after a loss it does again what was undone. In a second test a proxy
// loses COMMITs and their replies.
//
// In a third test two relays at a time publish the events of an outbox, and are killed and stopped.
//
//	go test -count=1 -v ./test/sql -size change
//	go test -count=1 -v -timeout 1h ./test/sql -size release  # 2,000 kills, 1,000 lost replies
package sql

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"flag"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/contrib/sqlidem"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/internal/sqltest"
	"github.com/redisidem/redisidem/internal/tcpproxy"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/child"
	"github.com/redisidem/redisidem/test/internal/rung"
)

const (
	lease      = 300 * time.Millisecond
	patience   = 30 * time.Second
	goroutines = 3  // in each worker
	step       = 8  // by how many keys the window moves with each worker
	window     = 24 // keys that a worker works on

	redisVariable    = "REDISIDEM_TEST_REDIS"
	postgresVariable = "REDISIDEM_TEST_POSTGRES"
	numberVariable   = "REDISIDEM_TEST_NUMBER"
	seedVariable     = "REDISIDEM_TEST_SEED"
)

var request = redisidem.Request{Method: "POST", Path: "/orders"}

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	flag.Parse()
	child.Main(m, map[string]func(){"worker": work, "relay": relay})
}

// quiet stops go-redis from logging connections that are broken on purpose.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// newFlow returns the flow of the test. Between its stages in SQL it waits for a random number of
// times, so the second of them comes at another revision whenever Redis has lost the record. Its
// answer is another one whenever this stage runs. Some keys fail, and are undone.
func newFlow(store *sqlidem.Store) (*redisidem.Flow, error) {
	write := func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage, stage string) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO business (key, stage) VALUES ($1, $2)", st.Key().Value, stage)
		return err
	}
	return redisidem.NewFlow(redisidem.FlowConfig{Name: "order", Version: 1, Stages: []redisidem.FlowStage{
		store.FlowStage(redisidem.FlowStage{Point: redisidem.Started}, func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Next().WithState(rand.Text()), write(ctx, tx, st, "one")
		}, func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) error { return write(ctx, tx, st, "undo") }),
		{Point: waiting, Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			if mathrand.IntN(3) == 0 {
				return redisidem.Snooze(time.Millisecond, redisidem.JSON(202, "wait")).UntilCalled(), nil
			}
			return redisidem.Next(), nil
		}},
		store.FlowStage(redisidem.FlowStage{Point: "two"}, func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) (redisidem.Outcome, error) {
			if fails(st.Key().Value) {
				return redisidem.Fail(redisidem.JSON(402, rand.Text())), write(ctx, tx, st, "two")
			}
			return redisidem.Finish(redisidem.JSON(201, rand.Text())), write(ctx, tx, st, "two")
		}, nil),
	}})
}

// waiting is the recovery point at which a key waits.
const waiting = "waiting"

// fails reports whether the flow of a key fails: one in five.
func fails(name string) bool { return strings.HasSuffix(name, "3") || strings.HasSuffix(name, "8") }

// standingOf returns how many rows of the stages of a key stand when it has ended. A failed key has
// undone that of its first stage.
func standingOf(name string) int {
	if fails(name) {
		return 1
	}
	return 2
}

func newService(addr string) (*redisidem.Service, *redis.Client, error) {
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, DisableIdentity: true})
	svc, err := redisidem.New(client, &redisidem.Config{Lease: lease, Timeout: 2 * time.Second, Wait: lease})
	return svc, client, err
}

// work is the main function of a worker, which is killed.
func work() {
	number, _ := strconv.Atoi(os.Getenv(numberVariable))
	seed, _ := strconv.ParseUint(os.Getenv(seedVariable), 10, 64)
	random := mathrand.New(mathrand.NewPCG(seed, uint64(number)))
	death := int64(random.IntN(60)) // the commit at which it dies, if it lives so long
	before := random.IntN(2) == 0
	var commits atomic.Int64
	db := sqltest.OpenWith(stdlib.GetDefaultDriver(), os.Getenv(postgresVariable), func(_ context.Context, _ driver.Conn, commit func() error) error {
		dies := commits.Add(1) == death
		if dies && before {
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
	flow, err := newFlow(store)
	if err != nil {
		panic(err)
	}
	svc, _, err := newService(os.Getenv(redisVariable))
	if err != nil {
		panic(err)
	}
	pen := child.Own()
	child.Tell("ready")
	for round := range goroutines {
		first := number * step
		go func() {
			for i := 0; ; i++ {
				name := fmt.Sprint("key-", first+(i+round*window/goroutines)%window)
				key, err := svc.Scope("shop").DoFlow(context.Background(), name, request, flow)
				switch {
				case err == nil && key.Finished():
					pen.Write("answer %s %s", name, key.Response.Body)
				case err == nil && key.RecoveryPoint == waiting:
				case err == nil:
					pen.Write("wrong %s is at %s", name, key.RecoveryPoint)
				case errors.Is(err, redisidem.ErrFenced):
					pen.Write("fenced %s", name)
				case !expected(err):
					pen.Write("wrong %s: %v", name, err)
				}
			}
		}()
	}
	select {}
}

// expected reports whether an error is one that disturbances may cause.
func expected(err error) bool {
	for _, e := range []error{
		redisidem.ErrLocked, redisidem.ErrLeaseLost, redisidem.ErrOutcomeUnknown, redisidem.ErrUnavailable, redisidem.ErrNotFound,
		context.Canceled,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// world has the servers of a test.
type world struct {
	redis    string
	postgres sqltest.Database
	db       *sql.DB
	store    *sqlidem.Store
	client   *redis.Client
	svc      *redisidem.Service
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, rediscase.Server(t).Addr())
}

// newWorldOn makes a world with a database of its own on a Redis server.
func newWorldOn(t *testing.T, addr string) *world {
	t.Helper()
	w := &world{redis: addr, postgres: sqltest.Postgres(t)}
	var err error
	if w.db, err = sql.Open("pgx", w.postgres.PostgresURL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close() })
	if w.store, err = sqlidem.New(w.db, sqlidem.Config{Dialect: sqlidem.PostgreSQL}); err != nil {
		t.Fatal(err)
	}
	if err := w.store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.db.ExecContext(t.Context(), "CREATE TABLE business (key TEXT, stage TEXT)"); err != nil {
		t.Fatal(err)
	}
	if w.svc, w.client, err = newService(w.redis); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(w.svc.Close(ctx), w.client.Close()); err != nil {
			t.Error(err)
		}
	})
	return w
}

// rows returns how many rows a query counts.
func (w *world) rows(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	if err := w.db.QueryRowContext(context.Background(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// finish finishes a key, or repeats its answer.
func (w *world) finish(t *testing.T, flow *redisidem.Flow, name string) string {
	t.Helper()
	var err error
	for began := time.Now(); time.Since(began) < patience; {
		var key *redisidem.Key
		if key, err = w.svc.Scope("shop").Wait(2*lease).DoFlow(t.Context(), name, request, flow); err == nil && key.Finished() {
			return string(key.Response.Body)
		}
	}
	t.Errorf("%s cannot be finished: %v", name, err)
	return ""
}

// TestKilledWorkersWriteEachRowOnce kills workers, stops some, and removes the data of Redis.
func TestKilledWorkersWriteEachRowOnce(t *testing.T) {
	seed, kills := rung.Seed(t), rung.Size(t, 200, 2_000, 2_000)
	w := newWorld(t)
	ledger := child.NewLedger(t)
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	type fate struct {
		number      int
		life        time.Duration
		stop, flush bool
	}
	fates := make(chan fate, kills)
	for i := range kills {
		fates <- fate{number: i, life: time.Duration(random.Int64N(int64(150 * time.Millisecond))), stop: i%10 == 4, flush: i%5 == 2}
	}
	close(fates)
	began := time.Now()
	var stops, flushes atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for f := range fates {
				p, err := child.Start(t, "worker", ledger, redisVariable+"="+w.redis, postgresVariable+"="+w.postgres.PostgresURL(),
					numberVariable+"="+strconv.Itoa(f.number), seedVariable+"="+strconv.FormatUint(seed, 10))
				if err == nil {
					err = p.Await("ready", patience)
				}
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(f.life)
				if f.flush {
					flushes.Add(1)
					if err := w.client.FlushAll(context.Background()).Err(); err != nil {
						t.Error(err)
					}
				}
				if f.stop && p.Stop() == nil { // it may have killed itself
					stops.Add(1)
					time.Sleep(lease + lease/2)
					_ = p.Continue()
					time.Sleep(50 * time.Millisecond)
				}
				p.Kill()
				if !p.Killed() {
					t.Errorf("seed %d: worker %d ended by itself", seed, f.number)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)

	flow, err := newFlow(w.store)
	if err != nil {
		t.Fatal(err)
	}
	answers, given, fenced := make(map[string]string), 0, 0
	ledger.Each(t, func(line string) {
		word, rest, _ := strings.Cut(line, " ")
		name, body, _ := strings.Cut(rest, " ")
		switch {
		case word == "fenced":
			fenced++
		case word != "answer":
			t.Errorf("seed %d: %s", seed, line)
		case answers[name] != "" && answers[name] != body:
			t.Errorf("seed %d: %s was answered with %s and %s", seed, name, answers[name], body)
		default:
			answers[name] = body
			given++
		}
	})
	keys, rows := (kills-1)*step+window, 0
	for i := range keys {
		name := fmt.Sprint("key-", i)
		rows += standingOf(name)
		if got := w.finish(t, flow, name); answers[name] != "" && got != answers[name] {
			t.Errorf("seed %d: %s was answered with %s and at the end with %s", seed, name, answers[name], got)
		}
	}
	if n := w.rows(t, "SELECT COUNT(*) FROM (SELECT 1 FROM business WHERE key NOT IN (SELECT key FROM business WHERE stage = 'undo') OR stage = 'two' "+
		"GROUP BY key, stage HAVING COUNT(*) <> 1) x"); n != 0 {
		t.Errorf("seed %d: %d stages have more than one row", seed, n)
	}
	// A failed key does again what it has undone when Redis has lost its record.
	const standing = "SELECT COUNT(*) FILTER (WHERE stage <> 'undo') - COUNT(*) FILTER (WHERE stage = 'undo') FROM business"
	if n := w.rows(t, standing); n != rows {
		t.Errorf("seed %d: %d rows of %d keys stand, want %d", seed, n, keys, rows)
	}
	if n := w.rows(t, "SELECT COUNT(*) FROM ("+standing+" GROUP BY key HAVING COUNT(*) FILTER (WHERE stage = 'undo') > 0 "+
		"AND COUNT(*) FILTER (WHERE stage = 'undo') <> COUNT(*) FILTER (WHERE stage = 'one')) x"); n != 0 {
		t.Errorf("seed %d: %d failed keys have not undone each of their rows once", seed, n)
	}
	// A few workers on a busy machine may answer little, so this is for the larger sizes.
	if given == 0 || kills >= 100 && (len(answers) < kills/2 || given < 2*len(answers) || flushes.Load() == 0) {
		t.Errorf("too little has happened for this to show anything: %d keys were answered %d times, %d times Redis lost its data", len(answers), given, flushes.Load())
	}
	rung.Figure(t, "R20", "%d workers killed in %.0f s over PostgreSQL and Redis, two at a time on the same keys, %d stopped past their lease, %d times FLUSHALL; "+
		"%d keys, %d answers, %d results refused: one row for each stage of each key, or as many undone as done, 0 differing answers",
		kills, took.Seconds(), stops.Load(), flushes.Load(), keys, given, fenced)
}

// TestLostCommitsAreNeitherLostNorDoubled puts a proxy before PostgreSQL. It loses COMMITs, and the
// replies to others.
func TestLostCommitsAreNeitherLostNorDoubled(t *testing.T) {
	seed, many := rung.Seed(t), rung.Size(t, 100, 1_000, 1_000)
	w := newWorld(t)
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	at := w.postgres
	proxy := tcpproxy.Start(t, at.Addr)
	at.Addr = proxy.Addr()
	replies, requests := 0, 0
	db := sqltest.OpenWith(stdlib.GetDefaultDriver(), at.PostgresURL(), func(_ context.Context, _ driver.Conn, commit func() error) error {
		switch random.IntN(6) {
		case 0, 1, 2:
			proxy.Lose(1)
			err := commit()
			if err == nil {
				t.Error("the reply was not lost")
			}
			replies++
			return err
		case 3:
			requests++
			proxy.Cut()
		}
		return commit()
	})
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1) // so that the answer that is lost is that to the COMMIT
	store, err := sqlidem.New(db, sqlidem.Config{Dialect: sqlidem.PostgreSQL, Tries: 50, Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	flow, err := newFlow(store)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	keys := 0
	for ; replies < many && !t.Failed(); keys++ {
		name := fmt.Sprint("key-", keys)
		for finished := false; !finished && !t.Failed(); {
			key, err := w.svc.Scope("shop").DoFlow(t.Context(), name, request, flow)
			if err != nil {
				t.Errorf("seed %d: %s: %v", seed, name, err)
			}
			finished = key.Finished()
		}
		want := standingOf(name)
		if fails(name) {
			want += 2 // the row of the first stage, and that of its undo
		}
		if n := w.rows(t, "SELECT COUNT(*) FROM business WHERE key = $1", name); n != want {
			t.Errorf("seed %d: %s has %d rows, want %d", seed, name, n, want)
		}
	}
	rung.Figure(t, "R21", "%d replies to COMMIT and %d COMMITs lost between %d keys and PostgreSQL in %.0f s: 0 double effects, 0 lost, no caller had an error",
		replies, requests, keys, time.Since(began).Seconds())
}
