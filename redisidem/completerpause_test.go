package redisidem_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// runFor runs a completer for a time.
func (b *bubble) runFor(c *redisidem.Completer, d time.Duration) {
	b.Helper()
	during, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	mustBe(b, c.Run(during), context.DeadlineExceeded)
}

// broken makes the flow of a version whose third stage fails.
func broken(t testing.TB, version int) *redisidem.Flow {
	return mustFlow(t, cart(recoverable, func(c *redisidem.FlowConfig) {
		c.Version, c.Stages[2].Work = version, fails(errStage)
	}))
}

// working makes the flow of a version whose third stage counts its runs.
func working(t testing.TB, version int, runs *atomic.Int64) *redisidem.Flow {
	return mustFlow(t, cart(recoverable, func(c *redisidem.FlowConfig) {
		c.Version = version
		c.Stages[2].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			runs.Add(1)
			return redisidem.Next(), nil
		}
	}))
}

// TestCompletersLeaveAPausedFlowAlone pauses a flow for longer than its records live. All that
// waits must then be done, with the attempts that it had.
func TestCompletersLeaveAPausedFlowAlone(t *testing.T) {
	for _, paused := range []string{"cart", "cart/1"} {
		t.Run(paused, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				svc := b.service(redisidem.Config{})
				in := redisidem.NewInspector(svc)
				var runs atomic.Int64
				during, cancel := context.WithCancel(ctx)
				var wg sync.WaitGroup
				for range 2 {
					c := mustCompleterWith(b, b.service(redisidem.Config{}), redisidem.CompleterConfig{Interval: time.Minute}, working(b, 1, &runs))
					wg.Go(func() { mustBe(b, c.Run(during), context.Canceled) })
				}
				mustBe(b, in.Pause(ctx, paused, false, act), nil)
				time.Sleep(3 * time.Minute)
				_, err := svc.Scope("a").DoFlow(ctx, "k", request, broken(b, 1))
				mustBe(b, err, errStage)
				time.Sleep(3 * redisidem.DefaultRetention)
				if n := runs.Load(); n > 0 {
					b.Errorf("the stage of a paused flow ran %d times", n)
				}
				key, err := svc.Scope("a").Retrieve(ctx, "k")
				mustBe(b, err, nil)
				if key.Attempts != 1 || key.Finished() {
					b.Errorf("the key of a paused flow is %+v", key)
				}
				mustBe(b, in.Resume(ctx, paused, act), nil)
				time.Sleep(5 * time.Minute)
				key, err = svc.Scope("a").Retrieve(ctx, "k")
				mustBe(b, err, nil)
				if !key.Finished() || key.Attempts != 2 || runs.Load() != 1 {
					b.Errorf("five minutes after the resume, the stage has run %d times, and the key is %+v", runs.Load(), key)
				}
				cancel()
				wg.Wait()
			})
		})
	}
}

// TestOtherVersionsOfAFlowGoOn pauses each of two versions, and one that the completer does not
// have.
func TestOtherVersionsOfAFlowGoOn(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		in := redisidem.NewInspector(svc)
		var runs [3]atomic.Int64
		for version, value := range []string{"k1", "k2", "k3"} {
			_, err := svc.Scope("a").DoFlow(ctx, value, request, broken(b, version+1))
			mustBe(b, err, errStage)
		}
		completer := mustCompleter(b, svc, working(b, 1, &runs[0]), working(b, 2, &runs[1]))
		mustBe(b, in.Pause(ctx, "cart/2", false, act), nil)
		mustBe(b, in.Pause(ctx, "cart/3", false, act), nil)
		b.runFor(completer, 10*time.Minute)
		if runs[0].Load() != 1 || runs[1].Load() != 0 {
			b.Errorf("the versions ran %d and %d times, want 1 and 0", runs[0].Load(), runs[1].Load())
		}
		time.Sleep(time.Hour)
		mustBe(b, in.Resume(ctx, "cart/2", act), nil)
		b.runFor(completer, 2*time.Minute)
		if runs[1].Load() != 1 {
			b.Errorf("the version that was resumed ran %d times, want once", runs[1].Load())
		}
		// A version without a program costs its keys a refusal each time; while it is paused, none.
		key, err := svc.Scope("a").Retrieve(ctx, "k3")
		mustBe(b, err, nil)
		if key.DeadLetter != nil || key.Attempts != 1 {
			b.Errorf("the key of the other paused version is %+v", key)
		}
	})
}

// TestPauseStopsAScan pauses a flow while its keys wait for a worker. Only the run that has begun
// may end.
func TestPauseStopsAScan(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		for _, value := range []string{"k", "l", "m", "n"} {
			_, err := svc.Scope("a").DoFlow(ctx, value, request, broken(b, 1))
			mustBe(b, err, errStage)
		}
		time.Sleep(time.Minute)
		var runs atomic.Int64
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[2].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				runs.Add(1)
				time.Sleep(30 * time.Second)
				return redisidem.Next(), nil
			}
		}))
		during, cancel := context.WithCancel(ctx)
		completer := mustCompleterWith(b, svc, redisidem.CompleterConfig{Concurrency: 1}, flow)
		var wg sync.WaitGroup
		wg.Go(func() { mustBe(b, completer.Run(during), context.Canceled) })
		time.Sleep(10 * time.Second)
		mustBe(b, redisidem.NewInspector(svc).Pause(ctx, "cart", false, act), nil)
		time.Sleep(10 * time.Minute)
		if n := runs.Load(); n != 1 {
			b.Errorf("%d runs, want only the one that had begun before the pause", n)
		}
		cancel()
		wg.Wait()
	})
}

// TestPausedFlowCostsItsTurn counts the requests of a completer whose flow has a due key.
func TestPausedFlowCostsItsTurn(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, broken(b, 1))
		mustBe(b, err, errStage)
		mustBe(b, redisidem.NewInspector(svc).Pause(ctx, "cart", false, act), nil)
		time.Sleep(time.Hour)
		before := b.sent()
		b.runFor(mustCompleter(b, svc, broken(b, 1)), 10*time.Minute)
		// A turn in each interval of 5 s, and the first look at the keys that must not expire.
		if n := b.sent() - before; n > 120+30 {
			b.Errorf("%d requests in 120 intervals, want at most 150", n)
		}
	})
}

func TestSweepLeavesAPausedFlowAlone(t *testing.T) {
	onTwoServers(t, func(t *testing.T, e *env) {
		svc := e.service()
		in := redisidem.NewInspector(svc)
		soon := func(c *redisidem.FlowConfig) { c.RecoverAfter = time.Millisecond }
		failing := mustFlow(t, cart(soon, func(c *redisidem.FlowConfig) { c.Stages[2].Work = fails(errStage) }))
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, failing)
		mustBe(t, err, errStage)
		completer := mustCompleter(t, svc, mustFlow(t, cart(soon)))
		for _, paused := range []string{"cart", "cart/1"} {
			mustBe(t, in.Pause(ctx, paused, false, act), nil)
			mustSweep(t, completer, redisidem.SweepResult{})
			mustBe(t, in.Resume(ctx, paused, act), nil)
		}
		for range 1000 { // the key becomes due within milliseconds
			r, err := completer.Sweep(ctx)
			mustBe(t, err, nil)
			if r.Finished == 1 {
				return
			}
		}
		t.Error("the key is not finished after the resume")
	})
}

// TestPausesStayKnownWithoutRedis has turns that cannot be asked after a pause was seen.
func TestPausesStayKnownWithoutRedis(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, broken(b, 1))
		mustBe(b, err, errStage)
		mustBe(b, redisidem.NewInspector(svc).Pause(ctx, "cart", false, act), nil)
		var runs atomic.Int64
		during, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		completer := mustCompleter(b, svc, working(b, 1, &runs))
		wg.Go(func() { mustBe(b, completer.Run(during), context.Canceled) })
		time.Sleep(10 * time.Second)
		turns := redisidem.DefaultNamespace + ":turn:/flows"
		b.server.Del(turns)
		mustBe(b, b.server.Set(turns, "x"), nil)
		time.Sleep(10 * time.Minute)
		if n := runs.Load(); n != 0 {
			b.Errorf("%d runs although the pause is the last that is known", n)
		}
		b.server.Del(turns)
		time.Sleep(time.Minute)
		if n := runs.Load(); n != 1 {
			b.Errorf("%d runs after the pause was lost, want 1", n)
		}
		cancel()
		wg.Wait()
	})
}

// TestCompleterThatStartsAfterAResumeDoesNotCountThePause has another completer, which ends with
// the pause and has kept the keys from expiring.
func TestCompleterThatStartsAfterAResumeDoesNotCountThePause(t *testing.T) {
	for name, work := range map[string]redisidem.StageFunc{
		"failed": fails(errStage), "interim": outcome(redisidem.Interim("paid", redisidem.JSON(202, "confirm"))),
	} {
		for _, paused := range []string{"cart", "cart/1"} {
			t.Run(name+" "+paused, func(t *testing.T) {
				inBubble(t, func(b *bubble) {
					svc := b.service(redisidem.Config{})
					in := redisidem.NewInspector(svc)
					first := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) { c.Stages[2].Work = work }))
					_, _ = svc.Scope("a").DoFlow(ctx, "k", request, first)
					mustBe(b, in.Pause(ctx, paused, false, act), nil)
					b.runFor(mustCompleterWith(b, svc, redisidem.CompleterConfig{Interval: time.Minute}, first), 96*time.Hour)
					mustBe(b, in.Resume(ctx, paused, act), nil)
					var runs atomic.Int64
					mustSweep(b, mustCompleter(b, b.service(redisidem.Config{}), working(b, 1, &runs)), redisidem.SweepResult{Due: 1, Finished: 1})
				})
			})
		}
	}
}
