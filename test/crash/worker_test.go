//go:build unix

package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/child"
	"github.com/redisidem/redisidem/test/internal/history"
)

const (
	goroutines   = 4  // in each worker
	window       = 96 // how many keys are worked on at a time, by all workers
	lease        = 400 * time.Millisecond
	recoverAfter = 50 * time.Millisecond
	patience     = time.Minute
)

var request = redisidem.Request{Method: "POST", Path: "/orders"}

// worker does all that can be done to keys, on keys that it shares with every other worker.
type worker struct {
	name    string
	pen     child.Pen
	svc     *redisidem.Service
	sc      *redisidem.Scope
	stopped bool // now and then it is, and looks whether that was for longer than a lease
	tokens  atomic.Int64
	swept   sync.Map // the completer's runs, by their lease and revision
}

// newWorker makes the worker of a name. Copies of finished records are kept in so many bytes.
func newWorker(name string, client *redis.Client, pen child.Pen, cache int64) *worker {
	w := &worker{name: name, pen: pen}
	cfg := redisidem.Config{
		Lease: lease, Timeout: 5 * time.Second, Retention: time.Hour, Owner: name, CacheBytes: cache, Observer: w,
	}
	var err error
	if w.svc, err = redisidem.New(client, &cfg); err != nil {
		panic(err)
	}
	w.sc = w.svc.Scope("crash")
	return w
}

// dial makes a client whose connections have a name.
func dial(addr, name string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: addr, ClientName: name, ContextTimeoutEnabled: true, DisableIdentity: true, MaxRetries: -1,
	})
}

// work is what a worker's process does until it is killed.
func work() {
	o := ownOrders()
	client := dial(o.addr, o.worker())
	if o.death > 0 {
		client.AddHook(&death{at: int64(o.death)})
	}
	w := newWorker(o.worker(), client, child.Own(), int64(o.number%2)<<20)
	w.stopped = o.stopped
	child.Tell("ready")
	if o.number%3 == 0 {
		go w.complete()
	}
	for i := range goroutines {
		go func() {
			r := rand.New(rand.NewPCG(o.seed, uint64(o.number)<<8|uint64(i)))
			for {
				w.use(r, int(time.Since(o.began)/o.spacing)+r.IntN(window))
			}
		}()
	}
	time.Sleep(child.Lifetime)
	os.Exit(1)
}

// use does one of the things that can be done to the key of that number.
func (w *worker) use(r *rand.Rand, n int) {
	u := &usage{worker: w, key: value(n), dwell: w.dwell(r), fails: r.IntN(12) == 0}
	sc := w.sc
	if r.IntN(3) == 0 {
		sc = sc.Wait(rand.N(2 * lease))
	}
	u.run(sc, r.IntN(2) == 0)
}

// Keys are of three kinds: one stage, stages by hand, a flow.
const (
	single = "one"
	byHand = "hand"
	flowed = "flow"
)

func value(n int) string { return fmt.Sprintf("%s-%d", [...]string{single, byHand, flowed}[n%3], n) }

// stages are the recovery points of keys with several stages, in their order.
var stages = []string{redisidem.Started, "charged", "shipped"}

// dwell draws how long a callback takes: mostly an instant, at times so long that the lease is renewed. A worker that is going
// to be stopped is mostly in one.
func (w *worker) dwell(r *rand.Rand) time.Duration {
	switch n := r.IntN(40); {
	case n == 0:
		return lease + time.Duration(r.Int64N(int64(lease)))
	case n < 4 || w.stopped && n < 20:
		return time.Duration(r.Int64N(int64(lease / 2)))
	}
	return time.Duration(r.Int64N(int64(6 * time.Millisecond)))
}

// usage is one call on a key, in which callbacks may run, one after the other.
type usage struct {
	worker *worker
	key    string
	dwell  time.Duration
	fails  bool

	last   history.Event // the last callback that began
	open   bool          // and was not told of yet
	gaveUp bool
}

var errGaveUp = errors.New("gave up")

// usageContext is the context key under which a flow's stages find their usage.
type usageContext struct{}

// run makes the call. There is more than one way to work on most keys; other chooses among them.
func (u *usage) run(sc *redisidem.Scope, other bool) {
	ctx := context.WithValue(context.Background(), usageContext{}, u)
	kind, _, _ := strings.Cut(u.key, "-")
	switch {
	case kind == single:
		answer, _, err := redisidem.Do(ctx, sc, u.key, request, func(ctx context.Context, st *redisidem.Stage) (string, error) {
			chain, err := u.stage(ctx, st)
			return string(chain), err
		})
		u.told(err)
		u.answered(answer, err)
	case kind == flowed:
		u.returned(sc.RunRequest(ctx, u.key, request, flow))
	case other:
		key, err := sc.InitializeRequest(ctx, u.key, request)
		if err != nil {
			u.told(err)
		}
		for err == nil && !key.Answered() {
			key, err = u.returned(sc.WorkStage(ctx, key, u.work))
		}
	default:
		key, err := &redisidem.Key{}, error(nil)
		for err == nil && !key.Answered() {
			key, err = u.returned(sc.Do(ctx, u.key, request, u.work))
		}
	}
}

// work is a stage of a key with several.
func (u *usage) work(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	chain, err := u.stage(ctx, st)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	i := int(st.Key().Revision)
	if i == len(stages)-1 {
		return redisidem.Finish(redisidem.JSON(200, chain)), nil
	}
	return redisidem.Advance(stages[i+1]).WithState(chain), nil
}

// flow is the operation whose keys the completer finishes, too.
var flow = func() *redisidem.Flow {
	cfg := redisidem.FlowConfig{Name: "orders", Version: 1, RecoverAfter: recoverAfter, MaxAttempts: 1 << 20}
	for _, point := range stages {
		cfg.Stages = append(cfg.Stages, redisidem.FlowStage{
			Point: point,
			Work: func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				u, ok := ctx.Value(usageContext{}).(*usage)
				if !ok {
					return ctx.Value(completerContext{}).(*worker).sweep(ctx, st)
				}
				return u.work(ctx, st)
			},
		})
	}
	flow, err := redisidem.NewFlow(cfg)
	if err != nil {
		panic(err)
	}
	return flow
}()

// stage is a run of a callback. It returns the chain to leave.
func (u *usage) stage(ctx context.Context, st *redisidem.Stage) (history.Chain, error) {
	u.kept()
	w := u.worker
	var seen history.Chain
	if err := st.State(&seen); err != nil && !errors.Is(err, redisidem.ErrNoState) {
		return "", err
	}
	u.last = history.Event{
		Kind: history.Began, Worker: w.name, Key: st.Key().Value, Revision: st.Key().Revision, Fence: st.Fence(),
		Attempt: st.Attempt(), Token: fmt.Sprintf("%s/%d", w.name, w.tokens.Add(1)), Text: string(seen),
	}
	u.open = true
	w.tell(u.last)
	w.stay(ctx, u.dwell, u.last)
	u.last.Lost = errors.Is(context.Cause(ctx), redisidem.ErrLeaseLost)
	if u.fails || u.last.Lost && u.last.Fence%2 == 0 {
		u.gaveUp = true
		return "", errGaveUp
	}
	return seen.Add(u.last.Token), nil
}

// stay spends the time of a callback. Whoever was stopped meanwhile for longer than the lease gives the news of it a moment to
// arrive.
func (w *worker) stay(ctx context.Context, dwell time.Duration, e history.Event) {
	const tick = 5 * time.Millisecond
	began := time.Now()
	looked := began
	stood := false
	look := func() {
		stood = stood || time.Since(looked) > lease
		looked = time.Now()
	}
	for ; ctx.Err() == nil && time.Since(began) < dwell; look() {
		time.Sleep(min(tick, dwell))
	}
	if !w.stopped {
		return
	}
	w.tell(e.As(history.Left))
	if look(); stood {
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// kept says that the callback before this one of the same call was committed: a flow would not have come here otherwise.
func (u *usage) kept() {
	if u.open {
		u.worker.tell(u.last.As(history.Committed))
	}
	u.open = false
}

// returned takes in what a call on a key with several stages returned.
func (u *usage) returned(key *redisidem.Key, err error) (*redisidem.Key, error) {
	if u.open && err != nil && !u.gaveUp && key.Revision > u.last.Revision && errors.Is(err, redisidem.ErrLeaseLost) {
		u.kept() // the lease was lost after the commit
	}
	u.told(err)
	if err == nil && key.Answered() {
		u.answered(answerOf(key), nil)
	}
	return key, err
}

// answerOf returns the chain in a key's answer. What is no chain differs from every one.
func answerOf(key *redisidem.Key) string {
	var answer string
	if err := json.Unmarshal(key.Response.Body, &answer); err != nil {
		return fmt.Sprintf("no answer: %q", key.Response.Body)
	}
	return answer
}

func (u *usage) answered(answer string, err error) {
	if err == nil {
		u.worker.tell(history.Event{Kind: history.Answered, Worker: u.worker.name, Key: u.key, Text: answer})
	}
}

// told takes in the error of a call.
func (u *usage) told(err error) {
	expected := err == nil
	for _, target := range []error{
		errGaveUp, redisidem.ErrLocked, redisidem.ErrLeaseLost, redisidem.ErrCommitUnknown, redisidem.ErrUnavailable,
	} {
		expected = expected || errors.Is(err, target)
	}
	if !expected {
		u.worker.tell(history.Event{Kind: history.Failed, Worker: u.worker.name, Key: u.key, Text: err.Error()})
	}
	if !u.open {
		return
	}
	u.open = false
	kind := history.Unknown
	switch {
	case u.gaveUp:
		kind = history.GaveUp
	case err == nil:
		kind = history.Committed
	case errors.Is(err, redisidem.ErrFenced):
		kind = history.Fenced
	}
	u.worker.tell(u.last.As(kind))
}

func (w *worker) tell(e history.Event) { w.pen.Write("%s", e) }
