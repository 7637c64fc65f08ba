//go:build unix

package faults

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/lua"
)

// refusal is a state in which a server refuses commands. Its text is the word that the errors begin
// with.
type refusal string

const (
	loading    refusal = "LOADING"
	busy       refusal = "BUSY"
	readOnly   refusal = "READONLY"
	oom        refusal = "OOM"
	noReplicas refusal = "NOREPLICAS"
	masterDown refusal = "MASTERDOWN"
)

// backend is a server that belongs to one test.
type backend interface {
	Addr() string
	// begin brings the server into a state, and returns a function that ends the state.
	begin(t testing.TB, r refusal) (end func())
}

// backends are the names that newBackend accepts.
var backends = []string{"miniredis", "redis"}

func newBackend(t testing.TB, name string) backend {
	t.Helper()
	if name == "redis" {
		return newProcess(t)
	}
	return newEmbedded(t)
}

// process is a Redis server. Each of its states is real, not injected.
type process struct {
	*redistest.Server
	admin *redis.Client
}

func newProcess(t testing.TB, args ...string) process {
	t.Helper()
	args = append(args, "--busy-reply-threshold", "100", "--enable-debug-command", "yes",
		"--loading-process-events-interval-bytes", "1024") // answers while it loads even a small data set
	s := rediscase.Server(t, redistest.Args(args...))
	admin := dial(t, s.Addr(), func(o *redis.Options) { o.ReadTimeout = patience })
	return process{s, admin}
}

// begin implements backend.
func (p process) begin(t testing.TB, r refusal) (end func()) {
	t.Helper()
	set := func(name, during, after string) func() {
		p.set(t, name, during)
		return func() { p.set(t, name, after) }
	}
	switch r {
	case oom:
		return set("maxmemory", "1", "0")
	case noReplicas:
		return set("min-replicas-to-write", "1", "0")
	case readOnly:
		return p.follow(t)
	case masterDown:
		stale := set("replica-serve-stale-data", "no", "yes")
		master := p.follow(t)
		return func() { master(); stale() }
	case busy:
		return p.hang(t)
	case loading:
		return p.reload(t)
	}
	t.Fatalf("unknown state %s", r)
	return nil
}

func (p process) set(t testing.TB, name, value string) {
	if err := p.admin.ConfigSet(context.Background(), name, value).Err(); err != nil {
		t.Errorf("set %s: %v", name, err)
	}
}

// follow makes the server the replica of a master that does not exist.
func (p process) follow(t testing.TB) (end func()) {
	t.Helper()
	must(t, p.admin.Do(context.Background(), "REPLICAOF", "127.0.0.1", "1").Err())
	return func() {
		if err := p.admin.Do(context.Background(), "REPLICAOF", "NO", "ONE").Err(); err != nil {
			t.Errorf("make it a master again: %v", err)
		}
	}
}

// hang runs a foreign script until the end of the state.
func (p process) hang(t testing.TB) (end func()) {
	t.Helper()
	var running sync.WaitGroup
	running.Go(func() {
		err := p.admin.Eval(context.Background(), "while true do end", nil).Err()
		if err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("the foreign script ended with %v", err)
		}
	})
	p.await(t, busy)
	return func() {
		if err := p.admin.ScriptKill(context.Background()).Err(); err != nil {
			t.Errorf("kill the foreign script: %v", err)
		}
		running.Wait()
	}
}

// reload makes the server load its data set slowly, from a snapshot that it takes right before.
func (p process) reload(t testing.TB) (end func()) {
	t.Helper()
	ctx := context.Background()
	must(t, p.admin.Do(ctx, "DEBUG", "POPULATE", 10_000, "padding", 100).Err())
	p.set(t, "key-load-delay", "1000") // microseconds
	var running sync.WaitGroup
	running.Go(func() {
		if err := p.admin.Do(ctx, "DEBUG", "RELOAD").Err(); err != nil {
			t.Errorf("reload: %v", err)
		}
	})
	p.await(t, loading)
	return func() {
		p.set(t, "key-load-delay", "0")
		running.Wait()
	}
}

// await blocks until the server refuses commands with r.
func (p process) await(t testing.TB, r refusal) {
	t.Helper()
	for began := time.Now(); time.Since(began) < patience; time.Sleep(5 * time.Millisecond) {
		if err := p.admin.Get(context.Background(), "nothing").Err(); redis.HasErrorPrefix(err, string(r)) {
			return
		}
	}
	t.Fatalf("the server does not say %s", r)
}

// embedded is miniredis, which knows none of these states. Scripts, and the lock's SET, are refused
// as they arrive.
type embedded struct {
	mini  *miniredis.Miniredis
	state atomic.Pointer[refusal]
}

func newEmbedded(t testing.TB) *embedded {
	t.Helper()
	e := &embedded{mini: miniredis.RunT(t)}
	e.mini.ClockTTL(true)
	e.mini.Server().SetPreHook(e.refuse)
	return e
}

// Addr implements backend.
func (e *embedded) Addr() string { return e.mini.Addr() }

// begin implements backend.
func (e *embedded) begin(_ testing.TB, r refusal) (end func()) {
	e.state.Store(&r)
	return func() { e.state.Store(nil) }
}

// refuse answers a command in place of the server, and reports whether it has.
func (e *embedded) refuse(c *server.Peer, command string, args ...string) bool {
	r := e.state.Load()
	if r == nil {
		return false
	}
	switch command {
	case "SET": // needs memory
	case "EVAL", "EVALSHA":
		if *r == oom && e.fits(args) {
			return false
		}
	default:
		return false
	}
	c.WriteError(fmt.Sprintf("%s this refusal was injected by the test", *r))
	return true
}

// fits reports whether Redis would run the script while its memory is full. It removes the flags of
// the script, which miniredis does not know.
func (e *embedded) fits(args []string) bool {
	source, flagged := strings.CutPrefix(args[0], "#!lua flags=allow-oom\n")
	if flagged {
		args[0] = source
		return true
	}
	switch args[0] {
	case lua.Renew.SHA, lua.Renew.Source, lua.Abandon.SHA, lua.Abandon.Source: // the lock already exists
		return true
	case lua.Claim.SHA, lua.Claim.Source: // needs memory only to create a lock
		return e.mini.HGet(args[2], "recovery_point") == "finished" || e.mini.Exists(args[3])
	}
	return false
}
