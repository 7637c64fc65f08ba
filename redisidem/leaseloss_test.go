package redisidem_test

import (
	"context"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestWatchdogCancelsTheStageAtNineTenthsOfTheLease(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{Lease: 10 * time.Second}).Scope("a")
		key := start(b, sc, "k")
		began := time.Now()
		_, err := sc.WorkStage(ctx, key, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			b.freeze()
			<-ctx.Done()
			mustBe(b, context.Cause(ctx), redisidem.ErrLeaseLost)
			if took := time.Since(began); took != 9*time.Second {
				b.Errorf("cancelled after %v, want 9s", took)
			}
			return redisidem.Outcome{}, ctx.Err()
		})
		mustBe(b, err, redisidem.ErrLeaseLost)
		b.thaw()
	})
}

func TestSilenceForHalfALeaseDoesNotCancelTheStage(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{Lease: 10 * time.Second}).Scope("a")
		key := start(b, sc, "k")
		key, err := sc.WorkStage(ctx, key, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			time.Sleep(time.Second)
			b.freeze()
			time.Sleep(5 * time.Second)
			b.thaw()
			time.Sleep(time.Minute)
			return redisidem.Outcome{}, context.Cause(ctx)
		})
		mustBe(b, err, nil)
		if !key.Finished() {
			b.Error("not finished")
		}
	})
}

func TestTrapL13SilenceIsNotLoss(t *testing.T) {
	inBubble(t, func(b *bubble) {
		lease := locked(b, b.service(redisidem.Config{}).Scope("a"), "k")
		work := lease.Context()
		b.freeze()
		time.Sleep(redisidem.DefaultLease / 2)
		b.thaw()
		time.Sleep(redisidem.DefaultLease)
		if work.Err() != nil {
			b.Fatalf("cancelled after half a lease of silence: %v", context.Cause(work))
		}
		b.freeze()
		<-work.Done()
		mustBe(b, context.Cause(work), redisidem.ErrLeaseLost)
		if b.server.TTL(b.lock()) <= 0 {
			b.Error("another owner could have started before the context was cancelled")
		}
		b.thaw()
		_ = lease.Abandon(ctx)
	})
}
