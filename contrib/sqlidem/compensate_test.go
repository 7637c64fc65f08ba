package sqlidem_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/idemtest"
)

// afterRetention lets the records of finished keys expire, and returns the scope of another
// process, which has no copies of them.
func afterRetention(server *idemtest.Server) *redisidem.Scope {
	server.FastForward(redisidem.DefaultRetention + redisidem.DefaultLease)
	return server.Service(nil).Scope("shop")
}

// TestUndoneVisitRunsAgainForTheNextRecord ends a flow in each way in which a stage in SQL is
// undone. The next record of the key comes after the retention, or after a loss, and gets to the
// end: its order needs the hold.
func TestUndoneVisitRunsAgainForTheNextRecord(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, server := scope(t)
		store := db.store(t)
		const deadline = time.Hour
		for name, end := range map[string]struct {
			card  func() redisidem.Outcome
			after func(key string) error // the first call
			next  func() error           // it ends the record
		}{
			"declined": {card: func() redisidem.Outcome { return redisidem.Fail(redisidem.JSON(402, "declined")) }},
			"canceled": {after: func(key string) error { return sc.Cancel(t.Context(), key) }},
			"deadline": {after: func(string) error { server.FastForward(deadline); return nil }},
			"lost": {
				card: func() redisidem.Outcome { return redisidem.Fail(redisidem.JSON(402, "declined")) },
				next: func() error {
					sc = server.Service(nil).Scope("shop")
					return server.Client().FlushAll(t.Context()).Err()
				},
			},
		} {
			card := end.card
			if card == nil {
				card = func() redisidem.Outcome { return redisidem.Interim("card", redisidem.JSON(202, "wait")) }
			}
			flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "f", Version: 1, Deadline: deadline, Stages: []redisidem.FlowStage{
				store.FlowStage(redisidem.FlowStage{Point: redisidem.Started}, writes("hold "+name, redisidem.Next), undoes("release "+name)),
				{Point: "card", Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return card(), nil }},
				store.FlowStage(redisidem.FlowStage{Point: "order"}, writes("order "+name, ordered), nil),
			}})
			if err != nil {
				t.Fatal(err)
			}
			call := func(want string) {
				t.Helper()
				key, err := sc.DoFlow(t.Context(), name, request, flow)
				if err != nil {
					t.Fatal(name, err)
				}
				if got := fmt.Sprint(key.Response.Code); got != want {
					t.Errorf("%s: the answer is %s, want %s", name, got, want)
				}
			}
			if end.after == nil {
				call("402")
			} else {
				call("202")
				if err := end.after(name); err != nil {
					t.Fatal(err)
				}
				call(map[string]string{"canceled": "409", "deadline": "504"}[name])
			}
			db.wantRows(t, map[string]int{"hold " + name: 1, "release " + name: 1})
			if end.next == nil {
				end.next = func() error { sc = afterRetention(server); return nil }
			}
			card = redisidem.Next
			for range 2 { // the third record finds the rows of the second one
				if err := end.next(); err != nil {
					t.Fatal(err)
				}
				call("201")
				db.wantRows(t, map[string]int{"hold " + name: 2, "release " + name: 1, "order " + name: 1})
			}
		}
	})
}

// TestPartlyUndoneFlowRepeatsWhatWasUndone loses the record between two undos, each of which was
// committed to the database before its process died.
func TestPartlyUndoneFlowRepeatsWhatWasUndone(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, server := scope(t)
		store := db.store(t)
		died := errors.New("the process died")
		dies := map[string]bool{}
		stage := func(point string) redisidem.FlowStage {
			s := store.FlowStage(redisidem.FlowStage{Point: point}, writes(point, redisidem.Next), undoes("undo "+point))
			undo := s.Compensate
			s.Compensate = func(ctx context.Context, st *redisidem.Stage) error {
				if err := undo(ctx, st); err != nil || !dies[point] {
					return err
				}
				dies[point] = false
				return died
			}
			return s
		}
		end := func() redisidem.Outcome { return redisidem.Fail(redisidem.JSON(402, "declined")) }
		flow := newFlow(t, stage(redisidem.Started), stage("two"), redisidem.FlowStage{
			Point: "card", Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return end(), nil },
		})
		call := func() (*redisidem.Key, error) { return sc.DoFlow(t.Context(), "k", request, flow) }

		dies["two"] = true
		if _, err := call(); !errors.Is(err, died) {
			t.Fatal(err)
		}
		if err := server.Client().FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		dies["two"], dies[redisidem.Started] = true, true
		for range 2 {
			if _, err := call(); !errors.Is(err, died) {
				t.Fatal(err)
			}
		}
		if key, err := call(); err != nil || key.Response.Code != 402 {
			t.Fatalf("%+v, %v", key, err)
		}
		db.wantRows(t, map[string]int{redisidem.Started: 1, "undo started": 1, "two": 2, "undo two": 2})

		sc = afterRetention(server)
		end = ordered
		if key, err := call(); err != nil || key.Response.Code != 201 {
			t.Fatalf("%+v, %v", key, err)
		}
		db.wantRows(t, map[string]int{redisidem.Started: 2, "undo started": 1, "two": 3, "undo two": 2})
	})
}

// TestUndoneVisitRunsAgainAfterAFailover sets a record back that has undone a stage, as a replica
// does that has not got the last commits. The flow takes the same path again: the undo of the same
// revision belongs to another visit then.
func TestUndoneVisitRunsAgainAfterAFailover(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, server := scope(t)
		store := db.store(t)
		waits := 1
		flow := newFlow(t,
			awaits(redisidem.Started, &waits, redisidem.Interim(redisidem.Started, redisidem.JSON(202, "wait"))),
			store.FlowStage(redisidem.FlowStage{Point: "hold"}, writes("hold", redisidem.Next), undoes("release")),
			redisidem.FlowStage{Point: "card", Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Fail(redisidem.JSON(402, "declined")), nil
			}},
		)
		call := calls(t, sc, flow)
		redis, record := server.Client(), call().Record()
		back, err := redis.HGetAll(t.Context(), record).Result()
		if err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= 3; n++ {
			if key := call(); key.Response.Code != 402 {
				t.Fatalf("the answer is %d", key.Response.Code)
			}
			db.wantRows(t, map[string]int{"hold": n, "release": n})
			if err := errors.Join(redis.Del(t.Context(), record).Err(), redis.HSet(t.Context(), record, back).Err()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestReconcileDoesNotFindAnUndoneVisit cancels the next record of a key while an attempt is open
// that has begun no transaction.
func TestReconcileDoesNotFindAnUndoneVisit(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, server := scope(t)
		died := errors.New("the process died")
		dies := false
		hold := db.store(t).FlowStage(redisidem.FlowStage{Point: redisidem.Started}, writes("hold", redisidem.Next), undoes("release"))
		work, reconcile := hold.Work, hold.Reconcile
		hold.Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			if dies {
				return redisidem.Outcome{}, died
			}
			return work(ctx, st)
		}
		var reconciled error
		hold.Reconcile = func(ctx context.Context, st *redisidem.Stage) (o redisidem.Outcome, err error) {
			o, reconciled = reconcile(ctx, st)
			return o, reconciled
		}
		flow := newFlow(t, hold, redisidem.FlowStage{Point: "card", Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Fail(redisidem.JSON(402, "declined")), nil
		}})
		call := func() error {
			_, err := sc.DoFlow(t.Context(), "k", request, flow)
			return err
		}
		if err := call(); err != nil {
			t.Fatal(err)
		}
		sc = afterRetention(server)
		dies = true
		if err := call(); !errors.Is(err, died) {
			t.Fatal(err)
		}
		if err := errors.Join(sc.Cancel(t.Context(), "k"), call()); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(reconciled, redisidem.ErrNothingDone) {
			t.Errorf("Reconcile returned %v", reconciled)
		}
		db.wantRows(t, map[string]int{"hold": 1, "release": 1})
	})
}

// TestUndoOfWorkOutsideRunsForEachRecord has a stage whose work is not in SQL, but its undo is.
// Each record does the work, so each one undoes it.
func TestUndoOfWorkOutsideRunsForEachRecord(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, server := scope(t)
		store := db.store(t)
		died := errors.New("the process died")
		dies := true
		refund := store.Compensate(undoes("refund"))
		flow := newFlow(t,
			redisidem.FlowStage{
				Point: redisidem.Started, Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return redisidem.Next(), nil },
				Compensate: func(ctx context.Context, st *redisidem.Stage) error {
					err := refund(ctx, st)
					if dies {
						err = errors.Join(err, died)
					}
					return err
				},
			},
			redisidem.FlowStage{Point: "card", Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Fail(redisidem.JSON(402, "declined")), nil
			}},
		)
		for n := 1; n <= 2; n++ {
			dies = true
			if _, err := sc.DoFlow(t.Context(), "k", request, flow); !errors.Is(err, died) {
				t.Fatal(err)
			}
			dies = false
			if _, err := sc.DoFlow(t.Context(), "k", request, flow); err != nil {
				t.Fatal(err)
			}
			db.wantRows(t, map[string]int{"refund": n})
			sc = afterRetention(server)
		}
	})
}

// TestOlderUndoIsRefusedAfterALoss has a worker that is stopped before it undoes a stage. Redis
// then loses the record, and the next one finds the stage done.
func TestOlderUndoIsRefusedAfterALoss(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, server := scope(t)
		store := db.store(t)
		end := func() redisidem.Outcome { return redisidem.Fail(redisidem.JSON(402, "declined")) }
		hold := store.FlowStage(redisidem.FlowStage{Point: redisidem.Started}, writes("hold", redisidem.Next), undoes("release"))
		undo := hold.Compensate
		var flow *redisidem.Flow
		var late error
		hold.Compensate = func(ctx context.Context, st *redisidem.Stage) error {
			end = ordered
			if err := server.Client().FlushAll(ctx).Err(); err != nil {
				t.Error(err)
			}
			if key, err := server.Service(nil).Scope("shop").DoFlow(ctx, "k", request, flow); err != nil || key.Response.Code != 201 {
				t.Errorf("the next record ended with %+v, %v", key, err)
			}
			late = undo(ctx, st)
			return late
		}
		flow = newFlow(t, hold, redisidem.FlowStage{
			Point: "card", Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return end(), nil },
		})
		_, _ = sc.DoFlow(t.Context(), "k", request, flow)
		if !errors.Is(late, redisidem.ErrFenced) {
			t.Errorf("the older undo got %v", late)
		}
		db.wantRows(t, map[string]int{"hold": 1, "release": 0})
	})
}
