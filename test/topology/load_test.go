//go:build linux

package topology

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

const (
	callers  = 8
	lease    = 2 * time.Second
	timeout  = time.Second
	patience = 2 * time.Minute // to finish with a group of servers, which may need several attempts
)

var request = redisidem.Request{Method: "POST", Path: "/orders"}

// load is a set of callers that work on keys, and the answers that they received.
type load struct {
	service *redisidem.Service
	scope   *redisidem.Scope
	flow    *redisidem.Flow
	stop    context.CancelFunc
	done    sync.WaitGroup
	runs    atomic.Int64
	begun   atomic.Int64
	well    [callers]atomic.Int64 // for each caller, when the last call that got its answer began and ended
	last    [callers]atomic.Int64

	mu    sync.Mutex
	open  []string          // keys without an answer yet
	known map[string][]byte // answers, by key
	order []string          // the keys in known
	lost  map[string]bool   // keys whose answer was lost
	wrong []string          // violations
	why   map[string]int    // the errors that callers received, and how often
}

// newLoad creates a load whose callers do not run yet.
func newLoad(t testing.TB, client redis.UniversalClient, durability int, lease time.Duration) *load {
	t.Helper()
	service, err := redisidem.New(client, &redisidem.Config{Lease: lease, Timeout: timeout, Durability: durability})
	if err != nil {
		t.Fatal(err)
	}
	l := &load{
		service: service, scope: service.Scope("topology"), stop: func() {}, known: make(map[string][]byte),
		lost: make(map[string]bool), why: make(map[string]int),
	}
	l.flow, err = redisidem.NewFlow(redisidem.FlowConfig{Name: "orders", Version: 1, Stages: []redisidem.FlowStage{
		{Point: redisidem.Started, Work: l.work(redisidem.Next())},
		{Point: "charged", Work: func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			// Each run has a different answer, so that a second committed run is noticed.
			answer := fmt.Sprintf("%s in run %d", st.Key().Value, l.runs.Add(1))
			return l.work(redisidem.Finish(redisidem.JSON(201, answer)))(ctx, st)
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.rest()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = service.Close(ctx) // commits to a server that is gone
	})
	return l
}

func (l *load) work(o redisidem.Outcome) redisidem.StageFunc {
	return func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		value := st.Key().Value
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.known[value] != nil && !l.lost[value] {
			l.lost[value] = true
			l.wrong = append(l.wrong, fmt.Sprintf("key %s is worked on after its answer was given", value))
		}
		return o, nil
	}
}

// begin runs the callers until rest is called.
func (l *load) begin(seed uint64) {
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	for n := range callers {
		r := rand.New(rand.NewPCG(seed, uint64(n)))
		l.done.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				if l.call(l.pick(r)) == nil {
					l.well[n].Store(began.UnixNano())
					l.last[n].Store(time.Now().UnixNano())
				}
				time.Sleep(time.Duration(r.Int64N(int64(40 * time.Millisecond)))) // servers have to copy all keys when they return
			}
		})
	}
}

func (l *load) rest() {
	l.stop()
	l.done.Wait()
}

// pick chooses a new key, a key that another caller may be using, or a key that has its answer.
func (l *load) pick(r *rand.Rand) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch n := r.IntN(10); {
	case n < 3 && len(l.open) > 0:
		return l.open[r.IntN(len(l.open))]
	case n < 6 && len(l.order) > 0:
		return l.order[r.IntN(len(l.order))]
	}
	value := fmt.Sprintf("order-%d", l.begun.Add(1))
	l.open = append(l.open, value)
	return value
}

// call asks once for the answer to a key, and compares it with earlier answers.
func (l *load) call(value string) error {
	key, err := l.scope.DoFlow(context.Background(), value, request, l.flow)
	if err == nil && !key.Finished() {
		err = errors.New("not finished")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.why[digits.ReplaceAllString(err.Error(), "#")]++
		if !expected(err) {
			l.wrong = append(l.wrong, fmt.Sprintf("key %s: %v", value, err))
		}
		return err
	}
	before, known := l.known[value]
	if known && !bytes.Equal(before, key.Response.Body) {
		l.wrong = append(l.wrong, fmt.Sprintf("key %s: answered %s and later %s", value, before, key.Response.Body))
	}
	if !known {
		l.known[value] = key.Response.Body
		l.order = append(l.order, value)
		l.open = slices.DeleteFunc(l.open, func(v string) bool { return v == value })
	}
	if len(key.Journal) != 2 || key.Journal[0].Revision != 0 || key.Journal[1].Revision != 1 ||
		key.Journal[0].Fence > key.Journal[1].Fence {
		l.wrong = append(l.wrong, fmt.Sprintf("key %s has the journal %+v", value, key.Journal))
	}
	return nil
}

// expected reports whether a caller may receive this error while servers change. The caller then
// tries its key again.
func expected(err error) bool {
	for _, target := range []error{
		redisidem.ErrLocked, redisidem.ErrUnavailable, redisidem.ErrOutcomeUnknown, redisidem.ErrNotDurable,
		redisidem.ErrLeaseLost,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// await blocks until every caller has received an answer to a call that began after the time. It
// returns how long each caller took.
func (l *load) await(t testing.TB, after time.Time) (took []time.Duration) {
	t.Helper()
	for n := range callers {
		for l.well[n].Load() < after.UnixNano() {
			if time.Since(after) > patience {
				t.Fatalf("caller %d has had no answer for %v", n, patience)
			}
			time.Sleep(time.Millisecond)
		}
		took = append(took, time.Unix(0, l.last[n].Load()).Sub(after))
	}
	return took
}

// answers returns the number of keys with an answer that a caller has received.
func (l *load) answers() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.order)
}

// forgotten returns the number of answers that were lost.
func (l *load) forgotten() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.lost)
}

// digits matches the parts that differ between errors of one kind.
var digits = regexp.MustCompile(`\d+`)

// refusals returns the errors that callers received since its last call.
func (l *load) refusals() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	why := l.why
	l.why = make(map[string]int)
	return why
}

// finish stops the callers, gets an answer for every key, and asks for all answers again through
// another client.
func (l *load) finish(t testing.TB, fresh redis.UniversalClient) (wrong []string) {
	t.Helper()
	l.rest()
	again := newLoad(t, fresh, 0, lease)
	again.known, again.order, again.lost = l.known, l.order, l.lost
	again.runs.Store(l.runs.Load())
	values := slices.Concat(l.open, l.order)
	var next atomic.Int64
	for range callers {
		again.done.Go(func() {
			for n := int(next.Add(1)) - 1; n < len(values); n = int(next.Add(1)) - 1 {
				err := again.call(values[n])
				for began := time.Now(); err != nil && time.Since(began) < patience; {
					time.Sleep(10 * time.Millisecond)
					err = again.call(values[n])
				}
				if err != nil {
					t.Errorf("key %s has no answer: %v", values[n], err)
				}
			}
		})
	}
	again.done.Wait()
	if len(l.order) == 0 {
		t.Error("no caller got an answer")
	}
	return append(l.wrong, again.wrong...)
}

// until blocks until so returns true, and returns how long that took.
func until(t testing.TB, so func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !so() {
		if time.Since(began) > patience {
			t.Fatalf("not within %v", patience)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(began)
}

// p99 returns the ninety-ninth percentile, rounded up.
func p99(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[(len(took)*99+99)/100-1].Round(time.Millisecond)
}

// report fails the test for each violation.
func report(t testing.TB, wrong []string) {
	t.Helper()
	for _, w := range wrong[:min(len(wrong), 20)] {
		t.Error(w)
	}
	if len(wrong) > 20 {
		t.Errorf("and %d more", len(wrong)-20)
	}
}
