package redisidem_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/redisidem"
)

func TestWithRetentionKeepsRecordsForAnotherTime(t *testing.T) {
	onTwoServers(t, func(t *testing.T, e *env) {
		svc := e.service(func(c *redisidem.Config) { c.Retention, c.CacheBytes = time.Hour, 1<<20 })
		inspector := redisidem.NewInspector(svc)
		for value, retention := range map[string]time.Duration{"short": time.Minute, "usual": time.Hour, "long": 1000 * time.Hour} {
			view, err := svc.WithRetention(retention)
			mustBe(t, err, nil)
			if got := view.Config().Retention; got != retention || svc.Config().Retention != time.Hour {
				t.Errorf("%s: the retention is %v, and that of the service %v", value, got, svc.Config().Retention)
			}
			_, err = view.Scope("a").Do(ctx, value, request, outcome(redisidem.Finish(redisidem.Response{Code: 200})))
			mustBe(t, err, nil)
			info, err := inspector.Get(ctx, "a", value)
			mustBe(t, err, nil)
			if info.Life > retention+svc.Config().Lease || info.Life < retention-30*time.Second {
				t.Errorf("%s: the record lives for %v, want %v", value, info.Life, retention)
			}
			// It is the same record, and a replay does not change its life.
			key, err := svc.Scope("a").Do(ctx, value, request, never(t))
			mustBe(t, err, nil)
			after, err := inspector.Get(ctx, "a", value)
			mustBe(t, err, nil)
			if !key.Replayed() || after.Life > info.Life {
				t.Errorf("%s: replayed is %v, the record lives for %v, before for %v", value, key.Replayed(), after.Life, info.Life)
			}
		}
	})
}

// TestWithRetentionIsTheSameService uses a view inside of a stage of the service, and closes it.
func TestWithRetentionIsTheSameService(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	svc := serviceOn(t, options(server.Addr(), 3), redisidem.Config{Timeout: 5 * time.Second})
	view, err := svc.WithRetention(time.Hour)
	mustBe(t, err, nil)
	began, hold := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		_, err := svc.Scope("a").Do(ctx, "outer", request, func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
			close(began)
			<-hold
			_, err := view.Scope("a").Do(ctx, "inner", request, outcome(redisidem.Finish(redisidem.Response{Code: 200})))
			return redisidem.Finish(redisidem.Response{Code: 200}), err
		})
		ended <- err
	}()
	<-began
	if held := view.ProcessStats().LeasesHeld; held != 1 {
		t.Errorf("%d leases are held", held)
	}
	closed := make(chan error, 1)
	go func() { closed <- view.Close(ctx) }()
	until(t, "the service refuses work", func() bool {
		_, err := svc.Scope("a").Retrieve(ctx, "other")
		return errors.Is(err, redisidem.ErrClosed)
	})
	close(hold)
	mustBe(t, <-ended, nil) // Close waits for the stage, which may use other keys
	mustBe(t, <-closed, nil)
}

func TestWithRetentionRefusesBadTimes(t *testing.T) {
	t.Parallel()
	svc := serviceOn(t, options(miniredis.RunT(t).Addr(), 3), redisidem.Config{})
	for _, retention := range []time.Duration{-1, 0, time.Millisecond, redisidem.DefaultLease - 1, math.MaxInt64} {
		view, err := svc.WithRetention(retention)
		if view != nil {
			t.Errorf("%v is accepted", retention)
		}
		mustBeInvalid(t, err, "Config.Retention")
	}
}
