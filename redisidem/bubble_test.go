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

	"github.com/redisidem/redisidem/redisidem"
)

// bubble is a world with its own clock: services and an embedded Redis, whose time passes only
// while all goroutines wait. synctest fails the test when a goroutine is left over, so each of
// these tests also checks for leaks.
type bubble struct {
	*testing.T
	server *miniredis.Miniredis

	mu       sync.Mutex
	frozen   bool // the server does not answer
	muted    bool // its answers get lost
	holding  bool // the network keeps what is sent
	held     [][]byte
	requests int // that were sent; a pipeline counts as one
	looks    int // of these, the ones that ask for all due indexes of a flow
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

// service makes a service on its own client, as another process would have it.
func (b *bubble) service(cfg redisidem.Config) *redisidem.Service {
	b.Helper()
	rdb := redis.NewClient(&redis.Options{
		Addr:                     "127.0.0.1:1", // never dialled
		Dialer:                   b.dial,
		ContextTimeoutEnabled:    true,
		DisableIdentity:          true,
		WriteBufferSize:          1 << 20, // each request is one piece
		MaxRetries:               -1,
		DialerRetries:            1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
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
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	}
	conn, err := b.server.Dial()
	if err != nil {
		return nil, err
	}
	c := &freezable{Conn: conn, bubble: b}
	b.conns = append(b.conns, c)
	return c, nil
}

// word returns a word of a command as it is sent.
func word(arg any) string {
	switch arg := arg.(type) {
	case *string:
		return *arg
	case *int64:
		return strconv.FormatInt(*arg, 10)
	}
	return fmt.Sprint(arg)
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

// hold makes the network keep everything that is sent during d. It arrives when deliver is called.
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

// deliver sends the requests that the network has kept to the server, and returns their number.
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

// lock returns the Redis key of a lock that is held, or "" if no lock is held.
func (b *bubble) lock() string {
	for _, k := range b.server.Keys() {
		if strings.HasSuffix(k, ":lock") {
			return k
		}
	}
	return ""
}

// repeated returns a function that sends the last request to the server once more, as if the
// network had duplicated it.
func (b *bubble) repeated() func() {
	b.mu.Lock()
	request := b.last
	b.mu.Unlock()
	return func() {
		b.Helper()
		b.send(request)
	}
}

// send sends a request to the server on a connection of its own.
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

// scans returns how often all due indexes of a flow were asked for.
func (b *bubble) scans() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.looks
}

func (c *freezable) Write(p []byte) (int, error) {
	c.bubble.mu.Lock()
	c.bubble.requests++
	if bytes.Contains(p, []byte("exists")) && bytes.Count(p, []byte("}:due:")) > 1000 {
		c.bubble.looks++
	}
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

// mustBe fails the test unless err is the error that is wanted; nil wants no error.
func mustBe(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

// finish is a stage that ends the work with a text.
func finish(text string) redisidem.StageFunc {
	return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Finish(redisidem.JSON(200, text)), nil
	}
}

// recorder is an observer that records all events.
type recorder struct {
	mu     sync.Mutex
	events []redisidem.Event
}

func (r *recorder) Observe(_ context.Context, e redisidem.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// all returns the events so far.
func (r *recorder) all() []redisidem.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
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
	for i := range r.events {
		kinds = append(kinds, r.events[i].Kind)
	}
	return kinds
}
