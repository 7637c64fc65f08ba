package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

// worker is a process: a service with its own client, and callers.
type worker struct {
	world   *world
	number  int
	random  *rand.Rand
	network *network
	client  *redis.Client
	service *redisidem.Service
	turns   *turns
	flows   map[string]*redisidem.Flow // by name/version, for outcomes by hand; their stages never run

	mu     sync.Mutex
	values int // the number of values that its callbacks have created
}

// value returns the name of the next result.
func (w *worker) value() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.values++
	return fmt.Sprintf("w%d.%d", w.number, w.values)
}

// start starts the worker's callers.
func (w *worker) start(wg *sync.WaitGroup) {
	for i := range 1 + w.random.IntN(2) {
		c := &caller{worker: w, random: rand.New(rand.NewPCG(w.world.seed, uint64(100+10*w.number+i)))}
		wg.Go(func() {
			if w.world.plan.crowd {
				time.Sleep(lease) // a completer comes first
			}
			for range 3 {
				time.Sleep(upTo(lease, c.random))
				c.act()
			}
		})
	}
}

// scopeOf returns the scope of a key.
func (w *worker) scopeOf(key string) *redisidem.Scope { return w.service.Scope(scopeOf(key)) }

// leaveUnfinished makes all keys. Their callers are gone before the first completer comes.
func (w *worker) leaveUnfinished() {
	for _, key := range w.world.keys {
		j := &job{worker: w, key: key, scope: w.scopeOf(key), began: time.Now(), random: w.random, leaves: true}
		j.asked = w.world.tick()
		got, err := j.scope.DoFlow(w.traced(key), key, request, j.flow())
		j.end(got, err)
	}
}

// retire shuts the worker down when all its calls have ended.
func (w *worker) retire() {
	w.network.retire()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.service.Close(ctx); err != nil {
		w.world.violation("worker %d does not come to an end: %v", w.number, err)
	}
	_ = w.client.Close()
}

// finish runs the flow on a key when there are no more faults.
func (w *worker) finish(key string) *redisidem.Key {
	j := &job{worker: w, key: key, scope: w.scopeOf(key), began: time.Now(), random: nil}
	j.asked = w.world.tick()
	got, err := j.scope.DoFlow(context.Background(), key, request, j.flow())
	j.end(got, err)
	if err != nil {
		w.world.violation("%s cannot be finished: %v", key, err)
		return nil
	}
	return got
}

// complete runs a completer that sweeps a few times.
func (w *worker) complete() {
	var mu sync.Mutex
	jobs := make(map[place]*job)
	of := func(st *redisidem.Stage) *job {
		mu.Lock()
		defer mu.Unlock()
		at := place{id: st.Key().ID(), fence: st.Fence()}
		if jobs[at] == nil {
			w.world.tell(func(t *tally) { t.Continued++ })
			jobs[at] = &job{
				worker: w, key: st.Key().Value, scope: w.scopeOf(st.Key().Value), began: time.Now(), completing: true, asked: w.world.tick(),
				random: rand.New(rand.NewPCG(w.world.seed, uint64(st.Fence()))), inFlow: true,
			}
		}
		return jobs[at]
	}
	began := func() int {
		mu.Lock()
		defer mu.Unlock()
		n := 0
		for _, j := range jobs {
			if flowOf(j.key) == "orders" {
				n++
			}
		}
		return n
	}
	calls := callbacks{
		work: func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			defer w.world.limits.runs(w, st.Key().Value)()
			return of(st).work(ctx, st)
		},
		compensate: func(ctx context.Context, st *redisidem.Stage) error {
			defer w.world.limits.runs(w, st.Key().Value)()
			return of(st).compensate(ctx, st)
		},
		failWith: func(st *redisidem.Stage, cause error) redisidem.Response { return of(st).failWith(st, cause) },
		adopt: func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			return of(st).adopt(ctx, st)
		},
	}
	flows := []*redisidem.Flow{w.newFlow("orders", calls)}
	if w.world.plan.crowd {
		flows = append(flows, w.newFlow("bills", calls))
	}
	limit := w.world.plan.limit
	c, err := redisidem.NewCompleter(w.service, flows, &limit)
	if err != nil {
		panic(err)
	}
	if w.number == completers[1] {
		w.help(c)
		return
	}
	p := &operator{worker: w, inspector: redisidem.NewInspector(w.service)}
	defer p.resume()
	if w.world.plan.pausable {
		time.Sleep(upTo(lease, w.random))
		p.pause()
		time.Sleep(upTo(lease, w.random))
		p.resume()
	}
	for i := range 3 {
		if i > 0 || !w.world.plan.crowd {
			time.Sleep(lease)
		}
		time.Sleep(upTo(lease, w.random))
		if i == 1 && w.world.plan.loses {
			p.reindex()
		}
		if w.random.IntN(3) == 0 {
			p.pause()
		}
		before := began()
		w.turns.begin()
		swept, err := c.Sweep(context.Background())
		w.turns.end()
		if n := began() - before; p.sure && err == nil && n > 0 {
			w.world.violation("a sweep after a pause runs %d keys", n)
		}
		if w.random.IntN(2) == 0 {
			p.resume()
		}
		w.world.log("worker %d sweeps: %+v %v", w.number, swept, err)
		w.world.tell(func(t *tally) { t.Swept += int(swept.Finished) })
		if w.random.IntN(3) == 0 {
			p.requeueAll()
		}
		for _, key := range w.world.keys {
			w.revive(key)
		}
	}
}

// help runs a completer beside another one, which may pause it: in sweeps, or in a Run that takes
// turns with others.
func (w *worker) help(c *redisidem.Completer) {
	if w.random.IntN(2) == 0 {
		ctx, cancel := context.WithTimeout(context.Background(), upTo(5*lease, w.random))
		defer cancel()
		err := c.Run(ctx)
		w.world.log("worker %d has run its completer: %v", w.number, err)
		w.world.tell(func(t *tally) { t.Ran++ })
		return
	}
	for range 3 {
		time.Sleep(lease/2 + upTo(lease, w.random))
		w.turns.begin()
		swept, err := c.Sweep(context.Background())
		w.turns.end()
		w.world.log("worker %d sweeps: %+v %v", w.number, swept, err)
		w.world.tell(func(t *tally) { t.Swept += int(swept.Finished) })
	}
}

// revive acts as an operator who has found a dead letter. It may correct the key, commit by hand,
// or do neither, and then requeues the key. Sometimes it leaves the key as it is.
func (w *worker) revive(value string) {
	j := &job{worker: w, key: value, scope: w.scopeOf(value), random: w.random}
	j.again()
	key, err := j.scope.Retrieve(context.Background(), value)
	j.end(key, err)
	if err != nil || key.DeadLetter == nil {
		return
	}
	j.again()
	switch w.random.IntN(5) {
	case 0:
		j.update(context.Background())
	case 1:
		j.lock(context.Background())
	case 2:
		return
	}
	j.again()
	j.requeue(context.Background(), key)
}

// caller calls a worker again and again.
type caller struct {
	worker *worker
	random *rand.Rand
}

// act makes one call.
func (c *caller) act() {
	w, r := c.worker, c.random
	key := w.world.keys[r.IntN(len(w.world.keys))]
	ctx, cancel := context.WithCancel(w.traced(key))
	defer cancel()
	if r.IntN(5) == 0 {
		patience := lease + lease/2
		if r.IntN(2) == 0 {
			patience = 4 * slowest // the caller leaves as soon as it has called
		}
		timer := time.AfterFunc(upTo(patience, r), cancel)
		defer timer.Stop()
	}
	j := &job{worker: w, key: key, scope: w.scopeOf(key), began: time.Now(), random: r}
	if r.IntN(3) == 0 {
		j.wait = upTo(2*lease, r)
		j.scope = j.scope.Wait(j.wait)
	}
	j.asked = w.world.tick()
	defer func() {
		if v := recover(); v != nil && v != errBoom { //nolint:errorlint // it is the very value
			panic(v)
		}
	}()
	switch n := r.IntN(20); {
	case n < 6:
		w.world.log("worker %d does %s, waiting %v", w.number, key, j.wait)
		got, err := j.scope.Do(ctx, key, request, j.work)
		j.end(got, err)
	case n < 11:
		w.world.log("worker %d runs %s, waiting %v", w.number, key, j.wait)
		got, err := j.scope.DoFlow(ctx, key, request, j.flow())
		j.end(got, err)
	case n < 15:
		w.world.log("worker %d works on %s, waiting %v", w.number, key, j.wait)
		j.stages(ctx)
	case n < 16 || n == 16 && !w.world.plan.cancels:
		w.world.log("worker %d locks %s, waiting %v", w.number, key, j.wait)
		j.lock(ctx)
	case n == 17 && w.world.plan.unlocks:
		j.unlock(ctx)
	case n == 16 && w.world.plan.cancels:
		j.cancel(ctx)
	case n == 18 && w.world.plan.deletes:
		j.remove(ctx)
	case n == 19 && w.world.plan.updates:
		j.update(ctx)
	default:
		got, err := w.scopeOf(key).Retrieve(ctx, key)
		j.end(got, err)
	}
}

// stages works on a key like a program that has its own loop.
func (j *job) stages(ctx context.Context) {
	key, err := j.scope.InitializeRequest(ctx, j.key, request)
	j.end(key, err)
	for range 3 {
		if err != nil || key.Answered() {
			return
		}
		j.again()
		key, err = j.scope.WorkStage(ctx, key, j.work)
		j.end(key, err)
	}
}

// lock works on a key without a callback.
func (j *job) lock(ctx context.Context) {
	l, err := j.scope.Lock(ctx, j.key)
	if err != nil {
		j.end(nil, err)
		return
	}
	for {
		o, err := j.do(l.Context(), l.Key(), l.Fence(), 0, nil)
		if err != nil {
			err = l.Abandon(ctx)
			j.end(nil, err)
			return
		}
		key, held, err := l.CommitKeep(ctx, o)
		if err != nil || !held {
			j.end(key, err)
			return
		}
	}
}

// unlock takes the key from its worker, whose callbacks may continue.
func (j *job) unlock(ctx context.Context) {
	w := j.worker.world
	w.mu.Lock()
	w.revoked[j.key] = true
	w.mu.Unlock()
	w.observer.take(j.key)
	err := j.scope.Unlock(ctx, j.key)
	w.log("worker %d unlocks %s: %v", j.worker.number, j.key, err)
	j.end(nil, err)
}

// cancel stops the key's flow. Its worker may go on, but stores nothing.
func (j *job) cancel(ctx context.Context) {
	w := j.worker.world
	w.mu.Lock()
	w.revoked[j.key] = true
	w.mu.Unlock()
	w.observer.take(j.key)
	past := w.isPastReturn(j.key)
	w.requeues(j.key) // of a dead letter
	err := j.scope.Cancel(ctx, j.key)
	w.log("worker %d cancels %s: %v", j.worker.number, j.key, err)
	switch {
	case err == nil && past:
		w.violation("%s is canceled behind its point of no return", j.key)
	case errors.Is(err, redisidem.ErrTooLate) && past:
		w.tell(func(t *tally) { t.PastReturn++ })
	}
	switch {
	case errors.Is(err, redisidem.ErrTooLate):
		w.tell(func(t *tally) { t.TooLate++ })
		err = nil
	case errors.Is(err, redisidem.ErrInvalid):
		err = nil // no flow has worked on it yet
	}
	j.end(nil, err)
}

// cancelTooLate cancels a key that is behind its point of no return and not finished.
func (w *worker) cancelTooLate(key string) {
	j := &job{worker: w, key: key, scope: w.scopeOf(key)}
	if !w.world.isPastReturn(key) {
		return
	}
	j.again()
	got, err := j.scope.Retrieve(context.Background(), key)
	j.end(got, err)
	if err == nil && !got.Finished() {
		j.again()
		j.cancel(context.Background())
	}
}

// remove deletes the key, unless a worker is working on it.
func (j *job) remove(ctx context.Context) {
	key, err := j.scope.Retrieve(ctx, j.key)
	j.end(key, err)
	if err != nil {
		return
	}
	w := j.worker.world
	w.mu.Lock()
	w.removed[j.key] = true
	w.mu.Unlock()
	j.again()
	err = j.scope.Delete(ctx, key)
	w.log("worker %d deletes %s: %v", j.worker.number, j.key, err)
	w.removes(j.worker.number, j.asked, key, err == nil) // a try of a refused call may still arrive late
	j.end(nil, err)
}

// update acts as an operator who corrects an unfinished key without a worker.
func (j *job) update(ctx context.Context) {
	key, err := j.scope.Retrieve(ctx, j.key)
	j.end(key, err)
	if err != nil || key.Finished() {
		return
	}
	w := j.worker.world
	r := w.correction(j, key)
	if r == nil {
		return
	}
	o := redisidem.Advance(next(key.RecoveryPoint))
	if r.answers {
		o = j.byHand(redisidem.Finish(redisidem.JSON(200, r.value)), key)
		r.returnless = r.returnless && !j.undoes
	}
	if !isCompensating(key.RecoveryPoint) {
		o = o.WithState(r.value)
	}
	w.observer.take(j.key) // a worker whose lease has lapsed is fenced
	j.again()
	w.wants(r)
	got, err := j.scope.Update(ctx, key, o)
	w.log("worker %d updates %s with %s: %v", j.worker.number, j.key, r.value, err)
	switch {
	case err == nil:
		w.becomes(r, committed)
		w.tell(func(t *tally) { t.Updated++ })
	case errors.Is(err, redisidem.ErrUnavailable), errors.Is(err, redisidem.ErrLocked):
		w.becomes(r, unknown) // a try of a refused call may still arrive late, after the lease has ended
	default:
		w.becomes(r, fenced)
	}
	j.end(got, err)
}

// requeue lets completers find a key again. Since it was read, the key may have a new record, or
// may be due already.
func (j *job) requeue(ctx context.Context, key *redisidem.Key) {
	j.worker.world.requeues(j.key)
	err := j.scope.Requeue(ctx, key)
	j.worker.world.log("worker %d requeues %s: %v", j.worker.number, j.key, err)
	switch {
	case err == nil:
		j.worker.world.tell(func(t *tally) { t.Requeued++ })
	case errors.Is(err, redisidem.ErrNotFound):
		err = nil // the record does not exist, or it is due
	}
	j.end(nil, err)
}

// flow creates the flow whose stages the job runs.
func (j *job) flow() *redisidem.Flow {
	j.inFlow = true
	return j.worker.newFlow(flowOf(j.key), callbacks{j.work, j.compensate, j.failWith, j.adopt})
}

// points are the recovery points, in their order.
var points = []string{redisidem.Started, "reserved", "charged", "packed", "shipped", redisidem.Finished}

// apology is the recovery point of a last stage, for keys without attempts left. noReturn is that
// of the stage whose commit cannot be undone.
const (
	apology  = "apology"
	noReturn = "reserved"
)

// callbacks are those of a flow.
type callbacks struct {
	work       redisidem.StageFunc
	compensate func(context.Context, *redisidem.Stage) error
	failWith   func(*redisidem.Stage, error) redisidem.Response
	adopt      redisidem.StageFunc
}

// newFlow creates the flow in the version of the worker's program. If versions change, every other
// worker has the second one, which adopts the keys of the first.
func (w *worker) newFlow(name string, c callbacks) *redisidem.Flow {
	if !w.world.plan.changes || w.number%2 == 1 {
		return w.world.newFlow(name, 1, c)
	}
	return w.world.newFlow(name, 2, c, redisidem.EarlierVersion{Flow: w.world.newFlow(name, 1, c), Adopt: c.adopt})
}

// idleFlows creates both versions of the flows, which never run.
func (w *world) idleFlows() map[string]*redisidem.Flow {
	c := callbacks{
		work:       func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { panic("it runs") },
		compensate: func(context.Context, *redisidem.Stage) error { panic("it runs") },
	}
	all := make(map[string]*redisidem.Flow)
	for _, name := range []string{"orders", "bills"} {
		for version := 1; version <= 2; version++ {
			f := w.newFlow(name, version, c)
			all[f.String()] = f
		}
	}
	return all
}

// newFlow creates a version of the flow.
func (w *world) newFlow(name string, version int, c callbacks, earlier ...redisidem.EarlierVersion) *redisidem.Flow {
	cfg := redisidem.FlowConfig{
		Name: name, Version: version, Earlier: earlier, RecoverAfter: time.Second, MaxAttempts: w.plan.patience, Deadline: w.plan.deadline,
		FailWith: c.failWith, Pausable: w.plan.pausable, Exhausted: redisidem.Exhausted{Compensate: w.plan.exhausts},
	}
	stages := points[:len(points)-1]
	if w.plan.apologizes {
		cfg.Exhausted.Stage = apology
		stages = append(slices.Clone(stages), apology)
	}
	for _, point := range stages {
		s := redisidem.FlowStage{
			Point: point, Next: []string{next(point)}, Work: c.work, Compensate: c.compensate, CompensateFailed: w.plan.exhausts,
			NoReturn: w.plan.returnless && point == noReturn,
		}
		if w.plan.hangs {
			s.Timeout = stageTimeout
		}
		cfg.Stages = append(cfg.Stages, s)
	}
	f, err := redisidem.NewFlow(cfg)
	if err != nil {
		panic(err)
	}
	return f
}

func next(point string) string {
	for i, p := range points {
		if p == point {
			return points[i+1]
		}
	}
	return redisidem.Finished
}

func isCompensating(point string) bool { return strings.HasPrefix(point, "compensate:") }
