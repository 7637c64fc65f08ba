//go:build unix

package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/rung"
)

// TestMatrix runs each cell on a server of its own. It checks the results of the caller and of a
// retry by another process, the number of callbacks, and the content of Redis.
func TestMatrix(t *testing.T) {
	var passed [2]atomic.Int64
	t.Run("cells", func(t *testing.T) {
		for _, auto := range []bool{false, true} {
			for i, name := range backends {
				for _, o := range operations {
					for _, f := range faults {
						t.Run(fmt.Sprintf("%s/auto=%t/%s/%s", name, auto, o.name, f.name), func(t *testing.T) {
							t.Parallel()
							// A late request arrives while the key is free, or while another worker
							// has the lease.
							for _, early := range []bool{false, true} {
								if early && (f.name != lateDelivery || o.usual.replay) {
									break
								}
								c := newCell(t, newBackend(t, name), auto, o, f)
								c.early = early
								c.run()
							}
							if !t.Failed() {
								passed[i].Add(1)
							}
						})
					}
				}
			}
		}
	})
	all := 2 * len(operations) * len(faults)
	rung.Figure(t, "R7", "%d/%d cells on miniredis, %d/%d on Redis: %d operations x %d faults, plain and auto-pipelined",
		passed[0].Load(), all, passed[1].Load(), all, len(operations), len(faults))
}

// cell is one operation under one fault.
type cell struct {
	t         *testing.T
	operation operation
	fault     fault
	want      want

	began        time.Time
	backend      backend
	proxy        *redistest.Proxy
	errorWatcher *errorWatcher
	raw          *redis.Client    // bypasses the proxy
	scope        *redisidem.Scope // of the caller, behind the proxy
	other        *redisidem.Scope // of another process, which bypasses the proxy

	ctx     context.Context // of the caller
	cancel  context.CancelFunc
	running sync.WaitGroup
	runs    atomic.Int64 // of the caller's callback

	met   <-chan struct{} // nil until the fault is armed
	end   func()
	early bool // the delayed request is delivered before the retry, not during its callback
}

func newCell(t *testing.T, b backend, auto bool, o operation, f fault) *cell {
	t.Helper()
	c := &cell{t: t, operation: o, fault: f, want: o.usual, began: time.Now(), backend: b, errorWatcher: &errorWatcher{}, end: nothing}
	if w, ok := o.except[f.name]; ok {
		c.want = w
	}
	c.proxy = rediscase.Proxy(t, b.Addr())
	c.raw = dial(t, b.Addr())
	client := dial(t, c.proxy.Addr())
	client.AddHook(c.errorWatcher)
	automatic := func(cfg *redisidem.Config) { cfg.AutoPipeline = auto }
	c.scope = serve(t, client, automatic).Scope("a")
	c.other = serve(t, dial(t, b.Addr()), automatic).Scope("a")
	c.ctx, c.cancel = context.WithCancel(context.Background())
	t.Cleanup(func() {
		c.end()
		c.cancel()
		c.running.Wait()
	})
	// The server knows the scripts, so that the fault strikes an EVALSHA.
	_, err := c.scope.InitializeRequest(c.ctx, "warm", request)
	must(t, err)
	held, err := c.scope.Lock(c.ctx, "warm")
	must(t, err)
	must(t, held.Renew(c.ctx))
	must(t, held.Abandon(c.ctx))
	_, err = c.scope.Do(c.ctx, "warm", request, c.work)
	must(t, err)
	c.runs.Store(0)
	return c
}

// work is the caller's callback.
func (c *cell) work(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
	c.runs.Add(1)
	return answer("work"), nil
}

// arm makes the fault strike from now on.
func (c *cell) arm() { c.met, c.end = c.fault.strike(c) }

// awaitMet blocks until the fault has struck.
func (c *cell) awaitMet() {
	c.t.Helper()
	select {
	case <-c.met:
	case <-time.After(patience):
		c.t.Fatal("the fault did not strike")
	}
}

func (c *cell) run() {
	t := c.t
	then, results := c.operation.do(c)
	if !c.want.unmet {
		c.awaitMet()
	}
	c.mustGet(results)
	if got := int(c.runs.Load()); got != c.want.runs {
		t.Errorf("the callback ran %d times, want %d", got, c.want.runs)
	}
	c.mustHold()
	if then != nil {
		if err := then(); err != nil {
			t.Errorf("the worker with the lease gets %v", err)
		}
	}
	// A finished key is replayed in any state of the server. To begin again, the server must be
	// well.
	if !c.want.replay {
		c.end()
	}
	c.retry()
	c.end()
}

func (c *cell) mustGet(results error) {
	c.t.Helper()
	if len(c.want.results) == 0 && results != nil {
		c.t.Errorf("the caller gets %v", results)
	}
	for _, e := range c.want.results {
		if !errors.Is(results, e) {
			c.t.Errorf("the caller gets %v, want %v", results, e)
		}
	}
}

// place returns the names of the key's record and lock.
func (c *cell) place() (record, lock string) {
	c.t.Helper()
	names, err := c.raw.Keys(context.Background(), "*:"+c.scope.ID(value)).Result()
	must(c.t, err)
	if len(names) != 1 {
		return "", ""
	}
	return names[0], names[0] + ":lock"
}

// mustHold checks the content of Redis. It waits, since leases are given back in the background.
func (c *cell) mustHold() {
	c.t.Helper()
	var problem string
	for began := time.Now(); time.Since(began) < patience; time.Sleep(5 * time.Millisecond) {
		if problem = c.compare(); problem == "" {
			return
		}
	}
	c.t.Error(problem)
}

// compare describes the difference between the content of Redis and the expected content.
func (c *cell) compare() string {
	ctx := context.Background()
	record, lock := c.place()
	if record == "" {
		if locks := c.raw.Keys(ctx, "*"+c.scope.ID(value)+"*").Val(); c.want.point != "" || len(locks) > 0 {
			return fmt.Sprintf("there is no record, and %q", locks)
		}
		return ""
	}
	fields := c.raw.HGetAll(ctx, record).Val()
	control := strings.Fields(fields["control"])
	const revision, token, attempts, words = 1, 2, 5, 10
	if len(control) != words {
		return fmt.Sprintf("the control field is %q", control)
	}
	wantRevision := "0"
	if c.want.point == redisidem.Finished {
		wantRevision = "1"
	}
	holder := c.raw.Get(ctx, lock).Val()
	kept, left := c.raw.PTTL(ctx, record).Val(), c.raw.PTTL(ctx, lock).Val()
	age := time.Since(c.began) // of anything that was written
	switch {
	case fields["recovery_point"] != c.want.point || control[revision] != wantRevision:
		return fmt.Sprintf("the record is at %s, revision %s", fields["recovery_point"], control[revision])
	case control[attempts] != fmt.Sprint(c.want.attempts):
		return fmt.Sprintf("the record has %s attempts, want %d", control[attempts], c.want.attempts)
	case kept > retention+lease || kept < retention-age:
		return fmt.Sprintf("the record is kept for %v", kept)
	case c.want.locked && (holder == "" || holder != control[token]):
		return fmt.Sprintf("the lock is %q, and the record is %q's", holder, control[token])
	case c.want.locked && (left > lease || left < lease-age):
		return fmt.Sprintf("the lock has %v left", left)
	case !c.want.locked && (holder != "" || control[token] != "-"):
		return fmt.Sprintf("the lock is left to %q, the record to %q", holder, control[token])
	}
	return ""
}

// retry repeats the request from another process, twice.
func (c *cell) retry() {
	t := c.t
	t.Helper()
	if c.want.replay || c.early {
		c.deliver()
	}
	runs := 0
	key, err := c.other.Do(context.Background(), value, request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		runs++
		if st.Attempt() != c.want.attempts+1 {
			t.Errorf("the retry is attempt %d", st.Attempt())
		}
		if !c.early {
			c.deliver()
		}
		return answer("retry"), nil
	})
	if err != nil {
		t.Fatalf("the retry gets %v", err)
	}
	wantRuns, wantBody, wantAttempts := 1, "retry", c.want.attempts+1
	if c.want.replay {
		wantRuns, wantBody, wantAttempts = 0, "work", c.want.attempts
	}
	if runs != wantRuns || bodyOf(key) != wantBody || key.Replayed() != c.want.replay {
		t.Errorf("the retry ran %d times and got %q, replayed %t", runs, bodyOf(key), key.Replayed())
	}
	if key.Attempts != wantAttempts || key.Revision != 1 || len(key.Journal) != 1 {
		t.Errorf("the retry got %+v", key)
	}
	again, err := c.other.Do(context.Background(), value, request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		t.Error("finished work ran again")
		return answer("again"), nil
	})
	if err != nil || !again.Replayed() || bodyOf(again) != wantBody {
		t.Errorf("the second retry got %q, %v", bodyOf(again), err)
	}
	c.want.point, c.want.attempts, c.want.locked = redisidem.Finished, wantAttempts, false
	c.mustHold()
}

// deliver delivers the delayed request, if there is one. It must not change anything.
func (c *cell) deliver() {
	c.t.Helper()
	if c.fault.name != lateDelivery {
		return
	}
	c.arrive()
}

// arrive delivers the delayed request and checks that it changes nothing.
func (c *cell) arrive() {
	c.t.Helper()
	before := c.snapshot()
	requests := c.proxy.Requests()
	must(c.t, c.proxy.Resume())
	for began := time.Now(); c.proxy.Requests() == requests; time.Sleep(time.Millisecond) {
		if time.Since(began) > patience {
			c.t.Fatal("the request does not arrive")
		}
	}
	time.Sleep(20 * time.Millisecond) // from the proxy into the server
	if after := c.snapshot(); !maps.Equal(before, after) {
		c.t.Errorf("the late request made %v of %v", after, before)
	}
}

// snapshot returns the content of the key's record and lock, without TTLs.
func (c *cell) snapshot() map[string]string {
	record, lock := c.place()
	fields := c.raw.HGetAll(context.Background(), record).Val()
	fields["lock"] = c.raw.Get(context.Background(), lock).Val()
	return fields
}
