package redisidem_test

import (
	"context"
	"sync"
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
			before := b.looks
			during, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			var wg sync.WaitGroup
			for range processes {
				completer := mustCompleter(b, b.service(redisidem.Config{}), flow)
				wg.Go(func() { mustBe(b, completer.Run(during), context.DeadlineExceeded) })
			}
			wg.Wait()
			return b.looks - before
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
		before := b.looks
		during, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		mustBe(b, mustCompleter(b, b.service(redisidem.Config{}), flow).Run(during), context.DeadlineExceeded)
		if b.looks == before {
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
			before := b.looks
			ctx, cancel := context.WithTimeout(ctx, during)
			defer cancel()
			completer := mustCompleterWith(b, b.service(redisidem.Config{}), redisidem.CompleterConfig{Interval: interval}, flow)
			mustBe(b, completer.Run(ctx), context.DeadlineExceeded)
			return b.looks - before
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
