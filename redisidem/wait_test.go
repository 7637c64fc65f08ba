package redisidem_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestWaiterThatTimesOutChangesNothing(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		key := start(b, sc, "k")
		_, err := sc.WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			before := dumpWithoutWaiting(b)
			began := time.Now()
			_, err := sc.Wait(2*time.Second).WorkStage(context.Background(), key, finish("x"))
			mustBe(b, err, redisidem.ErrLocked)
			if took := time.Since(began); took != 2*time.Second {
				b.Errorf("waited %v, want %v", took, 2*time.Second)
			}
			if after := dumpWithoutWaiting(b); after != before {
				b.Errorf("changed:\n%s\nto:\n%s", before, after)
			}
			var locked *redisidem.LockedError
			if !errors.As(err, &locked) || locked.RetryAfter <= 0 || locked.RetryAfter > 10*time.Second {
				b.Errorf("error is %#v", err)
			}
			return redisidem.Outcome{}, nil
		})
		mustBe(b, err, nil)
	})
}

func TestTrapL11WaitHasABudgetOfItsOwn(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		lease := locked(b, sc, "k")
		for budget, want := range map[time.Duration]time.Duration{
			0: 0, -time.Hour: 0, time.Millisecond: time.Millisecond, 3 * time.Second: 3 * time.Second,
			time.Minute: time.Minute, // longer than the lease, which is renewed
		} {
			began := time.Now()
			_, err := sc.Wait(budget).Lock(ctx, "k")
			mustBe(b, err, redisidem.ErrLocked)
			if took := time.Since(began); took != want {
				b.Errorf("a budget of %v took %v, want %v", budget, took, want)
			}
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		began := time.Now()
		_, err := sc.Wait(time.Minute).Lock(short, "k")
		mustBe(b, err, context.DeadlineExceeded)
		if took := time.Since(began); took != time.Second {
			b.Errorf("a context of 1s took %v, want %v", took, time.Second)
		}
		mustBe(b, lease.Abandon(ctx), nil)
	})
}

func TestTrapL17ImpatientWaiterChangesNothing(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		lease := locked(t, e.service(func(c *redisidem.Config) { c.Lease = time.Hour }).Scope("a"), "k")
		other, raw := e.service().Scope("a"), e.client()
		record, lock := e.place(lease.Key())
		look := func() (map[string]string, string) {
			fields := raw.HGetAll(ctx, record).Val()
			// A try that was under way when the context ended is abandoned.
			fields["control"] = strings.Join(append(readControl(raw, record)[:controlSpent], readControl(raw, record)[controlCreated:]...), " ")
			delete(fields, "waiting") // the channel of the waiter
			return fields, raw.Get(ctx, lock).Val()
		}
		before, token := look()
		_, err := other.Wait(50*time.Millisecond).Do(ctx, "k", request, never(t))
		mustBe(t, err, redisidem.ErrLocked)
		if after, now := look(); !maps.Equal(before, after) || now != token {
			t.Errorf("changed from %q, %q to %q, %q", before, token, after, now)
		}
		impatient, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		_, err = other.Wait(time.Hour).Do(impatient, "k", request, never(t))
		mustBe(t, err, context.DeadlineExceeded)
		if after, now := look(); !maps.Equal(before, after) || now != token {
			t.Errorf("changed from %q, %q to %q, %q", before, token, after, now)
		}
		_, err = lease.Commit(ctx, redisidem.Outcome{})
		mustBe(t, err, nil)
	})
}

func TestWaitingLockDoesNotDisturbWaitersForTheAnswer(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Wait: time.Hour})
		hold(b, "k", 5*time.Second, redisidem.Finish(redisidem.JSON(200, "done")))
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := svc.Scope("a").Lock(ctx, "k") // which knows no fingerprint
			mustBe(b, err, redisidem.ErrFinished)
		})
		time.Sleep(time.Millisecond)
		before, began := b.sent(), time.Now()
		for range 50 {
			wg.Go(func() {
				_, err := svc.Scope("a").Do(ctx, "k", request, never(b))
				mustBe(b, err, nil)
				if took := time.Since(began); took > 5*time.Second {
					b.Errorf("answered after %v, want at most %v", took, 5*time.Second)
				}
			})
		}
		wg.Wait()
		if n := b.sent() - before; n > 200 {
			b.Errorf("50 waiters sent %d requests, want at most 200", n)
		}
	})
}

// TestShortestWaitStillAsksOnce has a wait that may be over before the caller joins the flight of
// the key.
func TestShortestWaitStillAsksOnce(t *testing.T) {
	onRealServers(t, func(t *testing.T, e *env) {
		hurried := e.service().Scope("a").Wait(time.Nanosecond)
		holder := e.service().Scope("a")
		_, err := holder.InitializeRequest(ctx, "k", request)
		mustBe(t, err, nil)
		lease, err := holder.Lock(ctx, "k")
		mustBe(t, err, nil)
		for range 100 {
			_, err := hurried.Do(ctx, "k", request, never(t))
			mustBe(t, err, redisidem.ErrLocked)
		}
		_, err = lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "done")))
		mustBe(t, err, nil)
	})
}

func TestInterimAnswerFromBeforeTheWaitingIsNotGivenAgain(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var runs atomic.Int64
		one, two := b.service(redisidem.Config{}).Scope("a"), b.service(redisidem.Config{Wait: time.Hour}).Scope("a")
		_, err := one.Do(ctx, "k", request, confirming(0, &runs))
		mustBe(b, err, nil)
		time.Sleep(time.Second)
		boom := errors.New("boom")
		go func() {
			_, err := one.Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				time.Sleep(5 * time.Second)
				return redisidem.Outcome{}, boom
			})
			if !errors.Is(err, boom) {
				b.Error(err)
			}
		}()
		synctest.Wait()
		var wg sync.WaitGroup
		var replayed atomic.Int64
		for range 3 {
			wg.Go(func() {
				key, err := two.Do(ctx, "k", request, finish("done"))
				if err != nil || !key.Finished() || string(key.Response.Body) != `"done"` {
					b.Errorf("the key is %+v, %v", key, err)
				}
				if key.Replayed() {
					replayed.Add(1)
				}
			})
		}
		wg.Wait()
		if replayed.Load() != 2 {
			b.Errorf("%d of 3 were replays, want 2", replayed.Load())
		}
	})
}

func TestLockWaitsForTheLeaseAndNotForAnInterimAnswer(t *testing.T) {
	inBubble(t, func(b *bubble) {
		hold(b, "k", 5*time.Second, redisidem.Interim(redisidem.Started, redisidem.JSON(202, "confirm")))
		sc := b.service(redisidem.Config{Wait: time.Hour}).Scope("a")
		lease, err := sc.Lock(ctx, "k")
		mustBe(b, err, nil)
		key, err := lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "done")))
		mustBe(b, err, nil)
		if key.Revision != 2 {
			b.Errorf("the key is %+v", key)
		}
	})
}

func TestWaiterOfAClosedService(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Wait: time.Hour})
		hold(b, "k", time.Minute, redisidem.Outcome{})
		var wg sync.WaitGroup
		for range 3 { // one that asks, and two behind it
			wg.Go(func() {
				_, err := svc.Scope("a").Do(ctx, "k", request, never(b))
				mustBe(b, err, redisidem.ErrClosed)
			})
		}
		synctest.Wait()
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		mustBe(b, svc.Close(short), context.DeadlineExceeded)
		wg.Wait()
	})
}

// TestWaiterContinuesWhenTheLeaseOfADeadHolderEnds has no process that could notify the waiter.
func TestWaiterContinuesWhenTheLeaseOfADeadHolderEnds(t *testing.T) {
	inBubble(t, func(b *bubble) {
		const lease = 10 * time.Second
		sc := b.service(redisidem.Config{Lease: lease, MaxHold: time.Second}).Scope("a") // it never renews
		_, err := sc.InitializeRequest(ctx, "k", request)
		mustBe(b, err, nil)
		began := time.Now()
		dead, err := sc.Lock(ctx, "k")
		mustBe(b, err, nil)
		_, err = b.service(redisidem.Config{}).Scope("a").Wait(time.Minute).Do(ctx, "k", request, finish("done"))
		mustBe(b, err, nil)
		if took := time.Since(began); took < lease || took > lease+20*time.Millisecond {
			b.Errorf("it continues %v after the claim, want %v", took, lease)
		}
		_ = dead.Abandon(ctx) // for Close
	})
}
