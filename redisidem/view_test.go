package redisidem_test

import (
	"context"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
)

// What a caller has read may be old in more than its revision.

func TestUpdateReturnsTheKeyAsItStands(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		view := start(t, sc, "k")
		lease, err := sc.Lock(ctx, "k")
		mustBe(t, err, nil)
		mustBe(t, lease.Abandon(ctx), nil) // an attempt that the view knows nothing of

		updated, err := sc.Update(ctx, view, redisidem.Advance("on"))
		mustBe(t, err, nil)
		stored, err := sc.Retrieve(ctx, "k")
		mustBe(t, err, nil)
		if updated.Attempts != 1 || updated.Attempts != stored.Attempts || !reflect.DeepEqual(updated.Journal, stored.Journal) {
			t.Errorf("updated to\n%+v, stored is\n%+v", updated, stored)
		}
		finished, err := sc.Update(ctx, updated, redisidem.Finish(redisidem.JSON(200, "by hand")))
		mustBe(t, err, nil)
		if !finished.Finished() || finished.Replayed() {
			t.Errorf("finished: %v, replayed: %v", finished.Finished(), finished.Replayed())
		}
	})
}

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

		// Same key, same request, same revision, and still another record.
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

// A key that was sent somewhere and came back is of one record, too.
func TestViewFromJSONRunsNothingOnTheSuccessor(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		text, err := json.Marshal(start(t, sc, "k"))
		mustBe(t, err, nil)
		view := new(redisidem.Key)
		mustBe(t, json.Unmarshal(text, view), nil)
		mustBe(t, sc.Delete(ctx, view), nil)
		second, err := sc.InitializeRequest(ctx, "k", redisidem.Request{Method: "POST", Path: "/another"})
		mustBe(t, err, nil)

		got, err := sc.WorkStage(ctx, view, never(t))
		mustBe(t, err, nil)
		if got.Path != "/another" || !got.CreatedAt.Equal(second.CreatedAt) {
			t.Errorf("got %+v", got)
		}
		_, err = sc.Update(ctx, view, redisidem.Advance("on"))
		mustBe(t, err, redisidem.ErrStale)
		mustBe(t, sc.Delete(ctx, view), nil) // the record that it is of is gone
		_, err = sc.Retrieve(ctx, "k")
		mustBe(t, err, nil)
	})
}

func TestDamagedRecordIsDeletedByItsName(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, raw := e.service().Scope("a"), e.client()
		key := start(t, sc, "k")
		record, _ := e.place(key)
		mustBe(t, raw.HSet(ctx, record, "control", "9 of another version").Err(), nil)
		_, err := sc.Retrieve(ctx, "k")
		mustBe(t, err, redisidem.ErrDamaged)
		mustBe(t, sc.Delete(ctx, &redisidem.Key{Value: "k", Scope: "a"}), nil)
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
				t.Errorf("it is attempt %d of a stage that never ran", st.Attempt())
			}
			return redisidem.Outcome{}, nil
		})
		mustBe(t, err, nil)
	})
}

// The same key on two servers is two keys.
func TestKeyOfAnotherServerIsNotNested(t *testing.T) {
	t.Parallel()
	cfg := redisidem.Config{Namespace: freshNamespace(), Timeout: 5 * time.Second}
	one := serviceOn(t, options(rediscase.Server(t).Addr(), 3), cfg).Scope("a")
	two := serviceOn(t, options(rediscase.Server(t).Addr(), 3), cfg).Scope("a")
	_, err := one.Do(ctx, "k", request, func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
		_, err := two.Do(ctx, "k", request, finish("there"))
		return redisidem.Outcome{}, err
	})
	mustBe(t, err, nil)
}
