package redisidem_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/redisidem/redisidem/redisidem"
)

// copies returns the configuration of a service that keeps copies of finished records.
func copies(change ...func(*redisidem.Config)) redisidem.Config {
	cfg := redisidem.Config{CacheBytes: 1 << 20}
	for _, f := range change {
		f(&cfg)
	}
	return cfg
}

// warm makes a service subscribe, which its first finished record does. Copies from before the
// subscription are dropped.
func warm(b *bubble, svc *redisidem.Service) *redisidem.Service {
	b.Helper()
	_, err := svc.Scope("a").Do(ctx, "warm", request, finish("warm"))
	mustBe(b, err, nil)
	synctest.Wait()
	time.Sleep(time.Second)
	return svc
}

func (b *bubble) sent() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.requests
}

// mustAsk checks how many requests a call sends.
func (b *bubble) mustAsk(want int, what string, call func()) {
	b.Helper()
	before := b.sent()
	call()
	if got := b.sent() - before; got != want {
		b.Errorf("%s: %d requests, want %d", what, got, want)
	}
}

// mustReplayBody checks that a key replays, by each of the calls that can.
func mustReplayBody(b *bubble, sc *redisidem.Scope, value, body string) {
	b.Helper()
	key, err := sc.Do(ctx, value, request, never(b))
	mustBe(b, err, nil)
	other, err := sc.InitializeRequest(ctx, value, request)
	mustBe(b, err, nil)
	for _, k := range []*redisidem.Key{key, other} {
		if !k.Replayed() || string(k.Response.Body) != body || k.Value != value || k.Scope != "a" || len(k.Journal) != 1 {
			b.Errorf("the replay is %+v", k)
		}
	}
}

func TestCopiesAnswerWithoutRedis(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := warm(b, b.service(copies())).Scope("a")
		mine, err := sc.Do(ctx, "k", request, finish("done"))
		mustBe(b, err, nil)
		if mine.Replayed() {
			b.Error("the first execution is a replay")
		}
		_, err = b.service(redisidem.Config{}).Scope("a").Do(ctx, "other's", request, finish("other"))
		mustBe(b, err, nil)
		b.mustAsk(0, "own work", func() { mustReplayBody(b, sc, "k", `"done"`) })
		b.mustAsk(1, "another's work", func() {
			_, err := sc.Do(ctx, "other's", request, never(b))
			mustBe(b, err, nil)
		})
		b.mustAsk(0, "another's work again", func() { mustReplayBody(b, sc, "other's", `"other"`) })

		b.freeze() // a finished key is answered although Redis is gone
		mustReplayBody(b, sc, "k", `"done"`)
		b.thaw()
	})
}

func TestCopiesAreForTheSameRequestAndScopeOnly(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := warm(b, b.service(copies()))
		_, err := svc.Scope("a").Do(ctx, "k", request, finish("secret"))
		mustBe(b, err, nil)
		other := request
		other.Path += "/other"
		_, err = svc.Scope("a").Do(ctx, "k", other, never(b))
		mustBe(b, err, redisidem.ErrFingerprintMismatch)
		_, err = svc.Scope("a").InitializeRequest(ctx, "k", other)
		mustBe(b, err, redisidem.ErrFingerprintMismatch)
		key, err := svc.Scope("b").Do(ctx, "k", request, finish("own"))
		mustBe(b, err, nil)
		if string(key.Response.Body) != `"own"` {
			b.Errorf("scope b got %q", key.Response.Body)
		}
	})
}

func TestCopiesDoNotOutliveTheirRecords(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := copies(func(c *redisidem.Config) { c.CacheLife, c.Retention = time.Hour, time.Minute })
		mine, other := warm(b, b.service(cfg)).Scope("a"), warm(b, b.service(cfg)).Scope("a")
		_, err := mine.Do(ctx, "k", request, finish("first"))
		mustBe(b, err, nil)
		time.Sleep(40 * time.Second)
		mustReplayBody(b, other, "k", `"first"`) // has its copy for the rest of the record's life only
		time.Sleep(40 * time.Second)
		key, err := mine.Do(ctx, "k", request, finish("second"))
		mustBe(b, err, nil)
		if key.Replayed() {
			b.Error("the copy outlives the record")
		}
		mustReplayBody(b, other, "k", `"second"`)
	})
}

func TestCopiesEndAfterCacheLife(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := warm(b, b.service(copies(func(c *redisidem.Config) { c.CacheLife = time.Minute }))).Scope("a")
		_, err := sc.Do(ctx, "k", request, finish("done"))
		mustBe(b, err, nil)
		b.mustAsk(0, "within its life", func() { mustReplayBody(b, sc, "k", `"done"`) })
		time.Sleep(time.Minute)
		synctest.Wait()
		b.mustAsk(1, "after its life", func() {
			_, err := sc.Do(ctx, "k", request, never(b))
			mustBe(b, err, nil)
		})
	})
}

func TestCopiesAreBoundedByBytes(t *testing.T) {
	inBubble(t, func(b *bubble) {
		const size, records = 10 << 10, 100
		sc := warm(b, b.service(copies(func(c *redisidem.Config) { c.CacheBytes = 20 * size }))).Scope("a")
		for i := range records {
			_, err := sc.Do(ctx, fmt.Sprint(i), request, finish(strings.Repeat("x", size)))
			mustBe(b, err, nil)
		}
		before := b.sent()
		for i := range records {
			_, err := sc.Do(ctx, fmt.Sprint(i), request, never(b))
			mustBe(b, err, nil)
		}
		if asked := b.sent() - before; asked < records-20 {
			b.Errorf("%d of %d replays came from copies that have no room", records-asked, records)
		}
	})
}

func TestNoCopiesByDefault(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		_, err := sc.Do(ctx, "k", request, finish("done"))
		mustBe(b, err, nil)
		b.mustAsk(1, "a replay", func() {
			_, err := sc.Do(ctx, "k", request, never(b))
			mustBe(b, err, nil)
		})
	})
}

func TestUnfinishedKeysAreNotCopied(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc, other := warm(b, b.service(copies())).Scope("a"), b.service(redisidem.Config{}).Scope("a")
		key, err := sc.Do(ctx, "k", request, outcome(redisidem.Interim("confirm", redisidem.JSON(202, "confirm"))))
		mustBe(b, err, nil)
		start(b, sc, "k")
		_, err = other.WorkStage(ctx, key, finish("done"))
		mustBe(b, err, nil)
		if key := start(b, sc, "k"); !key.Finished() {
			b.Errorf("the key is %+v", key)
		}
	})
}

func TestDeleteReachesTheCopiesOfOthers(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		withCopies := func(c *redisidem.Config) { c.CacheBytes, c.CacheLife = 1<<20, time.Hour }
		mine, other := e.service(withCopies).Scope("a"), e.service(withCopies).Scope("a")
		// The first finished record makes a service subscribe, which drops its copies.
		until(t, "both keep copies", func() bool {
			raw := e.client()
			n := 0
			for _, count := range raw.PubSubNumSub(ctx, e.namespace+":deleted").Val() {
				n += int(count)
			}
			for _, sc := range []*redisidem.Scope{mine, other} {
				_, err := sc.Do(ctx, "warm", request, finish("done"))
				mustBe(t, err, nil)
			}
			return n == 2 || strings.HasPrefix(e.name, "cluster") // each node knows its own subscribers
		})
		for round := range 3 {
			key, err := mine.Do(ctx, "k", request, finish(fmt.Sprint(round)))
			mustBe(t, err, nil)
			_, err = other.Do(ctx, "k", request, never(t))
			mustBe(t, err, nil)
			mustBe(t, mine.Delete(ctx, key), nil)
			// The process that deletes drops its copy at once.
			key, err = mine.Do(ctx, "k", request, finish("again"))
			mustBe(t, err, nil)
			if key.Replayed() {
				t.Error("a deleted key replays where it was deleted")
			}
			until(t, "the others hear of it", func() bool {
				key, err := other.Do(ctx, "k", request, never(t))
				mustBe(t, err, nil)
				return string(key.Response.Body) == `"again"`
			})
			key, err = mine.Retrieve(ctx, "k")
			mustBe(t, err, nil)
			mustBe(t, mine.Delete(ctx, key), nil)
			until(t, "the others hear of that, too", func() bool {
				ran := false
				key, err := other.Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					ran = true
					return redisidem.Advance("next"), nil
				})
				mustBe(t, err, nil)
				return ran && !key.Finished()
			})
			key, err = mine.Retrieve(ctx, "k")
			mustBe(t, err, nil)
			mustBe(t, mine.Delete(ctx, key), nil)
		}
	})
}

func TestMissedDeleteDropsAllCopies(t *testing.T) {
	inBubble(t, func(b *bubble) {
		deaf := warm(b, b.service(copies(func(c *redisidem.Config) { c.CacheLife = time.Hour }))).Scope("a")
		_, err := deaf.Do(ctx, "k", request, finish("done"))
		mustBe(b, err, nil)
		b.freeze() // its subscription is gone
		synctest.Wait()
		b.thaw()
		other := b.service(redisidem.Config{}).Scope("a")
		key, err := other.Retrieve(ctx, "k")
		mustBe(b, err, nil)
		mustBe(b, other.Delete(ctx, key), nil)
		time.Sleep(10 * time.Second)
		key, err = deaf.Do(ctx, "k", request, finish("again"))
		mustBe(b, err, nil)
		if key.Replayed() {
			b.Error("the copy is still there")
		}
	})
}

func TestSilentSubscriptionIsDetected(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := warm(b, b.service(copies(func(c *redisidem.Config) { c.CacheLife = time.Hour })))
		_, err := svc.Scope("a").Do(ctx, "k", request, finish("done"))
		mustBe(b, err, nil)
		b.mustAsk(0, "all is well", func() { mustReplayBody(b, svc.Scope("a"), "k", `"done"`) })
		b.mute() // connections stay and say nothing
		time.Sleep(10 * time.Second)
		b.thaw()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		b.mustAsk(1, "what was missed is unknown", func() {
			_, err := svc.Scope("a").Do(ctx, "k", request, never(b))
			mustBe(b, err, nil)
		})
	})
}

func TestClosedServiceHasNoCopies(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := warm(b, b.service(copies()))
		_, err := svc.Scope("a").Do(ctx, "k", request, finish("done"))
		mustBe(b, err, nil)
		mustBe(b, svc.Close(ctx), nil)
		_, err = svc.Scope("a").Do(ctx, "k", request, never(b))
		mustBe(b, err, redisidem.ErrClosed)
		_, err = svc.Scope("a").InitializeRequest(ctx, "k", request)
		mustBe(b, err, redisidem.ErrClosed)
	})
}

func TestReplayFromCopyAllocates(t *testing.T) {
	sc := keepingCopies(t)
	work := never(t)
	if n := testing.AllocsPerRun(1000, func() {
		if key, err := sc.Do(ctx, "k", rawRequest, work); err != nil || !key.Replayed() {
			t.Error(key, err)
		}
	}); n > 2 {
		t.Errorf("%v allocations, want at most 2", n)
	}
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

// slow is a network on which one reply is late.
type slow struct {
	mu   sync.Mutex
	next chan struct{} // the next connection that is written to is read from when this is closed
}

// delay holds back the reply to the next request until release is closed.
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

// onSlowNetwork makes a service on a network that can delay a reply.
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

// TestLateAnswerDoesNotRestoreADeletedRecord stores a copy from a reply to a request that was sent
// before the notification of a delete, or before an interruption of the subscription.
func TestLateAnswerDoesNotRestoreADeletedRecord(t *testing.T) {
	t.Parallel()
	for event, happens := range map[string]func(c *redisidem.CopyCache, key *redisidem.Key){
		"delete":       (*redisidem.CopyCache).Forget,
		"interruption": func(c *redisidem.CopyCache, _ *redisidem.Key) { c.Purge() },
	} {
		c, err := redisidem.NewCopyCache(1<<20, time.Hour, time.Minute)
		mustBe(t, err, nil)
		key := redisidem.FinishedKey("a", "k", "1:x", nil)
		get := func() *redisidem.Key { return c.Get(key, "a", "k", "1:x") }

		sent := time.Now()
		c.Put(key, sent)
		if k := get(); k == nil || !k.Replayed() || k == key {
			t.Fatalf("%s: the copy is %+v, want a replay", event, k)
		}
		happens(c, key)
		if k := get(); k != nil {
			t.Errorf("%s: the copy is still %+v, want none", event, k)
		}
		c.Put(key, sent)
		if k := get(); k != nil {
			t.Errorf("%s: the late reply brought back %+v, want no copy", event, k)
		}
		c.Put(key, time.Now().Add(time.Millisecond))
		if k := get(); k == nil {
			t.Errorf("%s: there is no copy of the next record", event)
		}
		for _, other := range []*redisidem.Key{c.Get(key, "b", "k", "1:x"), c.Get(key, "a", "l", "1:x"), c.Get(key, "a", "k", "1:y")} {
			if other != nil {
				t.Errorf("%s: another caller got %+v, want no copy", event, other)
			}
		}
		c.Close()
		c.Put(key, time.Now().Add(time.Second))
		if k := get(); k != nil {
			t.Errorf("%s: the closed cache has %+v, want no copy", event, k)
		}
	}
}

func TestCopiesTakeNoMoreThanTheirBytes(t *testing.T) {
	t.Parallel()
	const limit = 100 << 10
	c, err := redisidem.NewCopyCache(limit, time.Hour, time.Minute)
	mustBe(t, err, nil)
	defer c.Close()
	sent := time.Now().Add(time.Millisecond)
	for i := range 1000 {
		c.Put(redisidem.FinishedKey("a", strconv.Itoa(i), "1:x", make([]byte, 1<<10)), sent)
	}
	if weight, n := c.Size(); weight > limit || n < 40 || n > 100 {
		t.Errorf("%d copies take %d bytes, want 40 to 100 copies in %d bytes", n, weight, limit)
	}
}

// TestTombstoneOfACopyIsNotEvicted fills a small cache while a reply about a record that was
// deleted meanwhile is under way.
func TestTombstoneOfACopyIsNotEvicted(t *testing.T) {
	t.Parallel()
	c, err := redisidem.NewCopyCache(64<<10, time.Minute, time.Minute)
	mustBe(t, err, nil)
	defer c.Close()
	fill := func(from, to int) {
		for i := from; i < to; i++ {
			c.Put(redisidem.FinishedKey("a", strconv.Itoa(i), "1:x", make([]byte, 200)), time.Now())
		}
	}
	fill(0, 1000)
	deleted := redisidem.FinishedKey("a", "deleted", "1:x", nil)
	sent := time.Now()
	time.Sleep(time.Millisecond)
	c.Forget(deleted)
	fill(1000, 2000)
	c.Put(deleted, sent)
	if k := c.Get(deleted, "a", "deleted", "1:x"); k != nil {
		t.Errorf("the copy of the deleted record is %+v, want none", k)
	}
}

// TestCopiesDoNotHoldReplies checks that a copy needs no more memory than CacheBytes counts: the
// texts of a key are parts of the reply that brought it, which has the stored body, too.
func TestCopiesDoNotHoldReplies(t *testing.T) {
	t.Parallel()
	c, err := redisidem.NewCopyCache(1<<20, time.Hour, time.Minute)
	mustBe(t, err, nil)
	defer c.Close()
	if c.HoldsReply("a", "k") {
		t.Error("the copy keeps the reply in memory")
	}
}
