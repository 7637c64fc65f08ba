package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestSeedM2OnlyOneRunsAStage(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		key := start(t, sc, "k")
		var runs atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				_, err := sc.WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					runs.Add(1)
					time.Sleep(20 * time.Millisecond)
					return redisidem.Outcome{}, nil
				})
				if err != nil && !errors.Is(err, redisidem.ErrLocked) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := runs.Load(); n != 1 {
			t.Errorf("the stage ran %d times, want 1", n)
		}
	})
}

func TestSeedM5NoLoopSpins(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		runs := 0
		_, err := drive(sc, "k", request, map[string]redisidem.StageFunc{
			redisidem.Started: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				runs++
				return redisidem.Advance(redisidem.Started), nil
			},
		})
		mustBe(t, err, redisidem.ErrNoProgress)
		if runs != 1 {
			t.Errorf("the stage ran %d times, want 1", runs)
		}
		_, err = drive(sc, "k", request, nil)
		mustBe(t, err, redisidem.ErrUnknownRecoveryPoint)
		e.mustBeTidy(e.client())
	})
}

func TestSeedM7ResponseIsStoredWheneverItIsGiven(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		r := redisidem.JSON(201, "given")
		for name, o := range map[string]redisidem.Outcome{
			"alone":         {Response: &r},
			"with finished": {RecoveryPoint: redisidem.Finished, Response: &r},
			"with a point":  {RecoveryPoint: "next", Response: &r},
			"interim":       redisidem.Interim("next", r),
		} {
			_, err := sc.Do(ctx, name, request, returns(o))
			mustBe(t, err, nil)
			key := start(t, sc, name)
			mustHold(t, key, `"given"`)
			if key.Response.Code != 201 || key.Response.Header["Content-Type"][0] != "application/json" {
				t.Errorf("%s: stored is %+v", name, key.Response)
			}
		}
	})
}

func TestSeedM18NoRecordNoCallback(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		key := start(t, sc, "k")
		mustBe(t, sc.Delete(ctx, key), nil)
		_, err := sc.WorkStage(ctx, key, never(t))
		mustBe(t, err, redisidem.ErrNotFound)
		_, err = sc.Lock(ctx, "k")
		mustBe(t, err, redisidem.ErrNotFound)
		if left := e.keys(e.client()); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestTrapS4StageThatReturnsItsOwnPointMakesNoProgress(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		for _, o := range []redisidem.Outcome{
			redisidem.Advance(redisidem.Started),
			redisidem.Advance(redisidem.Started).WithState("cursor"),
			{RecoveryPoint: redisidem.Started, Response: &redisidem.Response{Code: 200}},
		} {
			_, err := sc.Do(ctx, "k", request, returns(o))
			mustBe(t, err, redisidem.ErrNoProgress)
		}
		if key := start(t, sc, "k"); key.Revision != 0 || key.Attempts != 3 || key.Response != nil {
			t.Errorf("the key is %+v", key)
		}
		// A stage that stays gives an interim answer, which ends the loop of the caller.
		key, err := sc.Do(ctx, "k", request, returns(redisidem.Interim(redisidem.Started, redisidem.JSON(202, "later"))))
		mustBe(t, err, nil)
		if !key.Answered() {
			t.Error("the loop would go on")
		}
	})
}

func TestTrapS5TwoDriversCountEachStageOnce(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		points := []string{redisidem.Started, "one", "two", "three", redisidem.Finished}
		effects := make([]atomic.Int32, len(points)-1)
		stages := make(map[string]redisidem.StageFunc)
		for i, next := range points[1:] {
			stages[points[i]] = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				effects[i].Add(1)
				return redisidem.Advance(next), nil
			}
		}
		var wg sync.WaitGroup
		for range 2 {
			sc := e.service().Scope("a").Wait(20 * time.Second)
			wg.Go(func() {
				if key, err := drive(sc, "k", request, stages); err != nil || !key.Finished() {
					t.Errorf("the key is %+v, %v", key, err)
				}
			})
		}
		wg.Wait()
		for i := range effects {
			if n := effects[i].Load(); n != 1 {
				t.Errorf("the effect of %q happened %d times, want 1", points[i], n)
			}
		}
		if key := start(t, e.service().Scope("a"), "k"); key.Revision != 4 || len(key.Journal) != 4 {
			t.Errorf("revision %d, journal %+v", key.Revision, key.Journal)
		}
	})
}

func TestTrapS6RecordIsCheckedBeforeTheCallback(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, other := e.service().Scope("a"), e.service().Scope("a")
		gone, moved, finished := start(t, sc, "gone"), start(t, sc, "moved"), start(t, sc, "finished")
		mustBe(t, other.Delete(ctx, gone), nil)
		_, err := other.WorkStage(ctx, moved, returns(redisidem.Advance("next")))
		mustBe(t, err, nil)
		_, err = other.WorkStage(ctx, finished, finish("done"))
		mustBe(t, err, nil)

		_, err = sc.WorkStage(ctx, gone, never(t))
		mustBe(t, err, redisidem.ErrNotFound)
		key, err := sc.WorkStage(ctx, moved, never(t))
		mustBe(t, err, nil)
		mustStandAt(t, key, "next", 1)
		key, err = sc.WorkStage(ctx, finished, never(t))
		mustBe(t, err, nil)
		mustHold(t, key, `"done"`)
		e.mustBeTidy(e.client())
	})
}

// TestViewOfADeletedRecordRunsNothingOnItsSuccessor works with a key that was read before its
// record was deleted and made again.
func TestViewOfADeletedRecordRunsNothingOnItsSuccessor(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		to := func(point string) redisidem.StageFunc {
			return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Advance(point), nil
			}
		}
		view, err := sc.WorkStage(ctx, start(t, sc, "k"), to("paid"))
		mustBe(t, err, nil)
		mustBe(t, sc.Delete(ctx, view), nil)
		second, err := sc.WorkStage(ctx, start(t, sc, "k"), to("refused"))
		mustBe(t, err, nil)

		// It is another record with the same key, request and revision.
		got, err := sc.WorkStage(ctx, view, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			t.Errorf("ran from %q", st.Key().RecoveryPoint)
			return redisidem.Outcome{}, nil
		})
		mustBe(t, err, nil)
		if got.RecoveryPoint != "refused" || !got.CreatedAt.Equal(second.CreatedAt) {
			t.Errorf("got %+v", got)
		}
		mustBe(t, sc.Delete(ctx, got), nil)
		_, err = sc.Retrieve(ctx, "k")
		mustBe(t, err, redisidem.ErrNotFound)
	})
}

func TestDoOfAKeyAtAnotherPointCountsNoAttempt(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		key, err := sc.WorkStage(ctx, start(t, sc, "k"), outcome(redisidem.Advance("paid")))
		mustBe(t, err, nil)
		for range 2 {
			_, _, err = redisidem.Do(ctx, sc, "k", request, func(context.Context, *redisidem.Stage) (int, error) {
				t.Error("the work ran")
				return 0, nil
			})
			mustBe(t, err, redisidem.ErrUnknownRecoveryPoint)
		}
		_, err = sc.WorkStage(ctx, key, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			if st.Attempt() != 1 {
				t.Errorf("it is attempt %d of a stage that never ran, want 1", st.Attempt())
			}
			return redisidem.Outcome{}, nil
		})
		mustBe(t, err, nil)
	})
}

// TestStageThatLoopsKeepsItsSecondResult gives two interim answers at one recovery point, after
// kept commits that visited it before.
func TestStageThatLoopsKeepsItsSecondResult(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		start(t, sc, "k")
		lease, err := sc.Lock(ctx, "k")
		mustBe(t, err, nil)
		for i := range 3 {
			for _, point := range []string{"page", "check"} {
				_, held, err := lease.CommitKeep(ctx, redisidem.Advance(point).WithState(fmt.Sprint(point, i)))
				mustBe(t, err, nil)
				if !held {
					t.Fatal("not held")
				}
			}
		}
		_, err = lease.Commit(ctx, redisidem.Interim("check", redisidem.JSON(202, "first")))
		mustBe(t, err, nil)
		for _, text := range []string{"second", "third"} {
			key, err := sc.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				var state string
				if err := st.State(&state); err != nil || state != "check2" {
					t.Errorf("state is %q, %v", state, err)
				}
				return redisidem.Interim("check", redisidem.JSON(202, text)), nil
			})
			mustBe(t, err, nil)
			if !key.Answered() || key.Finished() {
				t.Errorf("key is %+v", key)
			}
			key = start(t, sc, "k")
			if string(key.Response.Body) != `"`+text+`"` || key.Answered() {
				t.Errorf("stored is %q", key.Response.Body)
			}
		}
		if key := start(t, sc, "k"); key.Revision != 9 || len(key.Journal) != 9 {
			t.Errorf("revision %d, journal %v", key.Revision, key.Journal)
		}
	})
}
