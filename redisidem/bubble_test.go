package redisidem_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// bubble is a world with a clock of its own: services and an embedded Redis whose time passes only when all wait.
// synctest ends the test when a goroutine is left over, so each of these tests checks for leaks, too.
type bubble struct {
	*testing.T
	server *miniredis.Miniredis

	mu       sync.Mutex
	frozen   bool // the server answers nobody
	muted    bool // its answers get lost
	holding  bool // the network keeps what is sent
	held     [][]byte
	requests int // that were sent, each as one or several commands
	last     []byte
	conns    []*freezable
}

// inBubble runs a test in fake time.
func inBubble(t *testing.T, test func(b *bubble)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t, server: miniredis.NewMiniRedis()}
		b.server.ClockTTL(true)
		defer b.server.Close()
		test(b)
	})
}

// service makes a service on a client of its own, as another process would have it.
func (b *bubble) service(cfg redisidem.Config) *redisidem.Service {
	b.Helper()
	rdb := redis.NewClient(&redis.Options{
		Addr:                     "127.0.0.1:1", // never dialled
		Dialer:                   b.dial,
		ContextTimeoutEnabled:    true,
		DisableIdentity:          true,
		MaxRetries:               -1,
		DialerRetries:            1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	rdb.AddHook(emptyShards{b})
	svc, err := redisidem.New(rdb, &cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		if err := svc.Close(ctx); err != nil {
			b.Errorf("close: %v", err)
		}
		_ = rdb.Close()
		time.Sleep(2 * time.Second) // a pool that could not dial looks once a second whether it may end
	})
	return svc
}

func (b *bubble) dial(context.Context, string, string) (net.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.frozen {
		return nil, errors.New("connection refused")
	}
	conn, err := b.server.Dial()
	if err != nil {
		return nil, err
	}
	c := &freezable{Conn: conn, bubble: b}
	b.conns = append(b.conns, c)
	return c, nil
}

// emptyShards answers for shards without a due index, as the script does. A sweep asks 1024 shards,
// nearly all of which are empty in a test, and the embedded server takes long to start a script.
type emptyShards struct{ bubble *bubble }

func (h emptyShards) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h emptyShards) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h emptyShards) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if len(cmds) == 1 {
			if cmd, ok := cmds[0].(scriptCmd); ok && h.answer(cmd) {
				return nil
			}
		}
		return next(ctx, cmds)
	}
}

type scriptCmd interface {
	redis.Cmder
	SetVal(reply []string)
}

// answer sets the result of a command if it is the script due, for a shard that has no index.
func (h emptyShards) answer(cmd scriptCmd) bool {
	const sha, index, nonce, aside, until = 1, 3, 4, 6, 8
	args := make([]string, len(cmd.Args()))
	for i, arg := range cmd.Args() {
		args[i] = fmt.Sprint(arg)
	}
	if len(args) != until+1 || args[sha] != lua.Due.SHA || h.bubble.server.Exists(args[index]) {
		return false
	}
	h.bubble.mu.Lock()
	defer h.bubble.mu.Unlock()
	if h.bubble.frozen || h.bubble.muted || h.bubble.holding {
		return false
	}
	h.bubble.requests++
	now := time.Now().UnixMilli()
	pause, err := strconv.ParseInt(args[aside], 10, 64)
	if err != nil {
		return false
	}
	bound := now
	if before, err := strconv.ParseInt(args[until], 10, 64); err == nil {
		bound = min(now, before)
	}
	cmd.SetVal([]string{fmt.Sprintf("OK %s %d %d", args[nonce], now+pause, bound)})
	return true
}

// freeze cuts every connection and refuses new ones, until thaw.
func (b *bubble) freeze() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.frozen = true
	for _, c := range b.conns {
		_ = c.Close()
	}
	b.conns = nil
}

func (b *bubble) thaw() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.frozen, b.muted = false, false
}

// mute lets no answer through, until thaw; connections stay.
func (b *bubble) mute() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.muted = true
}

// hold lets the network keep what is sent from now on, for that long. It arrives when deliver is
// called.
func (b *bubble) hold(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holding = true
	time.AfterFunc(d, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.holding = false
	})
}

// deliver gives the server what the network has kept, and reports how much that was.
func (b *bubble) deliver() int {
	b.Helper()
	b.mu.Lock()
	held := b.held
	b.held = nil
	b.mu.Unlock()
	for _, request := range held {
		b.send(request)
	}
	return len(held)
}

// lock returns the Redis key of a lock that is held, "" if there is none.
func (b *bubble) lock() string {
	for _, k := range b.server.Keys() {
		if strings.HasSuffix(k, ":lock") {
			return k
		}
	}
	return ""
}

// repeated returns what gives the server the last request once more, as when the network had doubled it.
func (b *bubble) repeated() func() {
	b.mu.Lock()
	request := b.last
	b.mu.Unlock()
	return func() {
		b.Helper()
		b.send(request)
	}
}

// send gives the server a request on a connection of its own.
func (b *bubble) send(request []byte) {
	b.Helper()
	conn, err := b.server.Dial()
	mustBe(b, err, nil)
	_, err = conn.Write(request)
	mustBe(b, err, nil)
	for reply := make([]byte, 4096); err == nil; {
		mustBe(b, conn.SetReadDeadline(time.Now().Add(time.Millisecond)), nil)
		_, err = conn.Read(reply)
	}
	mustBe(b, conn.Close(), nil)
}

type freezable struct {
	net.Conn
	bubble *bubble
}

func (c *freezable) Write(p []byte) (int, error) {
	c.bubble.mu.Lock()
	c.bubble.requests++
	c.bubble.last = bytes.Clone(p)
	holding := c.bubble.holding
	if holding {
		c.bubble.held = append(c.bubble.held, c.bubble.last)
	}
	c.bubble.mu.Unlock()
	if holding {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *freezable) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		c.bubble.mu.Lock()
		muted := c.bubble.muted
		c.bubble.mu.Unlock()
		if err != nil || !muted {
			return n, err
		}
	}
}

var ctx = context.Background()

var request = redisidem.Request{Method: "POST", Path: "/carts/1/complete", Params: map[string]any{"cart": 1}}

// start makes a key in a scope.
func start(t testing.TB, sc *redisidem.Scope, value string) *redisidem.Key {
	t.Helper()
	key, err := sc.InitializeRequest(ctx, value, request)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// mustBe fails the test unless err is what is wanted; nil wants none.
func mustBe(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

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
			b.Errorf("renewed %d times", got)
		}
	})
}

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
				b.Errorf("cancelled after %v", took)
			}
			time.Sleep(10 * time.Second) // it hangs on
			_, err := other.WorkStage(context.Background(), key, finish("by the other"))
			mustBe(b, err, nil)
			return redisidem.Finish(redisidem.JSON(200, "too late")), nil
		})
		mustBe(b, err, redisidem.ErrFenced)
	})
}

func TestCommitIsRetriedInTheBackgroundUntilItLands(t *testing.T) {
	inBubble(t, func(b *bubble) {
		rec := &recorder{}
		svc := b.service(redisidem.Config{Observer: rec})
		sc := svc.Scope("a")
		began := time.Now()
		_, err := sc.WorkStage(ctx, start(b, sc, "k"), func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			b.freeze()
			began = time.Now()
			return redisidem.Finish(redisidem.JSON(201, "done")), nil
		})
		mustBe(b, err, redisidem.ErrOutcomeUnknown)
		if errors.Is(err, redisidem.ErrUnavailable) {
			b.Error("ErrUnavailable says that no callback ran")
		}
		if took := time.Since(began); took > 550*time.Millisecond {
			b.Errorf("returned after %v", took)
		}
		time.Sleep(30 * time.Second)
		b.thaw()
		mustBe(b, svc.Close(ctx), nil) // waits for the commit
		key, err := b.service(redisidem.Config{}).Scope("a").InitializeRequest(ctx, "k", request)
		mustBe(b, err, nil)
		if !key.Replayed() || string(key.Response.Body) != `"done"` || key.Attempts != 1 {
			b.Errorf("key is %+v", key)
		}
		if rec.count(redisidem.EventOutcomeUnknown) != 1 || rec.count(redisidem.EventCommitted) != 1 {
			b.Errorf("events: %v", rec.kinds())
		}
	})
}

func TestCloseGivesUpOnCommitsWhenItsContextEnds(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		_, err := sc.WorkStage(ctx, start(b, sc, "k"), func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			b.freeze()
			return redisidem.Outcome{}, nil
		})
		mustBe(b, err, redisidem.ErrOutcomeUnknown)
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		mustBe(b, svc.Close(short), context.DeadlineExceeded)
		_, err = sc.InitializeRequest(ctx, "k", request)
		mustBe(b, err, redisidem.ErrClosed)
		b.thaw()
	})
}

func TestCloseWaitsForStages(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		key := start(b, sc, "k")
		done := make(chan error)
		running := make(chan struct{})
		go func() {
			_, err := sc.WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				close(running)
				time.Sleep(20 * time.Second)
				return redisidem.Outcome{}, nil
			})
			done <- err
		}()
		<-running
		began := time.Now()
		go func() { done <- svc.Close(ctx) }()
		mustBe(b, <-done, nil)
		mustBe(b, <-done, nil)
		if took := time.Since(began); took < 20*time.Second || took > 21*time.Second {
			b.Errorf("closed after %v", took)
		}
	})
}

func TestWaiterGetsTheWinnersAnswer(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := redisidem.Config{Wait: 30 * time.Second}
		one, two := b.service(cfg).Scope("a"), b.service(cfg).Scope("a")
		key := start(b, one, "k")
		running := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := one.WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				close(running)
				time.Sleep(5 * time.Second)
				return redisidem.Finish(redisidem.JSON(201, "one")), nil
			})
			mustBe(b, err, nil)
		}()
		<-running
		began := time.Now()
		got, err := two.WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			b.Error("ran a second time")
			return redisidem.Outcome{}, nil
		})
		mustBe(b, err, nil)
		if !got.Replayed() || string(got.Response.Body) != `"one"` {
			b.Errorf("got %+v", got)
		}
		if took := time.Since(began); took < 5*time.Second || took > 5*time.Second+300*time.Millisecond {
			b.Errorf("waited %v", took)
		}
		<-done
	})
}

func TestWaiterThatLosesPatienceHasChangedNothing(t *testing.T) {
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
				b.Errorf("waited %v", took)
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

// dumpWithoutWaiting returns what the server holds, without where waiters want to be told.
func dumpWithoutWaiting(b *bubble) string {
	var lines []string
	for line := range strings.Lines(b.server.Dump()) {
		if !strings.Contains(line, "waiting: ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// finish is a stage that ends the work with a text.
func finish(text string) redisidem.StageFunc {
	return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Finish(redisidem.JSON(200, text)), nil
	}
}

// recorder is an observer that remembers.
type recorder struct {
	mu     sync.Mutex
	events []redisidem.Event
}

func (r *recorder) Observe(_ context.Context, e redisidem.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) count(kind redisidem.EventKind) (n int) {
	for _, k := range r.kinds() {
		if k == kind {
			n++
		}
	}
	return n
}

func (r *recorder) kinds() (kinds []redisidem.EventKind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// TestEmptyShardsAnswerAsTheScript compares the bubble's short cut for empty shards with the script.
func TestEmptyShardsAnswerAsTheScript(t *testing.T) {
	inBubble(t, func(b *bubble) {
		rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", Dialer: b.dial, DisableIdentity: true})
		defer func() { _ = rdb.Close() }()
		for _, until := range []string{"", "0", "99999999999999"} {
			words := []any{"nonce", 16, 10_000, 3_600_000, until}
			want, err := rdb.Eval(ctx, lua.Due.Source, []string{"ns:{000}:due:cart"}, words...).StringSlice()
			mustBe(b, err, nil)
			cmd := redis.NewStringSliceCmd(ctx, append([]any{"evalsha", lua.Due.SHA, 1, "ns:{000}:due:cart"}, words...)...)
			if !(emptyShards{b}).answer(cmd) || !slices.Equal(cmd.Val(), want) {
				b.Errorf("the short cut answers %q, want %q", cmd.Val(), want)
			}
		}
	})
}
