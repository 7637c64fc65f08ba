//go:build unix

package faults

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/rung"
)

// refusals are the transient states of a server.
var refusals = []refusal{loading, busy, readOnly, noReplicas, masterDown}

// TestRefusal lets a server refuse every command for a while. Callers notice nothing when the
// refusal is shorter than their timeout. They get the right error when it is longer.
func TestRefusal(t *testing.T) {
	times := rung.Size(t, 2, 20, 100)
	var calls, outlasted atomic.Int64
	t.Run("states", func(t *testing.T) {
		t.Run("scripts flushed", func(t *testing.T) {
			t.Parallel()
			p := newProcess(t)
			calls.Add(traffic(t, p, "NOSCRIPT", 10*times, func() func() {
				if err := p.admin.ScriptFlush(context.Background()).Err(); err != nil {
					t.Error(err)
				}
				return nothing
			}))
		})
		for _, r := range refusals {
			t.Run(string(r)+" in mid-traffic", func(t *testing.T) {
				t.Parallel()
				p := newProcess(t)
				calls.Add(traffic(t, p, string(r), times, func() func() { return p.begin(t, r) }))
			})
			t.Run(string(r)+" for longer than the timeout", func(t *testing.T) {
				t.Parallel()
				for _, auto := range []bool{false, true} {
					outlast(t, r, auto)
					outlasted.Add(1)
				}
			})
		}
	})
	rung.Figure(t, "R13", "%d calls in mid-traffic of SCRIPT FLUSH, LOADING, BUSY, READONLY, NOREPLICAS and MASTERDOWN: each ran once, "+
		"without an error; %d of %d outlasting refusals: callback not run, commit landed",
		calls.Load(), outlasted.Load(), 2*len(refusals))
}

// traffic calls on fresh keys while a state begins and ends the given number of times. Each time
// the state lasts until a caller has met it. traffic returns the number of calls.
func traffic(t *testing.T, p process, word string, times int, begin func() (end func())) int64 {
	t.Helper()
	const callers = 8
	client, watch := dial(t, p.Addr()), &errorWatcher{}
	client.AddHook(watch)
	plain := serve(t, client)
	auto := serve(t, client, func(cfg *redisidem.Config) { cfg.AutoPipeline = true })
	var calls atomic.Int64
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for caller := range callers {
		sc := plain.Scope("a")
		if caller%2 == 1 {
			sc = auto.Scope("a")
		}
		running.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				calls.Add(1)
				text := fmt.Sprintf("%d-%d", caller, n)
				runs := 0
				key, err := sc.Do(context.Background(), text, request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					runs++
					return answer(text), nil
				})
				if err != nil || runs != 1 || bodyOf(key) != text {
					t.Errorf("%s ran %d times and got %q, %v", text, runs, bodyOf(key), err)
				}
			}
		})
	}
	for range times {
		time.Sleep(20 * time.Millisecond)
		met := watch.expect(word)
		end := begin()
		select {
		case <-met:
		case <-time.After(patience):
			t.Errorf("no call met %s", word)
		}
		end()
	}
	stop()
	running.Wait()
	mustBeTidy(t, p)
	return calls.Load()
}

// mustBeTidy checks that no lock remains.
func mustBeTidy(t *testing.T, p process) {
	t.Helper()
	if locks := p.admin.Keys(context.Background(), "*:lock").Val(); len(locks) > 0 {
		t.Errorf("%d locks are left", len(locks))
	}
}

// outlast keeps a state until a commit and a claim have timed out.
func outlast(t *testing.T, r refusal, auto bool) {
	t.Helper()
	p := newProcess(t)
	ctx := context.Background()
	client := dial(t, p.Addr())
	const short = 300 * time.Millisecond
	well := serve(t, client).Scope("a") // with enough time for the setup
	sc := serve(t, client, func(cfg *redisidem.Config) { cfg.AutoPipeline, cfg.Timeout = auto, short }).Scope("a")
	_, err := well.InitializeRequest(ctx, value, request)
	must(t, err)
	held, err := sc.Lock(ctx, value)
	for began := time.Now(); err != nil && time.Since(began) < patience; held, err = sc.Lock(ctx, value) { // the machine may be busy
		time.Sleep(5 * time.Millisecond)
	}
	must(t, err)

	end := p.begin(t, r)
	_, err = sc.Do(ctx, "new", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		t.Error("the callback ran")
		return answer("never"), nil
	})
	if !errors.Is(err, redisidem.ErrUnavailable) {
		t.Errorf("a claim gets %v", err)
	}
	if err := held.Renew(ctx); !errors.Is(err, redisidem.ErrUnavailable) {
		t.Errorf("a renewal gets %v", err)
	}
	if _, err := held.Commit(ctx, answer("work")); !errors.Is(err, redisidem.ErrOutcomeUnknown) {
		t.Errorf("a commit gets %v", err)
	}
	end()

	key, err := well.Wait(patience).Do(ctx, value, request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		t.Error("finished work ran again")
		return answer("again"), nil
	})
	if err != nil || !key.Replayed() || bodyOf(key) != "work" {
		t.Errorf("a retry got %q, %v", bodyOf(key), err)
	}
	key, err = well.Do(ctx, "new", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return answer("new"), nil
	})
	if err != nil || bodyOf(key) != "new" {
		t.Errorf("who was refused then gets %q, %v", bodyOf(key), err)
	}
	mustBeTidy(t, p)
}
