package sim

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
)

var (
	errBoom    = errors.New("boom")
	errNotMine = errors.New("a flow undoes its work")
)

// job is one call to the library, with all callbacks that run in it.
type job struct {
	worker     *worker
	scope      *redisidem.Scope
	key        string
	random     *rand.Rand // nil: the job takes the steps that finish the key
	wait       time.Duration
	inFlow     bool
	completing bool
	leaves     bool // it leaves the key unfinished

	began   time.Time     // when the call began, or the last callback ended
	asked   int64         // the same as a tick
	fence   int64         // of the last callback's lease
	claimed time.Time     // when the first callback under it began
	pending *result       // the result that the last callback wants to store
	snooze  time.Duration // of a snooze, for how long
	patient bool          // the snooze holds for callers, too
	undoes  bool          // the outcome undoes the committed stages
}

// again begins the next call of the job.
func (j *job) again() {
	j.began, j.asked, j.pending, j.fence = time.Now(), j.worker.world.tick(), nil, 0
}

// work is the callback of a stage.
func (j *job) work(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	j.checkState(st)
	return j.do(ctx, st.Key(), st.Fence(), st.Attempt(), st.ShardKey)
}

// compensate is the callback that compensates a stage.
func (j *job) compensate(ctx context.Context, st *redisidem.Stage) error {
	w, undone := j.worker.world, st.Compensates().Revision
	if e := w.returnlessCommit(st.Key()); e != nil {
		w.tell(func(t *tally) { t.Kept++ })
		if undone <= e.Revision {
			w.violation("revision %d of %s is undone, and its revision %d is the point of no return", undone, j.key, e.Revision)
		}
	}
	j.checkState(st)
	_, err := j.do(ctx, st.Key(), st.Fence(), st.Attempt(), nil)
	return err
}

// failWith returns the answer of a flow that fails because of its deadline or its attempts. It is a
// callback, too, whose result is committed.
func (j *job) failWith(st *redisidem.Stage, cause error) redisidem.Response {
	w, key := j.worker.world, st.Key()
	same := j.fence == st.Fence()
	if !same {
		j.claimed = time.Now()
	}
	j.fence, j.pending = st.Fence(), nil
	seen := w.reads(j.worker.number, j.asked, key)
	value := j.worker.value()
	w.begins(context.Background(), value, key, st.Fence(), st.Attempt(), same)
	w.ends(value, j.key)
	w.log("%s fails the flow: %v", value, cause)
	j.checkCause(st, cause)
	w.tell(func(t *tally) {
		switch {
		case errors.Is(cause, redisidem.ErrDeadline):
			t.Late++
		case errors.Is(cause, redisidem.ErrCanceled):
			t.Canceled++
		default:
			t.Exhausted++
		}
	})
	j.began, j.asked = time.Now(), w.tick()
	j.pending = &result{
		place: place{key.ID(), st.Fence(), key.Revision}, key: j.key, value: value, made: seen.made, before: seen.values, answers: true,
		stateless: true,
	}
	w.wants(j.pending)
	return redisidem.JSON(410, value)
}

// adopt moves a key of the first version to the second one, at its recovery point or an earlier
// one. Its result is committed, too. At times it leaves the key alone.
func (j *job) adopt(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	w, key := j.worker.world, st.Key()
	to := key.RecoveryPoint
	if j.random != nil {
		switch j.random.IntN(5) {
		case 0:
			return redisidem.NothingDone(), nil
		case 1:
			return redisidem.Outcome{}, errBoom
		case 2:
			to = redisidem.Started
		}
	}
	j.checkState(st)
	same := j.fence == st.Fence()
	if !same {
		j.claimed = time.Now()
	}
	if !key.CanceledAt.IsZero() || w.returnlessCommit(key) != nil {
		w.violation("%s is adopted although it was canceled or is behind its point of no return", j.key)
	}
	j.fence, j.pending = st.Fence(), nil
	seen := w.reads(j.worker.number, j.asked, key)
	value := j.worker.value()
	w.begins(ctx, value, key, st.Fence(), st.Attempt(), same)
	w.ends(value, j.key)
	w.tell(func(t *tally) { t.Adopted++ })
	j.began, j.asked = time.Now(), w.tick()
	j.pending = &result{
		place: place{key.ID(), st.Fence(), key.Revision}, key: j.key, value: value, made: seen.made, before: seen.values, adopts: true, byHand: true,
	}
	w.wants(j.pending)
	return redisidem.Advance(to).WithState(value), nil
}

// do is the body of every callback. It records what the callback sees, takes time, and decides how
// the callback ends.
func (j *job) do(ctx context.Context, key *redisidem.Key, fence int64, attempt int, shardKey func(string) string) (
	redisidem.Outcome, error,
) {
	w := j.worker.world
	if j.fence == 0 {
		j.promptly(j.wait+2*timeout, "begins")
	}
	same := j.fence == fence
	if same && j.pending != nil && j.pending.state != committed {
		w.violation("the stage behind %s begins, which is %v", j.pending.value, j.pending.state)
	}
	if !same {
		j.claimed = time.Now()
	}
	if j.inFlow && !key.CanceledAt.IsZero() && !isCompensating(key.RecoveryPoint) && w.returnlessCommit(key) == nil {
		w.violation("a stage of %s runs at %s, although the key was canceled", j.key, key.RecoveryPoint)
	}
	if j.inFlow && attempt > 0 {
		j.checkMayRun(key, attempt)
	}
	j.fence, j.pending = fence, nil
	seen := w.reads(j.worker.number, j.asked, key)
	value := j.worker.value()
	w.begins(ctx, value, key, fence, attempt, same)
	returns := func() {}
	if attempt > 0 {
		h := &hanging{value: value, key: j.key, stage: key.RecoveryPoint, by: j.worker, inFlow: j.inFlow}
		returns = w.hangs.begins(h, leaseID{key.ID(), fence})
	}
	err := j.toil(ctx, value, shardKey != nil, returns)
	w.ends(value, j.key)
	j.began = time.Now()
	if err != nil {
		return redisidem.Outcome{}, err
	}
	o, idle, err := j.decide(key, value, shardKey)
	if idle {
		w.observer.idles(j.key, fence, key.Revision)
	}
	if err != nil || idle {
		return o, err // the call returns the key as it was when the callback began
	}
	j.asked = w.tick()
	j.pending = &result{
		place: place{key.ID(), fence, key.Revision}, key: j.key, value: value, made: seen.made, before: seen.values,
		answers: o.Response != nil, interim: o.Interim, snoozes: j.snooze > 0, effects: shardKey != nil,
		byHand: !j.inFlow,
	}
	if j.snooze > 0 && j.patient {
		j.pending.until = time.Now().Add(j.snooze)
	}
	goesOn := o.RecoveryPoint == next(key.RecoveryPoint) || o.RecoveryPoint == redisidem.Finished
	j.pending.returnless = w.plan.returnless && key.RecoveryPoint == noReturn && goesOn && !o.Interim && !j.undoes
	j.pending.marked = j.pending.returnless && j.inFlow
	if shardKey == nil && isCompensating(key.RecoveryPoint) {
		j.pending.answers = false
	}
	w.wants(j.pending)
	return o, nil
}

// toil waits for the duration of the work. Some callbacks check their context and some do not.
func (j *job) toil(ctx context.Context, value string, mayFail bool, returns func()) error {
	defer returns()
	if j.random == nil || j.leaves {
		return nil
	}
	w, r := j.worker.world, j.random
	work := upTo(200*time.Millisecond, r)
	if r.IntN(3) == 0 {
		work = upTo(longest, r)
	}
	stubborn := r.IntN(3) == 0
	if w.plan.hangs && (j.completing && r.IntN(2) == 0 || j.inFlow && r.IntN(5) == 0) {
		work, stubborn = stageTimeout+lease+upTo(lease, r), true
	}
	timer := time.NewTimer(work)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		cause := context.Cause(ctx)
		w.log("%s gets: %v", value, cause)
		if errors.Is(cause, redisidem.ErrLeaseLost) {
			j.excuse(value)
		}
		if !stubborn {
			return cause
		}
		<-timer.C
	}
	switch n := r.IntN(20); {
	case n < 2 || n < 4 && !mayFail:
		return errBoom
	case n == 2 && mayFail:
		w.ends(value, j.key) // a panic skips the call of ends in do
		w.log("%s panics", value)
		panic(errBoom)
	}
	return nil
}

// excuse checks that there is a reason why a lease was lost.
func (j *job) excuse(value string) {
	w := j.worker.world
	w.mu.Lock()
	w.count.Lost++
	excused := w.revoked[j.key] || w.removed[j.key]
	w.mu.Unlock()
	if !excused && !j.worker.network.struckSince(j.claimed) {
		w.violation("%s has lost its lease although nothing has happened", value)
	}
}

// decide chooses the outcome of a callback.
func (j *job) decide(key *redisidem.Key, value string, shardKey func(string) string) (o redisidem.Outcome, idle bool, err error) {
	n, point := 99, key.RecoveryPoint
	j.snooze, j.undoes = 0, false
	if j.random != nil && !j.leaves {
		n = j.random.IntN(100)
	}
	answer := redisidem.JSON(200, value)
	switch {
	case j.leaves && (point != redisidem.Started || j.random.IntN(2) == 0):
		return o, false, errBoom
	case isCompensating(point) && !j.inFlow:
		return o, false, errNotMine
	case n < 4 && shardKey != nil:
		return redisidem.NothingDone(), true, nil
	case n < 9 && j.inFlow:
		o, j.undoes = redisidem.Fail(answer), true
	case n < 18:
		o = redisidem.Finish(answer)
	case n < 24 && j.inFlow:
		j.snooze, j.patient = time.Millisecond+upTo(lease, j.random), n >= 20
		o = redisidem.Snooze(j.snooze, answer)
		if !j.patient {
			o = o.UntilCalled()
		}
	case n < 30:
		o = redisidem.Interim(point, answer)
	default:
		o = redisidem.Advance(next(point))
		if o.RecoveryPoint == redisidem.Finished || n < 65 {
			o.Response = &answer
		}
	}
	o = o.WithState(value)
	if !j.inFlow && o.RecoveryPoint == redisidem.Finished {
		o = j.byHand(o, key)
	}
	if shardKey != nil {
		o = o.WithEffects(
			effect.XAdd(shardKey(stream+j.key), "value", value), effect.IncrBy(shardKey(counter+j.key), 1),
		)
	}
	return o, false, nil
}

// byHand chooses what happens to the committed stages of a key's flow, when the key is finished
// without the flow.
func (j *job) byHand(o redisidem.Outcome, key *redisidem.Key) redisidem.Outcome {
	j.undoes = key.Flow != "" && j.random != nil && j.random.IntN(2) > 0
	if !j.undoes {
		return o.Leave()
	}
	return o.Undo(j.worker.flows[key.Flow])
}

// checkState compares the state that a stage finds with the state that the earlier stages left. A
// compensation finds the state that its own stage left, unless one was set by hand, or by an
// adoption, since.
func (j *job) checkState(st *redisidem.Stage) {
	w, last := j.worker.world, int64(math.MaxInt64)
	if undoes := st.Compensates(); undoes.Stage != "" {
		last = undoes.Revision
		if st.Key().Revision != int64(len(st.Key().Journal)) {
			return // the journal has no entry of a snooze that may have been by hand
		}
		w.tell(func(t *tally) { t.Undone++ })
	}
	got, want := "", ""
	if err := st.State(&got); err != nil && !errors.Is(err, redisidem.ErrNoState) {
		w.violation("state of %s: %v", j.key, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range st.Key().Journal {
		r := w.results[placeOf(st.Key(), e)]
		if r != nil && !r.stateless && !isCompensating(e.Stage) && (e.Revision <= last || r.byHand) {
			want = r.value
		}
	}
	if got != want {
		w.violated("%s finds the state %q, not %q", j.key, got, want)
	}
}

// promptly checks that a step did not take longer than limit.
func (j *job) promptly(limit time.Duration, what string) {
	if took := time.Since(j.began); took > limit+50*time.Millisecond {
		j.worker.world.violation("worker %d's call on %s %s after %v", j.worker.number, j.key, what, took)
	}
}

// end records the result of the call.
func (j *job) end(key *redisidem.Key, err error) {
	w := j.worker.world
	w.log("worker %d gets about %s: %v", j.worker.number, j.key, err)
	limit := 2 * timeout
	if j.fence == 0 {
		limit += j.wait
	}
	if w.plan.changes {
		limit += timeout + j.wait // a key of an earlier version is claimed once more, with a wait of its own
	}
	j.promptly(limit, "ends")
	if j.pending != nil && j.pending.state == open {
		switch {
		case errors.Is(err, redisidem.ErrFenced):
			w.becomes(j.pending, fenced)
		default:
			w.violation("the outcome of %s is unknown: %v", j.pending.value, err)
		}
	}
	w.mu.Lock()
	w.count.Operations++
	w.mu.Unlock()
	if err == nil && key != nil {
		if j.pending != nil {
			if j.pending.state != committed {
				w.violation("%s is said to be committed and is %v", j.pending.value, j.pending.state)
			}
			j.asked = j.pending.called
		}
		w.reads(j.worker.number, j.asked, key)
		if key.Replayed() {
			w.tell(func(t *tally) { t.Replayed++ })
			if !key.SnoozedUntil.IsZero() {
				w.tell(func(t *tally) { t.Early++ })
			}
		}
	}
	j.judge(err)
}

// judge checks that an error is an expected one, and that there is a reason for it.
func (j *job) judge(err error) {
	w := j.worker.world
	var locked *redisidem.LockedError
	switch {
	case err == nil, errors.Is(err, redisidem.ErrFenced), errors.Is(err, redisidem.ErrOutcomeUnknown):
	case errors.As(err, &locked):
		w.tell(func(t *tally) { t.Locked++ })
		if locked.RetryAfter < 0 || locked.RetryAfter > lease {
			w.violation("%s is locked for %v", j.key, locked.RetryAfter)
		}
	case errors.Is(err, redisidem.ErrUnavailable):
		w.tell(func(t *tally) { t.Unavailable++ })
		if !errors.Is(err, context.Canceled) && !j.worker.network.struckSince(j.began) {
			w.violation("worker %d has no Redis although nothing has happened", j.worker.number)
		}
	case errors.Is(err, redisidem.ErrPaused) && w.closed.Load():
		w.tell(func(t *tally) { t.TurnedAway++ })
	case errors.Is(err, redisidem.ErrOtherFlow) && w.plan.changes && j.worker.number%2 == 1:
		w.tell(func(t *tally) { t.Outdated++ }) // a program of the first version meets a key of the second one
	case errors.Is(err, errBoom), errors.Is(err, errNotMine), errors.Is(err, context.Canceled):
	case errors.Is(err, context.DeadlineExceeded) && w.plan.hangs: // the stage's Timeout
	case errors.Is(err, redisidem.ErrNotFound):
		w.mu.Lock()
		w.ticks++
		w.operations = append(w.operations, absent(j, w.ticks))
		w.mu.Unlock()
	case errors.Is(err, redisidem.ErrFinished), errors.Is(err, redisidem.ErrStale), errors.Is(err, redisidem.ErrLeaseLost):
	default:
		w.violation("worker %d gets an error about %s that should not be: %v", j.worker.number, j.key, err)
	}
}
