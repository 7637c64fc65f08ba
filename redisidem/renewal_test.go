package redisidem_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestLeaseIsRenewedAtAThird(t *testing.T) {
	inBubble(t, func(b *bubble) {
		rec := &recorder{}
		sc := b.service(redisidem.Config{Lease: 9 * time.Second, Observer: rec}).Scope("a")
		key := start(b, sc, "k")
		_, err := sc.WorkStage(ctx, key, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			time.Sleep(30*time.Second + 10*time.Millisecond)
			return redisidem.Outcome{}, ctx.Err()
		})
		mustBe(b, err, nil)
		if got := rec.count(redisidem.EventRenewed); got != 10 {
			b.Errorf("renewed %d times in 30 s, want 10", got)
		}
	})
}

func TestShortStageStartsNoRenewal(t *testing.T) {
	inBubble(t, func(b *bubble) {
		rec := &recorder{}
		sc := b.service(redisidem.Config{Lease: 9 * time.Second, Observer: rec}).Scope("a")
		_, err := sc.WorkStage(ctx, start(b, sc, "k"), func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			time.Sleep(2900 * time.Millisecond)
			return redisidem.Outcome{}, nil
		})
		mustBe(b, err, nil)
		time.Sleep(time.Minute)
		if got := rec.count(redisidem.EventRenewed); got != 0 {
			b.Errorf("renewed %d times, want 0", got)
		}
	})
}

func TestMaxHoldEndsALeaseThatHangs(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := redisidem.Config{Lease: 10 * time.Second, MaxHold: 47 * time.Second}
		sc, other := b.service(cfg).Scope("a"), b.service(cfg).Scope("a")
		key := start(b, sc, "k")
		began := time.Now()
		_, err := sc.WorkStage(ctx, key, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			<-ctx.Done()
			mustBe(b, context.Cause(ctx), redisidem.ErrMaxHold)
			if took := time.Since(began); took != 47*time.Second {
				b.Errorf("cancelled after %v, want %v", took, 47*time.Second)
			}
			time.Sleep(10 * time.Second) // it hangs on
			_, err := other.WorkStage(context.Background(), key, finish("by the other"))
			mustBe(b, err, nil)
			return redisidem.Finish(redisidem.JSON(200, "too late")), nil
		})
		mustBe(b, err, redisidem.ErrFenced)
	})
}

// TestMaxHoldEndsALeaseThatItsHolderRenews checks that Lease.Renew does not put MaxHold off.
func TestMaxHoldEndsALeaseThatItsHolderRenews(t *testing.T) {
	inBubble(t, func(b *bubble) {
		lease := locked(b, b.service(redisidem.Config{Lease: 10 * time.Second, MaxHold: 30 * time.Second}).Scope("a"), "k")
		began := time.Now()
		for time.Since(began) < time.Minute && lease.Context().Err() == nil {
			_ = lease.Renew(ctx)
			time.Sleep(time.Second)
		}
		mustBe(b, context.Cause(lease.Context()), redisidem.ErrMaxHold)
		if took := time.Since(began); took > 31*time.Second {
			b.Errorf("it ends after %v", took)
		}
		_ = lease.Abandon(ctx)
	})
}

// TestMaxHoldEndsALeaseWhoseServerIsSilent has a renewal under way when the time is over.
func TestMaxHoldEndsALeaseWhoseServerIsSilent(t *testing.T) {
	for _, test := range []struct{ lease, hold, silent time.Duration }{
		{60 * time.Second, 10 * time.Second, 0},
		{10 * time.Second, 47 * time.Second, 46 * time.Second},
	} {
		t.Run(test.hold.String(), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				sc := b.service(redisidem.Config{Lease: test.lease, MaxHold: test.hold}).Scope("a")
				other := locked(b, sc, "other") // so that the looks do not begin with the next lease
				time.Sleep(100 * time.Millisecond)
				lease := locked(b, sc, "k")
				mustBe(b, other.Abandon(ctx), nil)
				began := time.Now()
				time.Sleep(test.silent)
				b.freeze()
				<-lease.Context().Done()
				mustBe(b, context.Cause(lease.Context()), redisidem.ErrMaxHold)
				if took := time.Since(began); took != test.hold {
					b.Errorf("it ends after %v, want %v", took, test.hold)
				}
				b.thaw()
				_ = lease.Abandon(ctx)
			})
		})
	}
}

// TestClaimThatIsAnsweredLateIsRenewedAtOnce checks that the time before the answer counts.
func TestClaimThatIsAnsweredLateIsRenewedAtOnce(t *testing.T) {
	inBubble(t, func(b *bubble) {
		rec := &recorder{}
		sc := b.service(redisidem.Config{Lease: time.Minute, Timeout: time.Minute, Observer: rec}).Scope("a")
		start(b, sc, "k")
		b.freeze()
		time.AfterFunc(40*time.Second, b.thaw)
		sent := time.Now()
		lease, err := sc.Lock(ctx, "k")
		mustBe(b, err, nil)
		if took := time.Since(sent); took < 40*time.Second {
			b.Fatalf("the claim was answered after %v", took)
		}
		time.Sleep(time.Second)
		if got := rec.count(redisidem.EventRenewed); got != 1 {
			b.Errorf("renewed %d times, want 1", got)
		}
		mustBe(b, lease.Abandon(ctx), nil)
	})
}

// TestLeaseBetweenTwoLooksIsRenewedAtAThird takes a lease while the looks for another one go on.
func TestLeaseBetweenTwoLooksIsRenewedAtAThird(t *testing.T) {
	inBubble(t, func(b *bubble) {
		rec := &recorder{}
		sc := b.service(redisidem.Config{Lease: 9 * time.Second, Observer: rec}).Scope("a")
		other := locked(b, sc, "other")
		time.Sleep(100 * time.Millisecond)
		lease := locked(b, sc, "k")
		mustBe(b, other.Abandon(ctx), nil)
		time.Sleep(3*time.Second - time.Millisecond)
		if got := rec.count(redisidem.EventRenewed); got != 0 {
			b.Errorf("renewed %d times before a third has passed", got)
		}
		time.Sleep(2 * time.Millisecond)
		if got := rec.count(redisidem.EventRenewed); got != 1 {
			b.Errorf("renewed %d times at a third, want 1", got)
		}
		mustBe(b, lease.Abandon(ctx), nil)
	})
}

// TestLooksEndWithTheService closes a service while a program still has a lease.
func TestLooksEndWithTheService(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{MaxHold: -1})
		lease := locked(b, svc.Scope("a"), "k")
		over, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		mustBe(b, svc.Close(over), context.DeadlineExceeded)
		time.Sleep(time.Minute)
		if svc.Looking() {
			b.Error("the service still looks at its leases")
		}
		_ = lease.Abandon(ctx)
	})
}

// TestTrapL13LostLeaseIsNotRenewed checks that a lease is not renewed after it was reported lost:
// its work has stopped, and others wait for its end.
func TestTrapL13LostLeaseIsNotRenewed(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := redisidem.Config{Lease: 9 * time.Second, Timeout: 3 * time.Second}
		var renewed, lost atomic.Int64
		cfg.Observer = observes(func(e redisidem.Event) {
			switch {
			case e.Kind == redisidem.EventLeaseLost:
				lost.Add(1)
			case e.Kind == redisidem.EventRenewed && lost.Load() > 0:
				renewed.Add(1)
			}
		})
		sc, other := b.service(cfg).Scope("a"), b.service(redisidem.Config{Lease: cfg.Lease}).Scope("a")
		lease := locked(b, sc, "k")
		b.freeze()
		time.AfterFunc(cfg.Lease/10*9+time.Millisecond, b.thaw) // a renewal is under way then, and is repeated
		<-lease.Context().Done()
		mustBe(b, context.Cause(lease.Context()), redisidem.ErrLeaseLost)
		time.Sleep(2 * cfg.Lease)
		if lost.Load() != 1 || renewed.Load() != 0 {
			b.Errorf("lost %d times, and renewed %d times after that", lost.Load(), renewed.Load())
		}
		mustBe(b, lease.Renew(ctx), redisidem.ErrLeaseLost)
		_, err := other.Do(ctx, "k", request, finish("by another"))
		mustBe(b, err, nil)
		_ = lease.Abandon(ctx)
	})
}

func TestTrapL14RenewalKeepsTheRecordAlive(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{Lease: 3 * time.Second, Retention: 3 * time.Second}).Scope("a")
		key := start(b, sc, "k")
		key, err := sc.WorkStage(ctx, key, func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
			for range 30 {
				time.Sleep(time.Second)
				_, err := sc.Retrieve(ctx, "k")
				mustBe(b, err, nil)
			}
			return redisidem.Finish(redisidem.JSON(200, "done")), nil
		})
		mustBe(b, err, nil)
		mustHold(b, key, `"done"`)
	})
}

func TestTrapL15HoldIsCapped(t *testing.T) {
	inBubble(t, func(b *bubble) {
		capped := locked(b, b.service(redisidem.Config{MaxHold: 30 * time.Second}).Scope("a"), "capped")
		free := locked(b, b.service(redisidem.Config{MaxHold: -1}).Scope("a"), "free")
		sc := b.service(redisidem.Config{}).Scope("a")
		began := time.Now()
		<-capped.Context().Done()
		mustBe(b, context.Cause(capped.Context()), redisidem.ErrMaxHold)
		if took := time.Since(began); took != 30*time.Second {
			b.Errorf("cancelled after %v, want %v", took, 30*time.Second)
		}
		_, err := sc.Wait(redisidem.DefaultLease+time.Second).Do(ctx, "capped", request, finish("by another"))
		mustBe(b, err, nil)
		time.Sleep(2 * redisidem.DefaultMaxHold)
		mustBe(b, free.Context().Err(), nil)
		_, err = sc.Do(ctx, "free", request, never(b))
		mustBe(b, err, redisidem.ErrLocked)
		_, err = free.Commit(ctx, redisidem.Outcome{})
		mustBe(b, err, nil)
		_, err = capped.Commit(ctx, redisidem.Outcome{})
		mustBe(b, err, redisidem.ErrFenced)
	})
}

func TestLostLeaseCannotBeRenewed(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{MaxHold: 20 * time.Second}).Scope("a")
		start(b, sc, "k")
		lease, err := sc.Lock(ctx, "k")
		mustBe(b, err, nil)
		time.Sleep(21 * time.Second)
		for range 10 {
			mustBe(b, lease.Renew(ctx), redisidem.ErrMaxHold)
			time.Sleep(time.Second)
		}
		_, err = b.service(redisidem.Config{}).Scope("a").Do(ctx, "k", request, finish("done"))
		mustBe(b, err, nil)
		mustBe(b, lease.Abandon(ctx), nil)
	})
}
