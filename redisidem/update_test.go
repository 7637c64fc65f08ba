package redisidem_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestRefusedUpdateAndDeleteChangeNothing(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service(func(c *redisidem.Config) { c.Lease = time.Hour }).Scope("a") // which is not renewed in the meantime
		raw := e.client()
		missing := start(t, sc, "missing")
		mustBe(t, sc.Delete(ctx, missing), nil)
		finished := start(t, sc, "finished")
		_, err := sc.WorkStage(ctx, finished, finish("done"))
		mustBe(t, err, nil)
		known, err := sc.Retrieve(ctx, "finished")
		mustBe(t, err, nil)
		stale := start(t, sc, "stale")
		_, err = sc.Update(ctx, stale, redisidem.Advance("moved"))
		mustBe(t, err, nil)
		leased := start(t, sc, "leased")
		lease, err := sc.Lock(ctx, "leased")
		mustBe(t, err, nil)

		for _, c := range []struct {
			name           string
			key            *redisidem.Key
			update, delete error
		}{
			{"finished meanwhile", finished, redisidem.ErrFinished, redisidem.ErrStale},
			{"stale", stale, redisidem.ErrStale, redisidem.ErrStale},
			{"leased", leased, redisidem.ErrLocked, redisidem.ErrLocked},
		} {
			e.mustNotChange(raw, c.name, func() {
				if _, err := sc.Update(ctx, c.key, redisidem.Advance("new")); !errors.Is(err, c.update) {
					t.Errorf("%s: Update returns %v, want %v", c.name, err, c.update)
				}
				if err := sc.Delete(ctx, c.key); !errors.Is(err, c.delete) {
					t.Errorf("%s: Delete returns %v, want %v", c.name, err, c.delete)
				}
			})
		}
		e.mustNotChange(raw, "missing", func() {
			_, err := sc.Update(ctx, missing, redisidem.Advance("new"))
			mustBe(t, err, redisidem.ErrNotFound)
		})
		e.mustNotChange(raw, "known to be finished", func() {
			_, err := sc.Update(ctx, known, redisidem.Advance("new"))
			mustBe(t, err, redisidem.ErrFinished)
		})
		if err := lease.Abandon(ctx); err != nil {
			t.Error(err)
		}
		mustBe(t, sc.Delete(ctx, leased), nil)
		mustBe(t, sc.Delete(ctx, known), nil)
	})
}

func TestUpdateAndDeleteAreForTheRecordThatWasRead(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		old := start(t, sc, "k")
		mustBe(t, sc.Delete(ctx, old), nil)
		other := request
		other.Path = "/refund"
		_, err := sc.InitializeRequest(ctx, "k", other)
		mustBe(t, err, nil)
		_, err = sc.Update(ctx, old, redisidem.Finish(redisidem.JSON(200, "the first request's")))
		mustBe(t, err, redisidem.ErrStale)

		first, err := sc.Do(ctx, "d", request, finish("first"))
		mustBe(t, err, nil)
		mustBe(t, sc.Delete(ctx, first), nil)
		_, err = sc.Do(ctx, "d", request, finish("second"))
		mustBe(t, err, nil)
		mustBe(t, sc.Delete(ctx, first), nil) // the record that was read is gone already
		key, err := sc.Do(ctx, "d", request, never(t))
		mustBe(t, err, nil)
		if string(key.Response.Body) != `"second"` {
			t.Errorf("the second record answers %s", key.Response.Body)
		}
	})
}

func TestSeedM16UpdateNamesTheRevision(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		one, two := e.service().Scope("a"), e.service().Scope("a")
		seen := start(t, one, "k")
		_, err := two.Update(ctx, seen, redisidem.Advance("by two"))
		mustBe(t, err, nil)
		_, err = one.Update(ctx, seen, redisidem.Advance("by one"))
		mustBe(t, err, redisidem.ErrStale)
		fresh := start(t, one, "k")
		mustStandAt(t, fresh, "by two", 1)
		_, err = one.Update(ctx, fresh, redisidem.Advance("by one"))
		mustBe(t, err, nil)
		mustStandAt(t, start(t, two, "k"), "by one", 2)
	})
}

// TestUpdateReturnsTheKeyAsItStands updates with a key that was read before another attempt.
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
