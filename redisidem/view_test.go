package redisidem_test

import (
	"context"
	"reflect"
	"testing"

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
