package sqlidem_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/contrib/sqlidem"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
)

func TestStageRunsOnceAlthoughRedisLosesItsData(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, server := scope(t)
		var runs atomic.Int64
		work := db.store(t).Stage(inserting(&runs))
		for range 3 {
			key, err := sc.Do(t.Context(), "k", request, work)
			if err != nil || string(key.Response.Body) != `"run 1"` || key.Response.Code != 201 {
				t.Fatalf("%+v, %v", key, err)
			}
			if err := server.Client().FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if n := db.count(t, "SELECT COUNT(*) FROM work"); n != 1 || runs.Load() != 1 {
			t.Errorf("%d rows after %d runs", n, runs.Load())
		}
		if _, err := sc.Do(t.Context(), "other", request, work); err != nil || runs.Load() != 2 {
			t.Errorf("another key did not run: %v", err)
		}
	})
}

func TestOutcomeThatRedisDidNotGetIsReturnedByTheNextRun(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, server := scope(t, func(c *redisidem.Config) { c.Timeout = 2 * time.Second; c.CommitRetry = -1 })
		client := server.Client()
		var runs atomic.Int64
		inner := db.store(t).Stage(inserting(&runs))
		cut := func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			o, err := inner(ctx, st)
			server.Stop() // between the two commits
			return o.WithEffects(effect.IncrBy(st.ShardKey("sum"), 0)), err
		}
		if _, err := sc.Do(t.Context(), "k", request, cut); !errors.Is(err, redisidem.ErrOutcomeUnknown) {
			t.Fatal(err)
		}
		server.Restart()
		server.FastForward(redisidem.DefaultLease)
		if err := client.Ping(t.Context()).Err(); err != nil {
			t.Log(err)
		}
		var key *redisidem.Key
		err := errors.New("not asked")
		for range 100 {
			if key, err = sc.Do(t.Context(), "k", request, inner); err == nil {
				break
			}
		}
		if err != nil || string(key.Response.Body) != `"run 1"` || runs.Load() != 1 {
			t.Fatalf("%+v, %v, %d runs", key, err, runs.Load())
		}
	})
}

func TestFailedWorkLeavesNothing(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, _ := scope(t)
		store := db.store(t)
		boom := errors.New("boom")
		end := func(how func() (redisidem.Outcome, error)) redisidem.StageFunc {
			return store.Stage(func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) (redisidem.Outcome, error) {
				if err := insert(ctx, tx, st.Key().Value); err != nil {
					return redisidem.Outcome{}, err
				}
				return how()
			})
		}
		_, err := sc.Do(t.Context(), "error", request, end(func() (redisidem.Outcome, error) { return redisidem.Outcome{}, boom }))
		if !errors.Is(err, boom) {
			t.Error(err)
		}
		func() {
			defer func() {
				if v := recover(); v == nil {
					t.Error("the panic was lost")
				}
			}()
			_, _ = sc.Do(t.Context(), "panic", request, end(func() (redisidem.Outcome, error) { panic(boom) }))
		}()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = sc.Do(t.Context(), "goexit", request, end(func() (redisidem.Outcome, error) { runtime.Goexit(); panic(boom) }))
		}()
		<-done
		key, err := sc.Do(t.Context(), "idle", request, end(func() (redisidem.Outcome, error) { return redisidem.NothingDone(), nil }))
		if err != nil || key.Finished() {
			t.Errorf("%+v, %v", key, err)
		}
		_, err = sc.Do(t.Context(), "unstorable", request, end(func() (redisidem.Outcome, error) {
			return redisidem.Finish(redisidem.Response{Code: 7}), nil
		}))
		if !errors.Is(err, redisidem.ErrInvalid) || errors.Is(err, redisidem.ErrNotKept) {
			t.Error(err)
		}
		for _, table := range []string{"work", "redisidem_visit", "redisidem_key"} {
			if n := db.count(t, "SELECT COUNT(*) FROM "+table); n != 0 {
				t.Errorf("%s has %d rows", table, n)
			}
		}
	})
}

func TestWorkMustLeaveTheEndOfItsTransactionToTheStore(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, _ := scope(t)
		work := db.store(t).Stage(func(_ context.Context, tx *sql.Tx, _ *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Finish(redisidem.JSON(200, "")), tx.Rollback()
		})
		if _, err := sc.Do(t.Context(), "k", request, work); err == nil || !strings.Contains(err.Error(), "ended its transaction") {
			t.Error(err)
		}
	})
}

// TestOlderWorkerIsRefused lets a worker sleep past its lease in the middle of its stage. A later
// one finishes this stage and the next, and the older one then writes nothing.
func TestOlderWorkerIsRefused(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, server := scope(t)
		store := db.store(t)
		var runs atomic.Int64
		work := store.Stage(inserting(&runs))
		var inner error
		_, err := sc.Do(t.Context(), "k", request, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			server.FastForward(redisidem.DefaultLease)
			other := server.Service(nil).Scope("shop")
			if _, err := other.Do(ctx, "k", request, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				return store.Stage(func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) (redisidem.Outcome, error) {
					return redisidem.Advance("two"), insert(ctx, tx, "first")
				})(ctx, st)
			}); err != nil {
				t.Error(err)
			}
			// The same stage by the older worker finds the row.
			o, err := work(ctx, st)
			if err != nil || o.RecoveryPoint != "two" {
				t.Errorf("%+v, %v", o, err)
			}
			// Without the row, its fence is too low.
			db.exec(t, "DELETE FROM redisidem_visit")
			_, inner = work(ctx, st)
			return redisidem.Outcome{}, inner
		})
		if !errors.Is(inner, redisidem.ErrFenced) || !errors.Is(err, redisidem.ErrFenced) {
			t.Errorf("the older worker got %v, and its caller %v", inner, err)
		}
		if n := db.count(t, "SELECT COUNT(*) FROM work"); n != 1 || runs.Load() != 0 {
			t.Errorf("%d rows, the older worker ran %d times", n, runs.Load())
		}
	})
}

// TestWorkersSideBySideRunOneAfterTheOther lets workers of the same visit in at the same time, as
// after a lease that was lost.
func TestWorkersSideBySideRunOneAfterTheOther(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		for _, level := range []sql.IsolationLevel{sql.LevelDefault, sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable} {
			if db.dialect == sqlidem.SQLite && level != sql.LevelDefault && level != sql.LevelSerializable {
				continue
			}
			sc, _, _ := scope(t)
			store := db.store(t, func(c *sqlidem.Config) { c.Isolation, c.Tries = level, 50 })
			var runs, inside atomic.Int64
			work := store.Stage(func(ctx context.Context, tx *sql.Tx, _ *redisidem.Stage) (redisidem.Outcome, error) {
				n := runs.Add(1)
				if inside.Add(1) > 1 {
					t.Error("two transactions of one key run side by side")
				}
				defer inside.Add(-1)
				return redisidem.Finish(redisidem.JSON(200, n)), insert(ctx, tx, level.String())
			})
			_, err := sc.Do(t.Context(), level.String(), request, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				var wg sync.WaitGroup
				outcomes := make(chan redisidem.Outcome, 8)
				for range cap(outcomes) {
					wg.Go(func() {
						o, err := work(ctx, st)
						if err != nil {
							t.Error(err)
							return
						}
						outcomes <- o
					})
				}
				wg.Wait()
				close(outcomes)
				first := <-outcomes
				for o := range outcomes {
					if !bytes.Equal(o.Response.Body, first.Response.Body) {
						t.Errorf("%v: one worker got %s, another one %s", level, first.Response.Body, o.Response.Body)
					}
				}
				return first, nil
			})
			if n := db.count(t, fmt.Sprintf("SELECT COUNT(*) FROM work WHERE id = '%v'", level)); err != nil || n != 1 {
				t.Errorf("%v: %d rows, %v", level, n, err)
			}
		}
	})
}

// TestSerializableFirstRunsOfDifferentKeysEnd has the number of callers and of tries that
// docs/sql.md gives. Keys that have nothing in common deadlock or conflict there.
func TestSerializableFirstRunsOfDifferentKeysEnd(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, _ := scope(t)
		store := db.store(t, func(c *sqlidem.Config) { c.Isolation, c.Tries = sql.LevelSerializable, 20 })
		work := store.Stage(func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Finish(redisidem.JSON(201, "")), insert(ctx, tx, st.Key().Value)
		})
		const callers = 16
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				if _, err := sc.Do(t.Context(), fmt.Sprint("k", i), request, work); err != nil {
					t.Errorf("k%d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if n, keys := db.count(t, "SELECT COUNT(*) FROM work"), db.count(t, "SELECT COUNT(DISTINCT id) FROM work"); n != callers || keys != callers {
			t.Errorf("%d rows of %d keys", n, keys)
		}
	})
}

func TestFlowOfSeveralStagesSurvivesTheLossOfItsRecord(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, server := scope(t)
		store := db.store(t)
		step := func(name string, o redisidem.Outcome) redisidem.StageFunc {
			return store.Stage(func(ctx context.Context, tx *sql.Tx, _ *redisidem.Stage) (redisidem.Outcome, error) {
				return o, insert(ctx, tx, name)
			})
		}
		undo := store.Compensate(func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) error {
			return insert(ctx, tx, "undo "+st.Compensates().Stage)
		})
		flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "f", Version: 1, Stages: []redisidem.FlowStage{
			{Point: redisidem.Started, Work: step("one", redisidem.Next().WithState(1)), Compensate: undo},
			{Point: "two", Work: step("two", redisidem.Next()), Compensate: undo},
			{Point: "three", Work: step("three", redisidem.Fail(redisidem.JSON(409, "sold out")))},
		}})
		if err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= 3; n++ {
			key, err := sc.DoFlow(t.Context(), "k", request, flow)
			if err != nil || key.Response.Code != 409 {
				t.Fatalf("%+v, %v", key, err)
			}
			// Each record does again what the one before it has undone.
			db.wantRows(t, map[string]int{"one": n, "undo started": n, "two": n, "undo two": n, "three": 1})
			if err := server.Client().FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestDeadlocksAndLostConnectionsAreTriedAgain(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, _ := scope(t)
		store := db.store(t)
		var mu sync.Mutex
		tries := make(map[string]int)
		do := func(name string, fail func(ctx context.Context, tx *sql.Tx) error) error {
			_, err := sc.Do(t.Context(), name, request, store.Stage(func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) (redisidem.Outcome, error) {
				if err := insert(ctx, tx, name); err != nil {
					return redisidem.Outcome{}, err
				}
				mu.Lock()
				tries[name]++
				n := tries[name]
				mu.Unlock()
				if n == 1 || name == "hopeless" {
					if err := fail(ctx, tx); err != nil {
						return redisidem.Outcome{}, fmt.Errorf("wrapped: %w", err)
					}
				}
				return redisidem.Finish(redisidem.JSON(200, n)), nil
			}))
			return err
		}
		other := errors.New("not the database's")
		if err := do("hopeless", func(context.Context, *sql.Tx) error { return other }); !errors.Is(err, other) || tries["hopeless"] != 1 {
			t.Errorf("%v after %d tries", err, tries["hopeless"])
		}
		if db.dialect == sqlidem.SQLite {
			return // it has no deadlocks, and no connections to lose
		}
		kill := "SELECT pg_terminate_backend(pg_backend_pid())"
		if db.dialect == sqlidem.MySQL {
			kill = "KILL CONNECTION_ID()"
		}
		if err := do("killed", func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, kill)
			return err
		}); err != nil || tries["killed"] != 2 {
			t.Errorf("%v after %d tries", err, tries["killed"])
		}
		db.exec(t, "CREATE TABLE spots (id INTEGER PRIMARY KEY, n INTEGER)")
		db.exec(t, "INSERT INTO spots VALUES (1, 0), (2, 0)")
		var wg sync.WaitGroup
		var meet sync.WaitGroup
		meet.Add(2)
		for i, order := range [][2]int{{1, 2}, {2, 1}} {
			wg.Go(func() {
				if err := do(fmt.Sprint("deadlock", i), func(ctx context.Context, tx *sql.Tx) error {
					for j, id := range order {
						if _, err := tx.ExecContext(ctx, fmt.Sprint("UPDATE spots SET n = n + 1 WHERE id = ", id)); err != nil {
							return err
						}
						if j == 0 {
							meet.Done()
							meet.Wait()
						}
					}
					return nil
				}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if tries["deadlock0"]+tries["deadlock1"] != 3 {
			t.Errorf("the tries are %v: one of the two has to be repeated", tries)
		}
		if n := db.count(t, "SELECT COUNT(*) FROM work"); n != 3 {
			t.Errorf("%d rows", n)
		}
	})
}

func TestTimeoutEndsATransaction(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, _ := scope(t)
		var runs atomic.Int64
		store := db.store(t, func(c *sqlidem.Config) { c.Timeout = 2 * time.Second })
		_, err := sc.Do(t.Context(), "k", request, store.Stage(func(ctx context.Context, tx *sql.Tx, _ *redisidem.Stage) (redisidem.Outcome, error) {
			runs.Add(1)
			if err := insert(ctx, tx, "k"); err != nil {
				return redisidem.Outcome{}, err
			}
			<-ctx.Done()
			return redisidem.Finish(redisidem.JSON(200, "")), nil // it does not look at its context
		}))
		if !errors.Is(err, context.DeadlineExceeded) || runs.Load() != 1 {
			t.Errorf("%v after %d runs", err, runs.Load())
		}
		if n := db.count(t, "SELECT COUNT(*) FROM work"); n != 0 {
			t.Errorf("%d rows", n)
		}
	})
}

func TestCodecOfTheServiceEncodesTheRow(t *testing.T) {
	t.Parallel()
	db := open(t, sqlidem.SQLite)
	sc, _, _ := scope(t, func(c *redisidem.Config) { c.Codec = reversing{} })
	if _, err := sc.Do(t.Context(), "k", request, db.store(t).Stage(func(context.Context, *sql.Tx, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Finish(redisidem.Response{Code: 200, Body: []byte("4111")}), nil
	})); err != nil {
		t.Fatal(err)
	}
	var outcome string
	if err := db.QueryRowContext(t.Context(), "SELECT outcome FROM redisidem_visit").Scan(&outcome); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(outcome, `"version"`) || !strings.Contains(outcome, `"noisrev"`) {
		t.Errorf("the row has %q", outcome)
	}
}

// reversing is a codec that reverses bytes.
type reversing struct{}

func (reversing) Encode(plain, _ []byte) ([]byte, error) { return reversed(plain), nil }

func (reversing) Decode(stored, _ []byte, _ int) ([]byte, error) { return reversed(stored), nil }

func reversed(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		out[len(b)-1-i] = c
	}
	return out
}

// TestCanceledFlowFindsWhatAnOpenAttemptHasCommitted cancels a flow whose worker died between the
// two commits, and one whose worker died before both.
func TestCanceledFlowFindsWhatAnOpenAttemptHasCommitted(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, _ := scope(t)
		store := db.store(t)
		died := errors.New("the worker died")
		for _, committed := range []bool{true, false} {
			value := fmt.Sprint(committed)
			first := store.FlowStage(redisidem.FlowStage{Point: redisidem.Started},
				func(ctx context.Context, tx *sql.Tx, _ *redisidem.Stage) (redisidem.Outcome, error) {
					return redisidem.Next(), insert(ctx, tx, value)
				},
				func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) error {
					return insert(ctx, tx, "undo "+st.Key().Value)
				})
			work := first.Work
			first.Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				if committed {
					if _, err := work(ctx, st); err != nil {
						return redisidem.Outcome{}, err
					}
				}
				return redisidem.Outcome{}, died
			}
			flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "f", Version: 1, Stages: []redisidem.FlowStage{
				first,
				{Point: "two", Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					return redisidem.Finish(redisidem.JSON(201, "")), nil
				}},
			}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := sc.DoFlow(t.Context(), value, request, flow); !errors.Is(err, died) {
				t.Fatal(err)
			}
			if err := sc.Cancel(t.Context(), value); err != nil {
				t.Fatal(err)
			}
			key, err := sc.DoFlow(t.Context(), value, request, flow)
			if err != nil || key.Response.Code != 409 {
				t.Fatalf("%+v, %v", key, err)
			}
			want := map[bool]int{true: 1, false: 0}[committed]
			for _, name := range []string{value, "undo " + value} {
				if n := db.count(t, "SELECT COUNT(*) FROM work WHERE id = '"+name+"'"); n != want {
					t.Errorf("%s was done %d times, want %d", name, n, want)
				}
			}
		}
	})
}

// TestOlderWorkerIsRefusedAfterReconcile lets a worker sleep past its lease before its transaction
// begins. A later one fails the flow, because the work is not done. The older one must not do it
// then: it would never be undone.
func TestOlderWorkerIsRefusedAfterReconcile(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, server := scope(t)
		store := db.store(t)
		var runs atomic.Int64
		work := store.Stage(inserting(&runs))
		var flow *redisidem.Flow
		var late error
		older := true
		flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "f", Version: 1, Stages: []redisidem.FlowStage{{
			Point: redisidem.Started, Reconcile: store.Reconcile(),
			Work: func(ctx context.Context, st *redisidem.Stage) (o redisidem.Outcome, err error) {
				if !older {
					return work(ctx, st)
				}
				older = false
				ctx = context.WithoutCancel(ctx)
				server.FastForward(redisidem.DefaultLease)
				if err := sc.Cancel(ctx, "k"); err != nil {
					t.Error(err)
				}
				if key, err := server.Service(nil).Scope("shop").DoFlow(ctx, "k", request, flow); err != nil || key.Response.Code != 409 {
					t.Errorf("the later worker got %+v, %v", key, err)
				}
				o, late = work(ctx, st)
				return o, late
			},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sc.DoFlow(t.Context(), "k", request, flow); err == nil {
			t.Error("the older worker got no error")
		}
		if n := db.count(t, "SELECT COUNT(*) FROM work"); !errors.Is(late, redisidem.ErrFenced) || n != 0 || runs.Load() != 0 {
			t.Errorf("the older worker got %v, and ran %d times: %d rows", late, runs.Load(), n)
		}
	})
}
