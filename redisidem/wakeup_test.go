package redisidem_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

// TestCloseIsNotHeldUpByAServerThatIsSilent includes a client without a read timeout.
func TestCloseIsNotHeldUpByAServerThatIsSilent(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	mustBe(t, err, nil)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			if _, err := listener.Accept(); err != nil {
				return
			}
		}
	}()
	for _, timeout := range []time.Duration{0, -1} {
		rdb := redis.NewClient(&redis.Options{
			Addr: listener.Addr().String(), ContextTimeoutEnabled: true, DisableIdentity: true, MaxRetries: -1, ReadTimeout: timeout,
		})
		t.Cleanup(func() { _ = rdb.Close() })
		svc, err := redisidem.New(rdb, &redisidem.Config{Wait: time.Second, Timeout: 200 * time.Millisecond})
		mustBe(t, err, nil)
		_, err = svc.Scope("a").Do(ctx, "k", request, never(t))
		mustBe(t, err, redisidem.ErrUnavailable)
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		began := time.Now()
		_ = svc.Close(short) // how it ends is the context's affair
		cancel()
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("Close within 100 ms took %v", took)
		}
	}
}

func TestWaitersAreNotifiedOfTheEnd(t *testing.T) {
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
				// In fake time a message takes no time. A caller that polls comes later.
				if took := time.Since(began); took != 5*time.Second {
					b.Errorf("the answer took %v", took)
				}
			})
		})
	}
}

func TestWaiterIsNotifiedOfAnAbandonedLease(t *testing.T) {
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

func TestWaiterThatMissesTheNotificationPolls(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Wait: time.Hour, Timeout: 5 * time.Second})
		hold(b, "k", time.Minute, redisidem.Finish(redisidem.JSON(200, "done")))
		began := time.Now()
		go func() {
			time.Sleep(30 * time.Second)
			b.freeze()
			b.thaw()
			// The holder finishes while the waiter subscribes again.
		}()
		key, err := svc.Scope("a").Do(ctx, "k", request, never(b))
		mustBe(b, err, nil)
		if took := time.Since(began); !key.Replayed() || took > time.Minute+time.Second {
			b.Errorf("the answer took %v: %+v", took, key)
		}
	})
}

// TestOnlyCommitsWithWaitersArePublished listens on the channels themselves, on every kind of
// server.
func TestOnlyCommitsWithWaitersArePublished(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, raw := e.service().Scope("a"), e.client()
		published := raw.PSubscribe(ctx, e.namespace+":wake:*")
		defer func() { _ = published.Close() }()
		if _, err := published.Receive(ctx); err != nil {
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
			message, err := published.ReceiveTimeout(ctx, 10*time.Second)
			mustBe(t, err, nil)
			// A commit without waiters would come first.
			if m, ok := message.(*redis.Message); !ok || m.Payload != record || !strings.HasPrefix(m.Channel, e.namespace+":wake:") {
				t.Errorf("received %v, want %q", message, record)
			}
			if raw.HExists(ctx, record, "waiting").Val() {
				t.Error("the waiter is still entered")
			}
		}
		e.mustBeTidy(raw)
	})
}
