package redisidem_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// soonDue makes the keys of a flow due so soon that completers scan in each turn.
func soonDue(c *redisidem.FlowConfig) { c.RecoverAfter = time.Millisecond }

// TestManyCompletersScanNoMoreOftenThanOne counts the scans of completers while no key is due.
func TestManyCompletersScanNoMoreOftenThanOne(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(soonDue))
		asked := func(processes int) int {
			before := b.scans()
			during, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			var wg sync.WaitGroup
			for range processes {
				completer := mustCompleter(b, b.service(redisidem.Config{}), flow)
				wg.Go(func() { mustBe(b, completer.Run(during), context.DeadlineExceeded) })
			}
			wg.Wait()
			return b.scans() - before
		}
		// A lone process pauses for 5 s on average, many take each turn after 3.75 s.
		if one, many := asked(1), asked(10); one < 5 || many > one*3/2 {
			b.Errorf("one process scanned %d times, ten scanned %d times", one, many)
		}
	})
}

// TestTurnOfADeadCompleterEnds stops the process that has the turn.
func TestTurnOfADeadCompleterEnds(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(soonDue))
		for range 2 {
			during, cancel := context.WithTimeout(ctx, time.Second)
			mustBe(b, mustCompleter(b, b.service(redisidem.Config{}), flow).Run(during), context.DeadlineExceeded)
			cancel()
		}
		before := b.scans()
		during, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		mustBe(b, mustCompleter(b, b.service(redisidem.Config{}), flow).Run(during), context.DeadlineExceeded)
		if b.scans() == before {
			b.Error("the next process did not scan within two intervals")
		}
	})
}

// TestLongTurnDoesNotSilenceACompleterWithAShorterOne has a completer with an interval of an hour
// that ends.
func TestLongTurnDoesNotSilenceACompleterWithAShorterOne(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(soonDue))
		scans := func(interval, during time.Duration) int {
			before := b.scans()
			ctx, cancel := context.WithTimeout(ctx, during)
			defer cancel()
			completer := mustCompleterWith(b, b.service(redisidem.Config{}), redisidem.CompleterConfig{Interval: interval}, flow)
			mustBe(b, completer.Run(ctx), context.DeadlineExceeded)
			return b.scans() - before
		}
		if scans(time.Hour, 300*time.Millisecond) != 1 {
			b.Fatal("the first completer did not scan")
		}
		if n := scans(50*time.Millisecond, time.Second); n < 10 {
			b.Errorf("a completer with a shorter interval scanned %d times within 20 intervals, want at least 10", n)
		}
		scans(time.Hour, 300*time.Millisecond)
		time.Sleep(15 * time.Second)
		if scans(time.Hour, 300*time.Millisecond) != 1 {
			b.Error("the turn of a completer that is gone was not over after 15 s")
		}
	})
}

// TestRestingFlowIsScannedWhenAKeyIsDue has completers that rest, and keys that become due in each
// way. Each must be found within two intervals.
func TestRestingFlowIsScannedWhenAKeyIsDue(t *testing.T) {
	for name, c := range map[string]struct {
		change func(c *redisidem.FlowConfig) // of the flow that the completers and the client have
		before func(b *bubble)               // runs while they rest
		adds   redisidem.StageFunc           // what the client's first run of the last stage does
		after  func(b *bubble, svc *redisidem.Service, completing *atomic.Bool)
	}{
		"a failed key":             {adds: fails(errStage)},
		"a key that fails at once": {adds: fails(errStage), change: func(c *redisidem.FlowConfig) { c.RecoverAfter = 7 * time.Second }},
		"an interim answer": {
			adds:   outcome(redisidem.Interim("paid", redisidem.JSON(202, "wait"))),
			change: func(c *redisidem.FlowConfig) { c.InterimFor, c.RecoverAfter = 20*time.Second, time.Hour },
		},
		"a lost memory": {adds: fails(errStage), before: func(b *bubble) { b.server.FlushAll() }},
		"a requeued key": {
			adds:   fails(errStage),
			change: func(c *redisidem.FlowConfig) { c.MaxAttempts = 1 },
			after: func(b *bubble, svc *redisidem.Service, completing *atomic.Bool) {
				time.Sleep(time.Minute) // it is a dead letter, and the flow rests again
				completing.Store(true)
				for key, err := range svc.DeadLetters(ctx, "cart") {
					mustBe(b, err, nil)
					mustBe(b, svc.Scope("a").Requeue(ctx, key), nil)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				var completing atomic.Bool
				completing.Store(c.after == nil)
				var began atomic.Bool
				flow := mustFlow(b, cart(recoverable, func(cfg *redisidem.FlowConfig) {
					if c.change != nil {
						c.change(cfg)
					}
					cfg.Stages[2].Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
						if !began.Swap(true) || !completing.Load() {
							return c.adds(ctx, st)
						}
						return redisidem.Next(), nil
					}
				}))
				during, cancel := context.WithCancel(ctx)
				var wg sync.WaitGroup
				for range 2 {
					completer := mustCompleter(b, b.service(redisidem.Config{}), flow)
					wg.Go(func() { mustBe(b, completer.Run(during), context.Canceled) })
				}
				time.Sleep(time.Minute)
				before := b.scans()
				time.Sleep(time.Minute)
				if looks := b.scans() - before; looks > 9 {
					b.Errorf("%d scans in a minute although nothing is due", looks)
				}
				for before = b.scans(); b.scans() == before; { // the key is added right after a scan
					time.Sleep(100 * time.Millisecond)
				}
				if c.before != nil {
					c.before(b)
				}
				svc := b.service(redisidem.Config{})
				if _, err := svc.Scope("a").DoFlow(ctx, "k", request, flow); err != nil {
					mustBe(b, err, errStage)
				}
				if c.after != nil {
					c.after(b, svc, &completing)
				}
				time.Sleep(time.Until(b.firstDue()) + 2*redisidem.DefaultInterval)
				key, err := svc.Scope("a").Retrieve(ctx, "k")
				mustBe(b, err, nil)
				if !key.Finished() {
					b.Errorf("two intervals after it was due, the key is %+v", key)
				}
				cancel()
				wg.Wait()
			})
		})
	}
}

// firstDue returns when the first key of the due indexes is due.
func (b *bubble) firstDue() time.Time {
	b.Helper()
	first := time.Time{}
	for _, k := range b.server.Keys() {
		if !strings.Contains(k, "}:due:") {
			continue
		}
		members, err := b.server.ZMembers(k)
		mustBe(b, err, nil)
		for _, member := range members { // SortedSet would return the server's own map
			score, err := b.server.ZScore(k, member)
			mustBe(b, err, nil)
			if at := time.UnixMilli(int64(score)); first.IsZero() || at.Before(first) {
				first = at
			}
		}
	}
	if first.IsZero() {
		b.Fatal("no key is in a due index")
	}
	return first
}

// TestRestOfAnOlderVersionDoesNotDelayANewerOne has the completer of a version with a long
// RecoverAfter beside one with a short one.
func TestRestOfAnOlderVersionDoesNotDelayANewerOne(t *testing.T) {
	inBubble(t, func(b *bubble) {
		old := mustFlow(b, cart(recoverable))
		young := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			var began atomic.Bool
			c.Version, c.RecoverAfter = 2, time.Second
			c.Stages[2].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if !began.Swap(true) {
					return redisidem.Outcome{}, errStage
				}
				return redisidem.Next(), nil
			}
		}))
		during, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		for _, flows := range [][]*redisidem.Flow{{old}, {old, young}} {
			completer := mustCompleter(b, b.service(redisidem.Config{}), flows...)
			wg.Go(func() { mustBe(b, completer.Run(during), context.Canceled) })
		}
		time.Sleep(time.Minute)
		svc := b.service(redisidem.Config{})
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, young)
		mustBe(b, err, errStage)
		// The completer of the old version may find the key first. It refuses the key, which is due
		// again later.
		finished := false
		for range 20 {
			due := b.firstDue()
			time.Sleep(time.Until(due) + 3*redisidem.DefaultInterval)
			key, err := svc.Scope("a").Retrieve(ctx, "k")
			mustBe(b, err, nil)
			if finished = key.Finished(); finished {
				break
			}
			if !b.firstDue().After(due) {
				b.Fatalf("no completer has found the key three intervals after it was due: %+v", key)
			}
		}
		if !finished {
			b.Error("the key was refused 20 times")
		}
		cancel()
		wg.Wait()
	})
}

// TestKeyThatWaitsCostsLittle has a flow at rest with a key that is due much later.
func TestKeyThatWaitsCostsLittle(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.InterimFor = time.Hour
			c.Stages[2].Work = outcome(redisidem.Interim("paid", redisidem.JSON(202, "wait")))
		}))
		svc := b.service(redisidem.Config{})
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		before := b.sent()
		during, cancel := context.WithTimeout(ctx, 10*time.Minute)
		defer cancel()
		mustBe(b, mustCompleter(b, svc, flow).Run(during), context.DeadlineExceeded)
		if n := b.sent() - before; n > 300 {
			b.Errorf("%d requests in ten minutes, want at most 300", n)
		}
	})
}

// TestCompleterScansWhenItsTurnsCannotBeAsked puts a key of another type in the place of the turns.
// A flow must then be scanned in each interval, and must never rest.
func TestCompleterScansWhenItsTurnsCannotBeAsked(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var began atomic.Bool
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[2].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if !began.Swap(true) {
					return redisidem.Outcome{}, errStage
				}
				return redisidem.Next(), nil
			}
		}))
		mustBe(b, b.server.Set(redisidem.DefaultNamespace+":turn:/flows", "x"), nil)
		svc := b.service(redisidem.Config{})
		during, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		completer := mustCompleter(b, b.service(redisidem.Config{}), flow)
		wg.Go(func() { mustBe(b, completer.Run(during), context.Canceled) })
		time.Sleep(time.Minute)
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		time.Sleep(time.Until(b.firstDue()) + 2*redisidem.DefaultInterval)
		key, err := svc.Scope("a").Retrieve(ctx, "k")
		mustBe(b, err, nil)
		if !key.Finished() {
			b.Errorf("two intervals after it was due, the key is %+v", key)
		}
		cancel()
		wg.Wait()
	})
}

// TestFlowDoesNotRestAfterAFailedScan has a due index that cannot be read, so that a scan does not
// know which keys are due next.
func TestFlowDoesNotRestAfterAFailedScan(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable))
		mustBe(b, b.server.Set(redisidem.DefaultNamespace+":{000}:due:cart", "x"), nil)
		during, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		completer := mustCompleter(b, b.service(redisidem.Config{}), flow)
		wg.Go(func() { mustBe(b, completer.Run(during), context.Canceled) })
		time.Sleep(time.Minute)
		before := b.scans()
		time.Sleep(time.Minute)
		if n := b.scans() - before; n < 8 {
			b.Errorf("%d scans in a minute of 12 intervals, want at least 8", n)
		}
		cancel()
		wg.Wait()
	})
}
