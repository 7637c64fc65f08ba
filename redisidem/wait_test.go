package redisidem_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

// hold starts a stage on a key that ends after some time, in a process of its own. It returns when the stage runs.
func hold(b *bubble, value string, d time.Duration, o redisidem.Outcome) {
	b.Helper()
	running := make(chan struct{})
	sc := b.service(redisidem.Config{}).Scope("a")
	b.Cleanup(func() { synctest.Wait() })
	go func() {
		_, err := sc.Do(ctx, value, request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			close(running)
			time.Sleep(d)
			return o, nil
		})
		if err != nil {
			b.Error(err)
		}
	}()
	<-running
}

func TestWaitersAreToldOfTheEnd(t *testing.T) {
	for name, o := range map[string]redisidem.Outcome{
		"finished": redisidem.Finish(redisidem.JSON(200, "done")),
		"advanced": redisidem.Advance("next"),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				svc := b.service(redisidem.Config{Wait: time.Hour})
				hold(b, "k", 5*time.Second, o)
				began := time.Now()
				key, err := svc.Scope("a").Do(ctx, "k", request, finish("done"))
				mustBe(b, err, nil)
				if want := `"done"`; string(key.Response.Body) != want {
					b.Errorf("the answer is %q", key.Response.Body)
				}
				// In fake time a message takes none. Whoever polls comes later.
				if took := time.Since(began); took != 5*time.Second {
					b.Errorf("the answer took %v", took)
				}
			})
		})
	}
}

func TestWaiterIsToldOfAnAbandonedLease(t *testing.T) {
	inBubble(t, func(b *bubble) {
		other := b.service(redisidem.Config{}).Scope("a")
		start(b, other, "k")
		lease, err := other.Lock(ctx, "k")
		mustBe(b, err, nil)
		go func() {
			time.Sleep(5 * time.Second)
			if err := lease.Abandon(ctx); err != nil {
				b.Error(err)
			}
		}()
		began := time.Now()
		_, err = b.service(redisidem.Config{Wait: time.Hour}).Scope("a").Do(ctx, "k", request, finish("done"))
		mustBe(b, err, nil)
		if took := time.Since(began); took != 5*time.Second {
			b.Errorf("the answer took %v", took)
		}
	})
}

func TestOneCallerPerKeyAndProcessAsks(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Wait: time.Hour})
		commands := make(map[int]int)
		for _, callers := range []int{1, 100} {
			value := fmt.Sprint("k", callers)
			hold(b, value, 2*time.Second, redisidem.Finish(redisidem.JSON(200, "done")))
			before := b.server.CommandCount()
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					key, err := svc.Scope("a").Do(ctx, value, request, never(b))
					if err != nil || !key.Replayed() || string(key.Response.Body) != `"done"` {
						b.Errorf("the answer is %+v, %v", key, err)
					}
				})
			}
			wg.Wait()
			commands[callers] = b.server.CommandCount() - before
		}
		b.Logf("%d commands for 100 callers, %d for one", commands[100], commands[1])
		if commands[100] > commands[1]+20 {
			b.Error("the callers ask each for themselves")
		}
	})
}

func TestWaitersTakeTurnsWhenNothingIsFinished(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Wait: time.Hour})
		sc := svc.Scope("a")
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				_, err := sc.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					time.Sleep(time.Second)
					return redisidem.Advance(st.Key().RecoveryPoint + "+"), nil
				})
				if err != nil {
					b.Error(err)
				}
			})
		}
		began := time.Now()
		wg.Wait()
		if took := time.Since(began); took != 10*time.Second {
			b.Errorf("ten stages of a second took %v", took)
		}
		if key := start(b, sc, "k"); key.Revision != 10 {
			b.Errorf("the key is %+v", key)
		}
	})
}

func TestWaiterWithAnotherRequestIsRefusedAtOnce(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{Wait: time.Hour}).Scope("a")
		hold(b, "k", time.Minute, redisidem.Finish(redisidem.JSON(200, "done")))
		go func() {
			if _, err := sc.Do(ctx, "k", request, never(b)); err != nil {
				b.Error(err)
			}
		}()
		synctest.Wait()
		began := time.Now()
		other := request
		other.Path += "/other"
		_, err := sc.Do(ctx, "k", other, never(b))
		mustBe(b, err, redisidem.ErrFingerprintMismatch)
		if took := time.Since(began); took != 0 {
			b.Errorf("refused after %v", took)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
	})
}

func TestWaiterThatMissesTheNewsPolls(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Wait: time.Hour, Timeout: 5 * time.Second})
		hold(b, "k", time.Minute, redisidem.Finish(redisidem.JSON(200, "done")))
		began := time.Now()
		go func() {
			time.Sleep(30 * time.Second)
			b.freeze()
			b.thaw()
			// The holder is done while the waiter's subscription is being made again.
		}()
		key, err := svc.Scope("a").Do(ctx, "k", request, never(b))
		mustBe(b, err, nil)
		if took := time.Since(began); !key.Replayed() || took > time.Minute+time.Second {
			b.Errorf("the answer took %v: %+v", took, key)
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

func TestCallersInTheQueueLosePatienceToo(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Wait: 2 * time.Second})
		hold(b, "k", time.Minute, redisidem.Outcome{})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				began := time.Now()
				_, err := svc.Scope("a").Do(ctx, "k", request, never(b))
				mustBe(b, err, redisidem.ErrLocked)
				if took := time.Since(began); took != 2*time.Second {
					b.Errorf("refused after %v", took)
				}
			})
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := svc.Scope("a").Do(short, "k", request, never(b))
		mustBe(b, err, redisidem.ErrLocked)
		mustBe(b, err, context.DeadlineExceeded)
		wg.Wait()
	})
}

// TestOnlyCommitsThatSomebodyWaitsForAreTold listens on the channels themselves, on every kind of server.
func TestOnlyCommitsThatSomebodyWaitsForAreTold(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, raw := e.service().Scope("a"), e.client()
		told := raw.PSubscribe(ctx, e.namespace+":wake:*")
		defer func() { _ = told.Close() }()
		if _, err := told.Receive(ctx); err != nil {
			t.Fatal(err)
		}
		waiting := e.service().Scope("a").Wait(time.Minute)
		for i := range 3 {
			value := fmt.Sprint("k", i)
			_, err := sc.Do(ctx, value+" alone", request, finish("done"))
			mustBe(t, err, nil)
			lease := locked(t, sc, value)
			record, _ := e.place(lease.Key())
			answered := make(chan error)
			go func() {
				_, err := waiting.Do(ctx, value, request, never(t))
				answered <- err
			}()
			until(t, "the waiter is entered", func() bool { return raw.HExists(ctx, record, "waiting").Val() })
			_, err = lease.Commit(ctx, redisidem.Outcome{})
			mustBe(t, err, nil)
			mustBe(t, <-answered, nil)
			message, err := told.ReceiveTimeout(ctx, 10*time.Second)
			mustBe(t, err, nil)
			// What nobody waited for would come first.
			if m, ok := message.(*redis.Message); !ok || m.Payload != record || !strings.HasPrefix(m.Channel, e.namespace+":wake:") {
				t.Errorf("told %v, want %q", message, record)
			}
			if raw.HExists(ctx, record, "waiting").Val() {
				t.Error("the waiter is still entered")
			}
		}
		e.mustBeTidy(raw)
	})
}

// until waits for something that happens in the background.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 2000 {
		if holds() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%s: never", what)
}

// TestWaiterComesWhenTheLeaseOfADeadHolderEnds has nobody who could tell it.
func TestWaiterComesWhenTheLeaseOfADeadHolderEnds(t *testing.T) {
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
			b.Errorf("it comes %v after the claim", took)
		}
		_ = dead.Abandon(ctx) // for Close
	})
}
