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

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/rung"
)

// cuts are the ways in which the connection to Redis is lost and restored.
var cuts = []struct {
	name  string
	begin func(p process, proxy *redistest.Proxy) error
	end   func(p process, proxy *redistest.Proxy) error
}{
	{
		"network",
		func(_ process, proxy *redistest.Proxy) error { proxy.Refuse(); return nil },
		func(_ process, proxy *redistest.Proxy) error { return proxy.Resume() },
	},
	{
		"stopped server",
		func(p process, _ *redistest.Proxy) error { return p.Pause() },
		func(p process, _ *redistest.Proxy) error { return p.Resume() },
	},
	{
		"killed server",
		func(p process, _ *redistest.Proxy) error { p.Kill(); return nil },
		func(p process, _ *redistest.Proxy) error { return p.Restart() },
	},
}

// TestCut cuts Redis off in the middle of commits, for longer than the leases last. It expects
// every commit to be stored once Redis is back, without repeated work.
func TestCut(t *testing.T) {
	length := max(3, time.Duration(rung.Size(t, 5, 30, 30))) * time.Second // longer than the timeout of a caller and than a lease
	keys := rung.Size(t, 100, 500, 1000)
	var mu sync.Mutex // guards the results of all cuts
	var pending, landed int
	var slowest time.Duration
	t.Run("cuts", func(t *testing.T) {
		for _, c := range cuts {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				p := newProcess(t, "--appendonly", "yes", "--appendfsync", "always")
				proxy := rediscase.Proxy(t, p.Addr())
				sc := serve(t, dial(t, proxy.Addr()), func(cfg *redisidem.Config) {
					cfg.Timeout, cfg.Lease, cfg.CommitRetry = time.Second, 2*time.Second, length+time.Minute
				}).Scope("a")

				work := newWork(keys)
				results := work.begin(sc)
				work.release(1)
				for len(results) < keys/8 { // some commits are stored by now, others are in flight
					time.Sleep(time.Millisecond)
				}
				must(t, c.begin(p, proxy))
				work.release(0)
				released := time.Now()
				back := released.Add(length)
				unknown := 0
				for range keys {
					switch err := <-results; {
					case errors.Is(err, redisidem.ErrOutcomeUnknown):
						unknown++
					case err != nil:
						t.Errorf("a caller gets %v", err)
					}
				}
				if unknown < keys/2 || unknown == keys {
					t.Errorf("the cut struck %d of %d commits", unknown, keys)
				}
				if took := time.Since(released); took > patience {
					t.Errorf("the callers got their results after %v", took)
				}
				time.Sleep(time.Until(back))
				must(t, c.end(p, proxy))

				began := time.Now()
				observer := serve(t, dial(t, p.Addr())).Scope("a")
				missing := work.awaitFinished(t, observer)
				mu.Lock()
				pending += unknown
				landed += unknown - missing
				slowest = max(slowest, time.Since(began))
				mu.Unlock()
				work.mustNotRunAgain(t, observer)
			})
		}
	})
	rung.Figure(t, "R12", "after a cut of %v, %d of %d pending commits landed, all within %v, with 0 re-executions",
		length, landed, pending, slowest.Round(10*time.Millisecond))
}

// work is a set of concurrent callers, one for each key. All their callbacks begin before any
// returns.
type work struct {
	ready    sync.WaitGroup   // the callbacks that have not begun
	released [2]chan struct{} // by the parity of the key's number; closed to let the callbacks return
	runs     []atomic.Int64   // of the callback, by key
}

func newWork(keys int) *work {
	w := &work{released: [2]chan struct{}{make(chan struct{}), make(chan struct{})}, runs: make([]atomic.Int64, keys)}
	w.ready.Add(keys)
	return w
}

func (w *work) text(i int) string { return fmt.Sprint("key", i) }

// begin starts the callers. The returned channel receives the result of each.
func (w *work) begin(sc *redisidem.Scope) <-chan error {
	results := make(chan error, len(w.runs))
	for i := range w.runs {
		stage := func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			if w.runs[i].Add(1) == 1 {
				w.ready.Done()
			}
			<-w.released[i%2]
			time.Sleep(time.Duration(i) * time.Millisecond) // the commits come one after the other
			return answer(w.text(i)), nil
		}
		go func() {
			_, err := sc.Do(context.Background(), w.text(i), request, stage)
			// On a busy machine a claim may time out. The test is not about that, so it tries
			// again.
			for began := time.Now(); err != nil && w.runs[i].Load() == 0 && time.Since(began) < patience; {
				time.Sleep(50 * time.Millisecond)
				_, err = sc.Do(context.Background(), w.text(i), request, stage)
			}
			if w.runs[i].Load() == 0 {
				w.ready.Done() // the callback will not run
			}
			results <- err
		}()
	}
	return results
}

// release lets the callbacks of every other key return, once all have begun.
func (w *work) release(parity int) {
	w.ready.Wait()
	close(w.released[parity])
}

// awaitFinished waits until all keys are finished. It returns the number of keys that are not
// finished in time.
func (w *work) awaitFinished(t *testing.T, sc *redisidem.Scope) (missing int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for i := range w.runs {
		for {
			key, err := sc.Retrieve(context.Background(), w.text(i))
			if err == nil && key.Finished() {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("the commit of %s has not landed: %+v, %v", w.text(i), key, err)
				missing++
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return missing
}

// mustNotRunAgain repeats the request of each key and expects that no callback runs.
func (w *work) mustNotRunAgain(t *testing.T, sc *redisidem.Scope) {
	t.Helper()
	for i := range w.runs {
		key, err := sc.Do(context.Background(), w.text(i), request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			w.runs[i].Add(1)
			return answer("again"), nil
		})
		if err != nil || !key.Replayed() || bodyOf(key) != w.text(i) || len(key.Journal) != 1 {
			t.Errorf("a retry got %q, %v", bodyOf(key), err)
		}
		if n := w.runs[i].Load(); n != 1 {
			t.Errorf("the callback of %s ran %d times", w.text(i), n)
		}
	}
}
