package redisidem_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/redisidem/redisidem/redisidem"
)

// TestManyReplaysOfOneKeyWhileWaitingIsAllowed lets callers meet in a room that is being closed.
func TestManyReplaysOfOneKeyWhileWaitingIsAllowed(t *testing.T) {
	onRealServers(t, func(t *testing.T, e *env) {
		sc := e.service(func(c *redisidem.Config) { c.Wait = 10 * time.Second }).Scope("a")
		_, err := sc.Do(ctx, "k", request, finish("done"))
		mustBe(t, err, nil)
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for range 100 {
					if _, err := sc.Do(ctx, "k", request, never(t)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestOutageIsToldToAllWhoWaitAtOnce(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{Wait: 30 * time.Second}).Scope("a")
		b.freeze()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				began := time.Now()
				_, err := sc.Do(ctx, "k", request, never(b))
				mustBe(b, err, redisidem.ErrUnavailable)
				if took := time.Since(began); took > time.Second {
					b.Errorf("the outage is told after %v", took)
				}
			})
		}
		wg.Wait()
		b.thaw()
	})
}

func TestThoseWhoWaitedShareNoMemory(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Wait: 30 * time.Second})
		hold(b, "k", 5*time.Second, redisidem.Finish(redisidem.JSON(200, "done")))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				key, err := svc.Scope("a").Do(ctx, "k", request, never(b))
				mustBe(b, err, nil)
				if string(key.Response.Body) != `"done"` || len(key.Response.Header) != 1 || key.Value != "k" {
					b.Errorf("another caller's changes are in %+v", key)
				}
				key.Value = "mine"
				key.Response.Header["X-Served"] = []string{"me"}
				key.Response.Body[1] = 'X'
				key.Journal[0].Stage = "mine"
			})
		}
		wg.Wait()
	})
}

func TestWaitingLockDoesNotDisturbThoseWhoWaitForTheAnswer(t *testing.T) {
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
					b.Errorf("answered after %v", took)
				}
			})
		}
		wg.Wait()
		if n := b.sent() - before; n > 200 {
			b.Errorf("50 waiters sent %d requests", n)
		}
	})
}

func TestFirstAnswerSharesNothingWithItsCopy(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := warm(b, b.service(copies())).Scope("a")
		key, err := sc.Do(ctx, "k", request, finish("done"))
		mustBe(b, err, nil)
		key.Response.Body[1] = 'X'
		key.Journal[0].Stage = "mine"
		b.mustAsk(0, "a copy", func() { mustReplayBody(b, sc, "k", `"done"`) })
	})
}

// slow is a network on which one reply takes its time.
type slow struct {
	mu   sync.Mutex
	next chan struct{} // the next connection that is written to is read from when this is closed
}

// delay holds back the reply to the next request, until release is closed.
func (s *slow) delay() (release chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = make(chan struct{})
	return s.next
}

type slowConn struct {
	net.Conn
	slow *slow
	hold chan struct{}
}

func (c *slowConn) Write(p []byte) (int, error) {
	c.slow.mu.Lock()
	if c.slow.next != nil {
		c.hold, c.slow.next = c.slow.next, nil
	}
	c.slow.mu.Unlock()
	return c.Conn.Write(p)
}

func (c *slowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.slow.mu.Lock()
	hold := c.hold
	c.slow.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return n, err
}

// onSlowNetwork makes a service one of whose replies can be late.
func (b *bubble) onSlowNetwork(cfg redisidem.Config) (*redisidem.Service, *slow) {
	b.Helper()
	s := &slow{}
	rdb := redis.NewClient(&redis.Options{
		Addr: "127.0.0.1:1", ContextTimeoutEnabled: true, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1,
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			c, err := b.server.Dial()
			if err != nil {
				return nil, err
			}
			return &slowConn{Conn: c, slow: s}, nil
		},
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	svc, err := redisidem.New(rdb, &cfg)
	mustBe(b, err, nil)
	b.Cleanup(func() {
		if err := svc.Close(ctx); err != nil {
			b.Error(err)
		}
		_ = rdb.Close()
		time.Sleep(2 * time.Second)
	})
	return svc, s
}

func TestLateReplyDoesNotReplaceANewerCopy(t *testing.T) {
	inBubble(t, func(b *bubble) {
		first, err := b.service(redisidem.Config{}).Scope("a").Do(ctx, "k", request, finish("first"))
		mustBe(b, err, nil)
		svc, network := b.onSlowNetwork(copies())
		sc := warm(b, svc).Scope("a")
		release := network.delay()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := sc.Do(ctx, "k", request, never(b))
			mustBe(b, err, nil)
		})
		synctest.Wait()
		time.Sleep(time.Millisecond)
		mustBe(b, sc.Delete(ctx, first), nil)
		time.Sleep(time.Millisecond)
		_, err = sc.Do(ctx, "k", request, finish("second"))
		mustBe(b, err, nil)
		time.Sleep(time.Millisecond)
		close(release)
		wg.Wait()
		mustReplayBody(b, sc, "k", `"second"`)
	})
}

func TestCallAfterADeleteGetsNoAnswerFromBefore(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc, network := b.onSlowNetwork(redisidem.Config{Wait: 10 * time.Second})
		sc := svc.Scope("a")
		first, err := sc.Do(ctx, "k", request, finish("first"))
		mustBe(b, err, nil)
		time.Sleep(time.Second)
		release := network.delay()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := sc.Do(ctx, "k", request, never(b))
			mustBe(b, err, nil)
		})
		synctest.Wait()
		time.Sleep(time.Millisecond)
		mustBe(b, sc.Delete(ctx, first), nil)
		wg.Go(func() {
			key, err := sc.Do(ctx, "k", request, finish("second"))
			mustBe(b, err, nil)
			if string(key.Response.Body) != `"second"` {
				b.Errorf("a call that began after the delete is answered %s", key.Response.Body)
			}
		})
		synctest.Wait()
		close(release)
		wg.Wait()
	})
}

// TestCloseIsNotHeldUpByAServerThatIsSilent also has a client without a read timeout.
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

// startled is an observer that panics at one kind of event.
type startled redisidem.EventKind

func (s startled) Observe(_ context.Context, e redisidem.Event) {
	if e.Kind == redisidem.EventKind(s) {
		panic("startled")
	}
}

func TestObserverThatPanicsLeavesNoKeyLocked(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{Observer: startled(redisidem.EventClaimed)}).Scope("a")
		func() {
			defer func() {
				if v := recover(); v != "startled" {
					b.Errorf("recovered %v", v)
				}
			}()
			_, _ = sc.Do(ctx, "k", request, never(b))
		}()
		_, err := b.service(redisidem.Config{}).Scope("a").Do(ctx, "k", request, finish("done"))
		mustBe(b, err, nil)
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

func TestUpdateAndDeleteAreForTheRecordThatWasRead(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		old := start(t, sc, "k")
		mustBe(t, sc.Delete(ctx, old), nil)
		other := request
		other.Path = "/refund"
		_, err := sc.InitializeRequest(ctx, "k", other)
		mustBe(t, err, nil)
		_, err = sc.Update(ctx, old, redisidem.Finish(redisidem.JSON(200, "the first request's")))
		mustBe(t, err, redisidem.ErrStale)

		first, err := sc.Do(ctx, "d", request, finish("first"))
		mustBe(t, err, nil)
		mustBe(t, sc.Delete(ctx, first), nil)
		_, err = sc.Do(ctx, "d", request, finish("second"))
		mustBe(t, err, nil)
		mustBe(t, sc.Delete(ctx, first), nil) // what was read is gone already
		key, err := sc.Do(ctx, "d", request, never(t))
		mustBe(t, err, nil)
		if string(key.Response.Body) != `"second"` {
			t.Errorf("the second record answers %s", key.Response.Body)
		}
	})
}

// TestRecordWhoseExpiryWasTakenIsKept is about PERSIST, and tools that restore records without their expiry.
func TestRecordWhoseExpiryWasTakenIsKept(t *testing.T) {
	onRealServers(t, func(t *testing.T, e *env) {
		raw := e.client()
		key, err := e.service().Scope("a").Do(ctx, "k", request, finish("done"))
		mustBe(t, err, nil)
		record, _ := e.place(key)
		for _, durable := range []bool{false, true} {
			mustBe(t, raw.Persist(ctx, record).Err(), nil)
			sc := e.service(func(c *redisidem.Config) {
				c.CacheBytes = 1 << 20
				if durable {
					c.CacheBytes, c.Durability, c.Timeout = 0, 1, 500*time.Millisecond
				}
			}).Scope("a")
			for _, ask := range []func() (*redisidem.Key, error){
				func() (*redisidem.Key, error) { return sc.Do(ctx, "k", request, never(t)) },
				func() (*redisidem.Key, error) { return sc.InitializeRequest(ctx, "k", request) },
			} {
				key, err := ask()
				if !durable || strings.HasPrefix(e.name, "sentinel") {
					mustBe(t, err, nil)
				}
				if key == nil || string(key.Response.Body) != `"done"` || raw.Exists(ctx, record).Val() != 1 {
					t.Errorf("%+v, %v; the record exists: %v", key, err, raw.Exists(ctx, record).Val())
				}
			}
		}
		e.mustBeTidy(raw)
	})
}

func TestJournalInMemoryIsBoundedToo(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		start(b, sc, "k")
		lease, err := sc.Lock(ctx, "k")
		mustBe(b, err, nil)
		for i := range 200 {
			_, held, err := lease.CommitKeep(ctx, redisidem.Advance([]string{"x", "y"}[i%2]))
			mustBe(b, err, nil)
			if !held {
				b.Fatal("the lease is gone")
			}
		}
		mustBe(b, lease.Abandon(ctx), nil)
		stored, err := sc.Retrieve(ctx, "k")
		mustBe(b, err, nil)
		if mine := lease.Key().Journal; len(mine) != 64 || len(stored.Journal) != 64 || mine[0] != stored.Journal[0] {
			b.Errorf("%d entries here and %d there", len(mine), len(stored.Journal))
		}
	})
}

// TestShortestPatienceStillAsksOnce has a patience that may be over before the caller reaches the key's room.
func TestShortestPatienceStillAsksOnce(t *testing.T) {
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
