package sqlidem_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redisidem/redisidem/contrib/sqlidem"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
)

// writes is work that writes a row, and ends with the outcome.
func writes(name string, o func() redisidem.Outcome) sqlidem.Work {
	return func(ctx context.Context, tx *sql.Tx, _ *redisidem.Stage) (redisidem.Outcome, error) {
		return o(), insert(ctx, tx, name)
	}
}

func undoes(name string) func(context.Context, *sql.Tx, *redisidem.Stage) error {
	return func(ctx context.Context, tx *sql.Tx, _ *redisidem.Stage) error { return insert(ctx, tx, name) }
}

// ordered is an answer that is another one at each run.
func ordered() redisidem.Outcome { return redisidem.Finish(redisidem.JSON(201, time.Now().String())) }

func newFlow(t *testing.T, stages ...redisidem.FlowStage) *redisidem.Flow {
	t.Helper()
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "f", Version: 1, Stages: stages})
	if err != nil {
		t.Fatal(err)
	}
	return flow
}

// awaits returns a stage that ends with an outcome as long as there are waits, and then goes on.
func awaits(point string, waits *int, wait redisidem.Outcome) redisidem.FlowStage {
	return redisidem.FlowStage{Point: point, Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		if *waits > 0 {
			*waits--
			return wait, nil
		}
		return redisidem.Next(), nil
	}}
}

// calls returns a function that calls a flow with one key.
func calls(t *testing.T, sc *redisidem.Scope, flow *redisidem.Flow) func() *redisidem.Key {
	return func() *redisidem.Key {
		t.Helper()
		key, err := sc.DoFlow(t.Context(), "k", request, flow)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
}

// wantRows checks how often each work was done.
func (db *database) wantRows(t *testing.T, want map[string]int) {
	t.Helper()
	for name, n := range want {
		if got := db.count(t, "SELECT COUNT(*) FROM work WHERE id = '"+name+"'"); got != n {
			t.Errorf("%s was done %d times, want %d", name, got, n)
		}
	}
}

// TestVisitIsFoundAfterAnotherNumberOfCommits loses the data of Redis. The second run then takes
// another number of interim answers, before the stage in SQL and, if the flow fails, before its
// undo.
func TestVisitIsFoundAfterAnotherNumberOfCommits(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, server := scope(t, func(c *redisidem.Config) {
			var err error
			if c.Codec, err = codec.NewEncryption(codec.EncryptionKey{ID: "a", Secret: make([]byte, 32)}); err != nil {
				t.Fatal(err)
			}
		})
		store := db.store(t)
		for _, fails := range []bool{false, true} {
			waits := 0
			name := func(work string) string { return fmt.Sprint(work, " ", fails) }
			end := ordered
			if fails {
				end = func() redisidem.Outcome { return redisidem.Fail(redisidem.JSON(402, time.Now().String())) }
			}
			flow := newFlow(
				t, store.FlowStage(redisidem.FlowStage{Point: redisidem.Started}, writes(name("hold"), redisidem.Next), undoes(name("release"))),
				awaits("await", &waits, redisidem.Snooze(time.Second, redisidem.JSON(202, "wait")).UntilCalled()),
				store.FlowStage(redisidem.FlowStage{Point: "order"}, writes(name("order"), end), nil),
			)
			answer := ""
			for _, waits = range []int{2, 0, 3, 1} {
				var key *redisidem.Key
				for range 5 {
					var err error
					if key, err = sc.DoFlow(t.Context(), name("k"), request, flow); err != nil {
						t.Fatal(err)
					}
				}
				if got := string(key.Response.Body); !key.Finished() || answer != "" && got != answer {
					t.Errorf("the answer is %s, before it was %s", got, answer)
				} else {
					answer = got
				}
				if err := server.Client().FlushAll(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
			}
			want := map[string]int{name("hold"): 1, name("order"): 1, name("release"): 0}
			if fails { // each record holds again what the one before it has released
				want[name("hold")], want[name("release")] = 4, 4
			}
			db.wantRows(t, want)
		}
	})
}

// TestVisitsOfALoopAreFoundOneByOne has a stage in SQL with three visits, each of which is undone.
// Its process dies after each transaction, and Redis loses its data in the middle and at the end: a
// visit that stands is found, and one that was undone runs again.
func TestVisitsOfALoopAreFoundOneByOne(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, server := scope(t)
		store := db.store(t)
		waits := 1
		died := errors.New("the process died")
		deaths := map[string]bool{}
		once := func(at string, n int) error {
			at = fmt.Sprint(at, " ", n)
			if deaths[at] {
				return nil
			}
			deaths[at] = true
			return died
		}
		nth := func(st *redisidem.Stage) (n int) {
			if err := st.State(&n); err != nil && !errors.Is(err, redisidem.ErrNoState) {
				t.Error(err)
			}
			return n
		}
		runs, undone := map[int]int{}, map[int]int{}
		pack := store.FlowStage(redisidem.FlowStage{Point: "pack", Next: []string{"pack", "send"}},
			func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) (redisidem.Outcome, error) {
				n, to := nth(st)+1, "pack"
				if n == 3 {
					to = "send"
				}
				runs[n]++
				return redisidem.Advance(to).WithState(n), insert(ctx, tx, fmt.Sprint("pack ", n))
			},
			func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) error {
				undone[nth(st)]++
				return insert(ctx, tx, fmt.Sprint("unpack ", nth(st)))
			})
		work, undo := pack.Work, pack.Compensate
		pack.Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			o, err := work(ctx, st)
			return o, errors.Join(err, once("work", nth(st)))
		}
		pack.Compensate = func(ctx context.Context, st *redisidem.Stage) error {
			return errors.Join(undo(ctx, st), once("undo", nth(st)))
		}
		flow := newFlow(t,
			awaits(redisidem.Started, &waits, redisidem.Interim(redisidem.Started, redisidem.JSON(202, "wait"))),
			pack,
			store.FlowStage(redisidem.FlowStage{Point: "send"}, writes("send", func() redisidem.Outcome { return redisidem.Fail(redisidem.JSON(409, "full")) }), nil),
		)
		ended := 0
		for call := range 60 {
			key, err := sc.DoFlow(t.Context(), "k", request, flow)
			if err != nil && !errors.Is(err, died) {
				t.Fatal(err)
			}
			for n := 1; n <= 3; n++ {
				if stands := runs[n] - undone[n]; stands < 0 || stands > 1 {
					t.Fatalf("after %d calls, visit %d was made %d times and undone %d times", call+1, n, runs[n], undone[n])
				}
			}
			if key.Finished() {
				ended++
			}
			if ended == 2 {
				break
			}
			if call%3 == 2 || key.Finished() {
				waits = call % 4
				if err := server.Client().FlushAll(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := map[string]int{"send": 1}
		for n := 1; n <= 3; n++ {
			if runs[n] != undone[n] {
				t.Errorf("visit %d was made %d times and undone %d times", n, runs[n], undone[n])
			}
			want[fmt.Sprint("pack ", n)], want[fmt.Sprint("unpack ", n)] = runs[n], undone[n]
		}
		db.wantRows(t, want)
		// The first record was lost when none was undone, and one of the next ones when some were.
		if ended != 2 || len(deaths) != 6 || runs[3] <= runs[1] {
			t.Errorf("%d records ended, %d deaths, visits %v", ended, len(deaths), runs)
		}
	})
}

// TestVisitIsFoundAfterAFailoverThatLostCommits sets the record back, as a replica does that has
// not got the last commits. The stage in SQL then comes later than before.
func TestVisitIsFoundAfterAFailoverThatLostCommits(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, server := scope(t)
		store := db.store(t)
		waits := 0
		flow := newFlow(t,
			store.FlowStage(redisidem.FlowStage{Point: redisidem.Started}, writes("hold", redisidem.Next), nil),
			awaits("await", &waits, redisidem.Interim("await", redisidem.JSON(202, "wait"))),
			store.FlowStage(redisidem.FlowStage{Point: "order"}, writes("order", func() redisidem.Outcome {
				return redisidem.Interim("order", redisidem.JSON(202, time.Now().String()))
			}), nil),
		)
		call := calls(t, sc, flow)
		waits = 1
		redis := server.Client()
		keys, err := redis.Keys(t.Context(), "*"+call().ID()).Result()
		if err != nil || len(keys) != 1 {
			t.Fatal(keys, err)
		}
		back, err := redis.HGetAll(t.Context(), keys[0]).Result()
		if err != nil {
			t.Fatal(err)
		}
		setBack := func() {
			t.Helper()
			if err := errors.Join(redis.Del(t.Context(), keys[0]).Err(), redis.HSet(t.Context(), keys[0], back).Err()); err != nil {
				t.Fatal(err)
			}
		}
		first, second := string(call().Response.Body), string(call().Response.Body)
		for _, more := range []int{1, 2, 0, 3, 1} {
			setBack()
			waits = more
			var got []string
			for range more + 2 {
				got = append(got, string(call().Response.Body))
			}
			if got = got[more:]; got[0] != first || got[1] != second {
				t.Errorf("after %d more interim answers the visits returned %q, want %q and %q", more, got, first, second)
			}
		}
		db.wantRows(t, map[string]int{"hold": 1, "order": 2})
		call()
		db.wantRows(t, map[string]int{"order": 3})
	})
}

// TestVisitIsFoundAfterAnAdoption has a key that is adopted by the next version of its flow, which
// is a commit of its own. After the loss of Redis's data the key begins in the next version.
func TestVisitIsFoundAfterAnAdoption(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, server := scope(t)
		store := db.store(t)
		waits := 1
		cfg := redisidem.FlowConfig{Name: "f", Version: 1, Stages: []redisidem.FlowStage{
			store.FlowStage(redisidem.FlowStage{Point: redisidem.Started}, writes("hold", redisidem.Next), nil),
			{Point: "await", Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if waits > 0 {
					waits--
					return redisidem.Interim("await", redisidem.JSON(202, "wait")), nil
				}
				return redisidem.Next(), nil
			}},
			store.FlowStage(redisidem.FlowStage{Point: "order"}, writes("order", ordered), nil),
		}}
		first, err := redisidem.NewFlow(cfg)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Version, cfg.Earlier = 2, []redisidem.EarlierVersion{{
			Flow: first, Adopt: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Advance(st.Key().RecoveryPoint), nil
			},
		}}
		second, err := redisidem.NewFlow(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sc.DoFlow(t.Context(), "k", request, first); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if key, err := sc.DoFlow(t.Context(), "k", request, second); err != nil || !key.Finished() {
				t.Fatalf("%+v, %v", key, err)
			}
			if err := server.Client().FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}
		db.wantRows(t, map[string]int{"hold": 1, "order": 1})
	})
}

// TestDeletedKeyBeginsAgain deletes a key on purpose: its next record is not the old one's.
func TestDeletedKeyBeginsAgain(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, _ := scope(t)
		flow := newFlow(t, db.store(t).FlowStage(redisidem.FlowStage{Point: redisidem.Started}, writes("order", ordered), nil))
		for range 2 {
			key, err := sc.DoFlow(t.Context(), "k", request, flow)
			if err == nil {
				err = sc.Delete(t.Context(), key)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		db.wantRows(t, map[string]int{"order": 2})
	})
}

// TestOlderWorkerDoesNotTakeAVisitBack lets a worker of a lost record run after one of the next
// record, which has met the same visit.
func TestOlderWorkerDoesNotTakeAVisitBack(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, server := scope(t)
		work := db.store(t).Stage(writes("order", ordered))
		var late error
		_, _ = sc.Do(t.Context(), "k", request, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			if _, err := work(ctx, st); err != nil {
				t.Error(err)
			}
			if err := server.Client().FlushAll(ctx).Err(); err != nil {
				t.Error(err)
			}
			if _, err := server.Service(nil).Scope("shop").Do(ctx, "k", request, work); err != nil {
				t.Error(err)
			}
			_, late = work(ctx, st)
			return redisidem.Outcome{}, late
		})
		if !errors.Is(late, redisidem.ErrFenced) {
			t.Errorf("the older worker got %v", late)
		}
		db.wantRows(t, map[string]int{"order": 1})
	})
}

// TestVisitsBeyondTheJournalAreFound has a stage in SQL with more visits than the journal keeps. In
// the second run as many commits come before it.
func TestVisitsBeyondTheJournalAreFound(t *testing.T) {
	t.Parallel()
	db := open(t, sqlidem.SQLite)
	sc, _, server := scope(t)
	store := db.store(t)
	const many = 150
	runs, waits := 0, 0
	flow := newFlow(t,
		awaits(redisidem.Started, &waits, redisidem.Interim(redisidem.Started, redisidem.JSON(202, "wait"))),
		store.FlowStage(redisidem.FlowStage{Point: "pack", Next: []string{"pack", redisidem.Finished}},
			func(ctx context.Context, tx *sql.Tx, _ *redisidem.Stage) (redisidem.Outcome, error) {
				runs++
				if runs < many {
					return redisidem.Advance("pack"), insert(ctx, tx, fmt.Sprint(runs))
				}
				return ordered(), insert(ctx, tx, fmt.Sprint(runs))
			}, nil),
	)
	for _, waits = range []int{0, 90, 0} {
		revision := int64(waits + 1 + many)
		var key *redisidem.Key
		for range waits + 1 {
			var err error
			if key, err = sc.DoFlow(t.Context(), "k", request, flow); err != nil {
				t.Fatal(err)
			}
		}
		n := db.count(t, "SELECT COUNT(DISTINCT id) FROM work")
		if runs != many || n != many || key.Revision != revision {
			t.Errorf("%d runs, %d rows, revision %d, want %d visits and revision %d", runs, n, key.Revision, many, revision)
		}
		if err := server.Client().FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestVisitIsFoundAfterAFailoverAndManySnoozes loses the last commits of a record, which is then
// snoozed more often than its journal is long.
func TestVisitIsFoundAfterAFailoverAndManySnoozes(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, server := scope(t)
		store := db.store(t)
		waits := 1
		flow := newFlow(t,
			store.FlowStage(redisidem.FlowStage{Point: redisidem.Started}, writes("hold", redisidem.Next), undoes("release")),
			awaits("await", &waits, redisidem.Snooze(time.Second, redisidem.JSON(202, "wait")).UntilCalled()),
			store.FlowStage(redisidem.FlowStage{Point: "order"}, writes("order", ordered), nil),
		)
		call := calls(t, sc, flow)
		redis := server.Client()
		record := call().Record()
		back, err := redis.HGetAll(t.Context(), record).Result()
		if err != nil {
			t.Fatal(err)
		}
		want := string(call().Response.Body)
		if err := errors.Join(redis.Del(t.Context(), record).Err(), redis.HSet(t.Context(), record, back).Err()); err != nil {
			t.Fatal(err)
		}
		waits = 80
		for range waits {
			call()
		}
		if got := string(call().Response.Body); got != want {
			t.Errorf("the answer is %s, and was %s", got, want)
		}
		db.wantRows(t, map[string]int{"hold": 1, "order": 1})
	})
}
