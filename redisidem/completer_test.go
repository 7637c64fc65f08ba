package redisidem_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// recoverable makes the keys of a flow recoverable.
func recoverable(c *redisidem.FlowConfig) { c.RecoverAfter = 30 * time.Second }

func mustCompleter(t testing.TB, svc *redisidem.Service, flows ...*redisidem.Flow) *redisidem.Completer {
	t.Helper()
	return mustCompleterWith(t, svc, redisidem.CompleterConfig{}, flows...)
}

func mustCompleterWith(
	t testing.TB, svc *redisidem.Service, cfg redisidem.CompleterConfig, flows ...*redisidem.Flow,
) *redisidem.Completer {
	t.Helper()
	c, err := redisidem.NewCompleter(svc, flows, &cfg)
	mustBe(t, err, nil)
	return c
}

// mustSweep sweeps once and compares the result.
func mustSweep(t testing.TB, c *redisidem.Completer, want redisidem.SweepResult) {
	t.Helper()
	got, err := c.Sweep(ctx)
	mustBe(t, err, nil)
	if got != want {
		t.Errorf("the sweep did %+v, want %+v", got, want)
	}
}

func TestCompleterFinishesWhatADeadProcessBegan(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var runs []string
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[2].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				runs = append(runs, fmt.Sprint(st.Key().Scope, st.Key().Value, string(st.Key().Params)))
				if len(runs) == 1 {
					b.freeze() // the process dies: nothing of it arrives any more
				}
				return redisidem.Next(), nil
			}
		}))
		dead := b.service(redisidem.Config{CommitRetry: -1})
		_, err := dead.Scope("tenant").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, redisidem.ErrOutcomeUnknown)
		b.thaw()

		svc := b.service(redisidem.Config{})
		completer := mustCompleter(b, svc, flow)
		mustSweep(b, completer, redisidem.SweepResult{}) // not yet
		time.Sleep(35 * time.Second)
		mustSweep(b, completer, redisidem.SweepResult{}) // the lease of 10 s comes first
		time.Sleep(15 * time.Second)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, Finished: 1})
		if want := []string{`tenantk{"cart":1}`, `tenantk{"cart":1}`}; !slices.Equal(runs, want) {
			b.Errorf("ran %q, want %q", runs, want)
		}
		key, err := svc.Scope("tenant").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		if !key.Replayed() || len(key.Journal) != 4 || key.Journal[2].Attempt != 2 {
			b.Errorf("the key is %+v", key)
		}
		if b.indexed("due") != 0 {
			b.Error("the due index holds a finished key")
		}
	})
}

// indexed returns how many keys the indexes of a kind hold: due or dead.
func (b *bubble) indexed(kind string) (n int) {
	for _, k := range b.server.Keys() {
		if strings.Contains(k, "}:"+kind+":") {
			members, err := b.server.ZMembers(k)
			mustBe(b, err, nil)
			n += len(members)
		}
	}
	return n
}

func TestCompleterOutlivesAPanicAndAnOutage(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var fault atomic.Value
		fault.Store("error")
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				switch fault.Load() {
				case "error":
					return redisidem.Outcome{}, errStage
				case "panic":
					panic("boom")
				case "hang":
					<-ctx.Done()
					return redisidem.Outcome{}, context.Cause(ctx)
				}
				return redisidem.Next(), nil
			}
		}))
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		fault.Store("panic")

		run, stop := context.WithCancel(ctx)
		ended := make(chan error)
		go func() { ended <- mustCompleter(b, svc, flow).Run(run) }()
		time.Sleep(time.Minute)
		b.freeze()
		time.Sleep(time.Minute)
		b.thaw()
		time.Sleep(time.Minute)
		fault.Store("")
		time.Sleep(10 * time.Minute)
		key, err := sc.Retrieve(ctx, "k")
		mustBe(b, err, nil)
		if !key.Finished() || key.Journal[1].Attempt < 2 {
			b.Errorf("the key is %+v", key)
		}

		// The end of its context reaches the stages after Drain.
		fault.Store("error")
		_, err = sc.DoFlow(ctx, "hanging", request, flow)
		mustBe(b, err, errStage)
		fault.Store("hang")
		time.Sleep(2 * time.Minute)
		stop()
		time.Sleep(redisidem.DefaultDrain)
		synctest.Wait()
		select {
		case err := <-ended:
			mustBe(b, err, context.Canceled)
		default:
			b.Error("the completer still runs")
		}
		key, err = sc.Retrieve(ctx, "hanging")
		mustBe(b, err, nil)
		if key.LockedAt != (time.Time{}) {
			b.Error("the key is still locked")
		}
	})
}

func TestClosedServiceEndsItsCompleter(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		completer := mustCompleter(b, svc, mustFlow(b, cart(recoverable)))
		ended := make(chan error, 1)
		go func() { ended <- completer.Run(ctx) }()
		time.Sleep(time.Minute)
		mustBe(b, svc.Close(ctx), nil)
		time.Sleep(time.Minute)
		mustBe(b, <-ended, redisidem.ErrClosed)
		_, err := completer.Sweep(ctx)
		mustBe(b, err, redisidem.ErrClosed)
	})
}

// TestShutdownOfACompleterLetsStagesEnd ends a completer in each way, with a stage that is done
// within Drain and with one that is not.
func TestShutdownOfACompleterLetsStagesEnd(t *testing.T) {
	for name, closes := range map[string]bool{"its context ends": false, "the service is closed": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				client, begun := true, make(chan struct{}, 8)
				var causes atomic.Int64
				flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
					c.RecoverAfter, c.MaxAttempts = time.Millisecond, 3
					c.Stages[0].Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
						if client {
							return redisidem.Outcome{}, errStage
						}
						begun <- struct{}{}
						takes := 5 * time.Second
						if st.Key().Value == "long" {
							takes = time.Hour
						}
						select {
						case <-time.After(takes):
							return redisidem.Next(), nil
						case <-ctx.Done():
							causes.Add(1)
							return redisidem.Outcome{}, ctx.Err()
						}
					}
				}))
				look := b.service(redisidem.Config{}).Scope("a")
				for _, value := range []string{"short", "long"} {
					_, err := look.DoFlow(ctx, value, request, flow)
					mustBe(b, err, errStage)
				}
				client = false
				const shutdowns = 5
				for n := range shutdowns {
					time.Sleep(time.Hour)
					svc := b.service(redisidem.Config{MaxHold: -1})
					completer := mustCompleterWith(b, svc, redisidem.CompleterConfig{Drain: 10 * time.Second}, flow)
					during, cancel := context.WithCancel(ctx)
					ended := make(chan error)
					go func() { ended <- completer.Run(during) }()
					<-begun
					if n == 0 {
						<-begun
					}
					began := time.Now()
					want := context.Canceled
					if closes {
						want = redisidem.ErrClosed
						go func() { _ = svc.Close(ctx) }()
					} else {
						cancel()
					}
					err := <-ended
					cancel()
					mustBe(b, err, want)
					if text := err.Error(); text != want.Error() {
						b.Errorf("it ends with %q, want %q", text, want)
					}
					if took := time.Since(began); took < 9*time.Second || took > 12*time.Second {
						b.Errorf("it took %v to end, want about 10 s", took)
					}
				}
				if causes.Load() != shutdowns {
					b.Errorf("%d stages were cancelled, want %d", causes.Load(), shutdowns)
				}
				short, err := look.Retrieve(ctx, "short")
				mustBe(b, err, nil)
				long, err := look.Retrieve(ctx, "long")
				mustBe(b, err, nil)
				if !short.Finished() || long.DeadLetter != nil || long.Attempts != 1+shutdowns {
					b.Errorf("the short one is at %q, the long one %+v after %d attempts", short.RecoveryPoint, long.DeadLetter, long.Attempts)
				}
			})
		})
	}
}
