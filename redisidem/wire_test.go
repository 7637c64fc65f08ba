package redisidem_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// wire watches a client's connections: it counts round trips, and can lose a reply.
type wire struct {
	mu    sync.Mutex
	trips int
	lose  *lua.Script // the next reply to it is lost
	then  func()      // runs while it is on its way
}

func (w *wire) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &wiredConn{Conn: conn, wire: w}, nil
	}
}

func (w *wire) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (w *wire) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// wiredConn is one connection of a wire. A round trip is a request behind which nothing is sent until something came back.
type wiredConn struct {
	net.Conn
	wire    *wire
	asking  bool
	losing  string // the nonce of the call whose reply is to be lost
	arrived bytes.Buffer
}

func (c *wiredConn) Write(b []byte) (int, error) {
	w := c.wire
	w.mu.Lock()
	if !c.asking {
		w.trips++
	}
	c.asking = true
	if w.lose != nil {
		if nonce := nonceOf(w.lose, b); nonce != "" {
			w.lose, c.losing = nil, nonce
		}
	}
	w.mu.Unlock()
	return c.Conn.Write(b)
}

func (c *wiredConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		w := c.wire
		w.mu.Lock()
		c.asking = false
		if c.losing == "" || err != nil {
			w.mu.Unlock()
			return n, err
		}
		// Whatever comes before the reply is lost with it.
		c.arrived.Write(b[:n])
		lost := bytes.Contains(c.arrived.Bytes(), []byte(c.losing))
		then := w.then
		w.mu.Unlock()
		if lost {
			if then != nil {
				then()
			}
			return 0, errors.Join(io.EOF, c.Close())
		}
	}
}

// nonceOf returns the nonce of a call of the script among what is sent, or "".
func nonceOf(s *lua.Script, sent []byte) string {
	for _, name := range []string{s.SHA, s.Source} {
		_, rest, found := strings.Cut(string(sent), name+"\r\n")
		if !found {
			continue
		}
		lines := strings.Split(rest, "\r\n") // each word behind a line with its length
		keys, err := strconv.Atoi(lines[1])
		if err == nil && len(lines) > 3+2*keys {
			return lines[3+2*keys]
		}
	}
	return ""
}

// took returns the round trips since it was asked last.
func (w *wire) took() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.trips
	w.trips = 0
	return n
}

// wired makes a service whose wire can be watched. The scripts are on the server already.
func (e *env) wired() (*redisidem.Service, *wire) {
	e.t.Helper()
	w := &wire{}
	client := e.client()
	if cluster, ok := client.(*redis.ClusterClient); ok {
		cluster.OnNewNode(func(node *redis.Client) { node.AddHook(w) })
	} else {
		client.AddHook(w)
	}
	e.load(client)
	cfg := e.config()
	svc, err := redisidem.New(client, &cfg)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		if err := svc.Close(ctx); err != nil {
			e.t.Error(err)
		}
	})
	// redislock keeps its script to itself, so work on keys of all nodes makes them know it.
	for i := range 24 {
		if _, err := svc.Scope("warm").Do(ctx, fmt.Sprint(i), request, finish("")); err != nil {
			e.t.Fatal(err)
		}
	}
	w.took()
	return svc, w
}

// load makes every server know the scripts.
func (e *env) load(client redis.UniversalClient) {
	e.t.Helper()
	load := func(ctx context.Context, node *redis.Client) error {
		for _, s := range lua.All() {
			if err := node.ScriptLoad(ctx, s.Source).Err(); err != nil {
				return err
			}
		}
		return nil
	}
	var err error
	switch c := client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, load)
	case *redis.Client:
		err = load(ctx, c)
	}
	if err != nil {
		e.t.Fatal(err)
	}
}

// TestRoundTrips counts what each operation costs, and prints it.
func TestRoundTrips(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc, w := e.wired()
		sc := svc.Scope("a")
		held, err := sc.Lock(ctx, start(t, sc, "held").Value)
		mustBe(t, err, nil)
		defer func() { mustBe(t, held.Abandon(ctx), nil) }()

		for _, c := range []struct {
			what string
			want int
			// operation prepares a key and returns what is to be counted.
			operation func(value string) func() error
		}{
			{"InitializeRequest, new", 1, func(value string) func() error {
				return func() error { _, err := sc.InitializeRequest(ctx, value, request); return err }
			}},
			{"InitializeRequest, replay", 1, func(value string) func() error {
				_, err := sc.Do(ctx, value, request, finish("done"))
				mustBe(t, err, nil)
				return func() error { _, err := sc.InitializeRequest(ctx, value, request); return err }
			}},
			{"WorkStage", 2, func(value string) func() error {
				key := start(t, sc, value)
				return func() error { _, err := sc.WorkStage(ctx, key, finish("done")); return err }
			}},
			{"Do, first", 2, func(value string) func() error {
				return func() error { _, err := sc.Do(ctx, value, request, finish("done")); return err }
			}},
			{"Do, replay", 1, func(value string) func() error {
				_, err := sc.Do(ctx, value, request, finish("done"))
				mustBe(t, err, nil)
				return func() error { _, err := sc.Do(ctx, value, request, finish("done")); return err }
			}},
			{"Do, refused", 1, func(string) func() error {
				return func() error {
					_, err := sc.Do(ctx, "held", request, finish("done"))
					mustBe(t, err, redisidem.ErrLocked)
					return nil
				}
			}},
			{"Abandon", 1, func(value string) func() error {
				lease, err := sc.Lock(ctx, start(t, sc, value).Value)
				mustBe(t, err, nil)
				return func() error { return lease.Abandon(ctx) }
			}},
			{"Retrieve", 1, func(value string) func() error {
				start(t, sc, value)
				return func() error { _, err := sc.Retrieve(ctx, value); return err }
			}},
		} {
			// An auto-pipeliner may catch the two commands of a claim halfway, and send them in two batches.
			tries, got := 1, 1<<30
			if e.auto {
				tries = 20
			}
			for i := 0; i < tries && got != c.want; i++ {
				operation := c.operation(fmt.Sprint(c.what, i))
				w.took()
				mustBe(t, operation(), nil)
				got = min(got, w.took())
			}
			t.Logf("%-26s %d", c.what, got)
			if got != c.want {
				t.Errorf("%s takes %d round trips, want %d", c.what, got, c.want)
			}
		}
	})
}

// The cases that broke earlier drafts of the protocol.

func TestStageThatLoopsKeepsItsSecondResult(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		start(t, sc, "k")
		lease, err := sc.Lock(ctx, "k")
		mustBe(t, err, nil)
		for i := range 3 {
			for _, point := range []string{"page", "check"} {
				_, held, err := lease.CommitKeep(ctx, redisidem.Advance(point).WithState(fmt.Sprint(point, i)))
				mustBe(t, err, nil)
				if !held {
					t.Fatal("not held")
				}
			}
		}
		_, err = lease.Commit(ctx, redisidem.Interim("check", redisidem.JSON(202, "first")))
		mustBe(t, err, nil)
		for _, text := range []string{"second", "third"} {
			key, err := sc.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				var state string
				if err := st.State(&state); err != nil || state != "check2" {
					t.Errorf("state is %q, %v", state, err)
				}
				return redisidem.Interim("check", redisidem.JSON(202, text)), nil
			})
			mustBe(t, err, nil)
			if !key.Answered() || key.Finished() {
				t.Errorf("key is %+v", key)
			}
			key = start(t, sc, "k")
			if string(key.Response.Body) != `"`+text+`"` || key.Answered() {
				t.Errorf("stored is %q", key.Response.Body)
			}
		}
		if key := start(t, sc, "k"); key.Revision != 9 || len(key.Journal) != 9 {
			t.Errorf("revision %d, journal %v", key.Revision, key.Journal)
		}
	})
}

func TestInterimCommitWhoseReplyWasLostIsNotCalledFenced(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc, w := e.wired()
		other := e.service().Scope("a")
		sc := svc.Scope("a")
		key := start(t, sc, "k")
		w.mu.Lock()
		w.lose, w.then = lua.Commit, func() {
			_, err := other.Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Interim("started", redisidem.JSON(202, "other")), nil
			})
			if err != nil {
				t.Error(err)
			}
		}
		w.mu.Unlock()
		got, err := sc.WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Interim("started", redisidem.JSON(202, "mine")), nil
		})
		mustBe(t, err, nil)
		if !got.Answered() || string(got.Response.Body) != `"mine"` || got.Revision != 1 {
			t.Errorf("got %+v", got)
		}
		if now := start(t, sc, "k"); now.Revision != 2 || string(now.Response.Body) != `"other"` {
			t.Errorf("stored %+v", now)
		}
	})
}

func TestStaleViewCannotTakeOrReleaseAnUncontestedLease(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, other := e.service().Scope("a"), e.service().Scope("a")
		raw := e.client()
		stale := start(t, other, "k")
		_, lock := e.place(stale)
		lease, err := sc.Lock(ctx, "k")
		mustBe(t, err, nil)
		_, held, err := lease.CommitKeep(ctx, redisidem.Advance("next"))
		if err != nil || !held {
			t.Fatal(held, err)
		}
		mustBe(t, raw.Del(ctx, lock).Err(), nil) // the lock lapses
		fresh, err := other.WorkStage(ctx, stale, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			t.Error("the callback ran on a stale view")
			return redisidem.Outcome{}, nil
		})
		mustBe(t, err, nil)
		if fresh.RecoveryPoint != "next" || fresh.Attempts != 1 {
			t.Errorf("fresh is %+v", fresh)
		}
		if n := raw.Exists(ctx, lock).Val(); n != 0 {
			t.Error("a lock is left")
		}
		key, err := lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "mine")))
		mustBe(t, err, nil)
		if !key.Finished() {
			t.Error("not finished")
		}
		e.mustBeTidy(raw)
	})
}

func TestMismatchAndGoneStrandNoLock(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		key := start(t, sc, "k")
		_, err := sc.Do(ctx, "k", redisidem.Request{Method: "PUT"}, finish("x"))
		mustBe(t, err, redisidem.ErrFingerprintMismatch)
		_, err = sc.Lock(ctx, "absent")
		mustBe(t, err, redisidem.ErrNotFound)
		e.mustBeTidy(e.client())
		_, err = sc.WorkStage(ctx, key, finish("x"))
		mustBe(t, err, nil)
		_, err = sc.Lock(ctx, "k")
		mustBe(t, err, redisidem.ErrFinished)
		e.mustBeTidy(e.client())
	})
}

func TestShortLeaseCallerNeverShortensAnothersLock(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		long := e.service(func(c *redisidem.Config) { c.Lease = time.Minute }).Scope("a")
		short := e.service(func(c *redisidem.Config) { c.Lease = time.Second }).Scope("a")
		key := start(t, long, "k")
		_, lock := e.place(key)
		lease, err := long.Lock(ctx, "k")
		mustBe(t, err, nil)
		for _, seen := range []*redisidem.Key{key, start(t, short, "k")} {
			_, err = short.WorkStage(ctx, seen, finish("x"))
			mustBe(t, err, redisidem.ErrLocked)
		}
		if left := e.client().PTTL(ctx, lock).Val(); left < 50*time.Second {
			t.Errorf("%v left of a minute", left)
		}
		mustBe(t, lease.Abandon(ctx), nil)
	})
}

func TestLockThatOutlivesItsLeaseIsReanchored(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, other := e.service().Scope("a"), e.service().Scope("a")
		key := start(t, sc, "k")
		_, lock := e.place(key)
		lease, err := sc.Lock(ctx, "k")
		mustBe(t, err, nil)
		// What is left looks so long after the server's clock was set back by an hour.
		mustBe(t, e.client().PExpire(ctx, lock, time.Hour).Err(), nil)
		_, err = other.WorkStage(ctx, key, finish("x"))
		mustBe(t, err, redisidem.ErrLocked)
		if left := e.client().PTTL(ctx, lock).Val(); left > 10*time.Second {
			t.Errorf("%v left of a 10 s lease", left)
		}
		mustBe(t, lease.Abandon(ctx), nil)
	})
}

func TestKeptCommitAfterExpiryReportsThatTheLeaseIsGone(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service(func(c *redisidem.Config) { c.Lease = time.Hour }).Scope("a") // which is not renewed in the meantime
		raw := e.client()
		key := start(t, sc, "k")
		_, lock := e.place(key)
		lease, err := sc.Lock(ctx, "k")
		mustBe(t, err, nil)
		// The lock lapsed, and another worker stands between its two steps: it has the lock, and no claim yet.
		mustBe(t, raw.Set(ctx, lock, "another worker's token", time.Minute).Err(), nil)
		next, held, err := lease.CommitKeep(ctx, redisidem.Advance("next"))
		mustBe(t, err, nil)
		if held || next.RecoveryPoint != "next" {
			t.Errorf("held %v, key %+v", held, next)
		}
		mustBe(t, context.Cause(lease.Context()), redisidem.ErrLeaseLost)
		_, _, err = lease.CommitKeep(ctx, redisidem.Advance("third"))
		mustBe(t, err, redisidem.ErrLeaseEnded)
		if got := raw.Get(ctx, lock).Val(); got != "another worker's token" {
			t.Errorf("the lock is %q", got)
		}
		mustBe(t, raw.Del(ctx, lock).Err(), nil)
		key, err = sc.Wait(5*time.Second).WorkStage(ctx, next, finish("x"))
		mustBe(t, err, nil)
		if !key.Finished() {
			t.Error("not finished")
		}
	})
}

func TestConcurrentKeptCommitsAreOneAfterTheOther(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		start(t, sc, "k")
		lease, err := sc.Lock(ctx, "k")
		mustBe(t, err, nil)
		var wg sync.WaitGroup
		revisions := make([]int64, 2)
		for i := range revisions {
			wg.Go(func() {
				key, _, err := lease.CommitKeep(ctx, redisidem.Advance(fmt.Sprint("point", i)))
				if err != nil {
					t.Error(err)
				}
				revisions[i] = key.Revision
			})
		}
		wg.Wait()
		if revisions[0] == revisions[1] {
			t.Errorf("two commits were told that they are revision %d", revisions[0])
		}
		mustBe(t, lease.Abandon(ctx), nil)
	})
}
