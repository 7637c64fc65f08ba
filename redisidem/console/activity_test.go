package console_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/console"
)

func TestActivityIsThatOfTheLastMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		activity := console.NewActivity()
		if got := activity.Shown(); got != "" {
			t.Errorf("before the first second: %q", got)
		}
		event := func(kind redisidem.EventKind, took time.Duration) {
			activity.Observe(t.Context(), redisidem.Event{Kind: kind, Duration: took})
		}
		const idle = "claimed 0 0.0 0s 0s\ncommitted 0 0.0 0s 0s\nreplayed 0 0.0 0s 0s\nrefused 0 0.0 0s 0s\n"
		event(redisidem.EventClaimed, 10*time.Millisecond)
		event(redisidem.EventClaimed, 30*time.Millisecond)
		event(redisidem.EventHung, time.Minute)
		event(0, 0)
		event(99, 0)
		time.Sleep(4 * time.Second)
		want := strings.Replace(idle, "claimed 0 0.0 0s 0s", "claimed 2 0.5 20ms 30ms", 1) + "hung 1 0.2 1m0s 1m0s\n"
		if got := activity.Shown(); got != want {
			t.Errorf("after four seconds:\n%s\nwant\n%s", got, want)
		}
		time.Sleep(57 * time.Second)
		if got := activity.Shown(); got != idle {
			t.Errorf("after a minute:\n%s\nwant\n%s", got, idle)
		}
		// The places of old seconds are used again.
		for range 200 {
			event(redisidem.EventReplayed, 0)
			time.Sleep(time.Second)
		}
		want = strings.Replace(idle, "replayed 0 0.0", "replayed 60 1.0", 1)
		if got := activity.Shown(); got != want {
			t.Errorf("with one in each second:\n%s\nwant\n%s", got, want)
		}
	})
}

// TestActivityIsOnTheOverview has a service whose events are counted.
func TestActivityIsOnTheOverview(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	activity := console.NewActivity()
	svc, err := redisidem.OpenUnchecked("redis://"+s.server.Addr(), &redisidem.Config{Timeout: 20 * time.Second, Observer: activity})
	s.must(err)
	t.Cleanup(func() { _ = svc.Close(context.Background()) })
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			_, _ = svc.Scope("active").Do(t.Context(), "order-1", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Finish(redisidem.JSON(200, "done")), nil
			})
		})
	}
	wg.Wait()
	mustLack(t, s.site().get("/", 200), "This process")
	c := s.site(func(cfg *console.Config) { cfg.Activity, cfg.Refresh = activity, 10*time.Millisecond })
	page := ""
	for end := time.Now().Add(20 * time.Second); !strings.Contains(page, "This process") && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		page = c.get("/", 200)
	}
	mustHave(t, page, "This process", "Leases per second", `<td data-label="Event">claimed</td><td data-label="Count" class="n">1</td>`, `<td data-label="Event">replayed</td>`)
}
