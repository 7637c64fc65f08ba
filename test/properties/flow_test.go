package properties

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/redisidem/redisidem/redisidem"
)

// Some keys are worked on by this flow. It has two stages. A completer makes a key a dead letter
// after two attempts of one stage.
const (
	flowName     = "orders"
	flowID       = "orders/1"
	recoverAfter = time.Second
	interimFor   = 15 * time.Minute
	snoozeFor    = 5 * time.Second
	maxAttempts  = 2
	second       = "two"
)

// plan is the behaviour of the stages in the next run of the flow.
type plan struct {
	first  string // the stage at Started
	second string
	out    *outcome // how the last stage ends
}

var errStage = errors.New("the stage failed")

// newFlow creates the flow. Its stages follow the machine's plan.
func (m *machine) newFlow() *redisidem.Flow {
	stage := func(does func() string) redisidem.StageFunc {
		return func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			switch does() {
			case "next":
				return redisidem.Next(), nil
			case "idle":
				return redisidem.NothingDone(), nil
			case "error":
				return redisidem.Outcome{}, errStage
			case "interim":
				return redisidem.Interim(st.Key().RecoveryPoint, *m.plan.out.Response), nil
			case "snooze":
				return redisidem.Snooze(snoozeFor, *m.plan.out.Response), nil
			case "fail":
				return redisidem.Fail(*m.plan.out.Response), nil
			}
			return redisidem.Finish(*m.plan.out.Response), nil
		}
	}
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: flowName, Version: 1, RecoverAfter: recoverAfter, InterimFor: interimFor, MaxAttempts: maxAttempts,
		Stages: []redisidem.FlowStage{
			{Point: redisidem.Started, Work: stage(func() string { return m.plan.first }), Next: []string{second, redisidem.Finished}},
			{Point: second, Work: stage(func() string { return m.plan.second })},
		},
	})
	m.must(err)
	return flow
}

// draw draws a plan.
func (m *machine) draw(t *rapid.T) {
	ends := []string{"finish", "fail", "interim", "snooze", "idle", "error", "error"}
	m.plan.first = rapid.SampledFrom(append(ends, "next", "next", "next")).Draw(t, "first stage")
	m.plan.second = rapid.SampledFrom(ends).Draw(t, "second stage")
	body := rapid.SliceOfN(rapid.Byte(), 1, 6).Draw(t, "body")
	m.plan.out = &outcome{Outcome: redisidem.Finish(redisidem.Response{Code: 201, Body: body})}
}

// run updates the model for a run of the flow by a worker that has the lease.
func (s *slot) run(now time.Time, w *worker, p plan) error {
	r := s.record
	r.flow = flowID
	s.indexed = later(s.indexed, now.Add(s.lease+s.retention))
	s.enter(now.Add(s.lease), r.runs)
	for {
		does := p.first
		if r.point == second {
			does = p.second
		}
		switch does {
		case "next":
			s.commit(now, w, &outcome{Outcome: redisidem.Advance(second)}, true)
			s.put(now.Add(s.lease+recoverAfter), recoverAfter/4)
		case "idle":
			r.runs--
			s.abandon(w)
			s.enter(now, r.runs)
			return nil
		case "error":
			s.abandon(w)
			s.enter(now, r.runs)
			return errStage
		case "interim":
			out := *p.out
			out.Outcome = redisidem.Interim(r.point, *out.Response)
			s.commit(now, w, &out, true)
			s.put(now.Add(interimFor), 0)
			return nil
		case "snooze":
			out := *p.out
			out.Outcome = redisidem.Interim(r.point, *out.Response)
			before := len(r.journal) - 1
			if !r.snoozed.IsZero() {
				r.journal = slices.Delete(slices.Clone(r.journal), before, before+1) // the entries of snoozes are merged
			}
			s.commit(now, w, &out, true)
			r.snoozed, r.waits = now.Add(snoozeFor), true
			s.put(r.snoozed, 0)
			return nil
		default:
			s.commit(now, w, p.out, true)
			s.due = time.Time{}
			return nil
		}
	}
}

// enter puts the key in the due index. The time that clients have to return doubles with each
// attempt.
func (s *slot) enter(from time.Time, attempt int) {
	if s.record != nil && s.record.dead {
		return // a dead letter remains one until a commit
	}
	doubled := math.Pow(2, float64(min(max(attempt-1, 0), 6)))
	after := time.Duration(float64(recoverAfter) * doubled)
	s.put(from.Add(after), after/4)
}

// carryOn updates the model for a commit to a key of a flow. A commit by hand knows only the name
// of the flow.
func (s *slot) carryOn(now time.Time, w *worker) {
	r := s.record
	dead := r.dead
	r.dead = false
	switch {
	case w.flow || r.flow == "":
	case r.point == redisidem.Finished:
		s.due = time.Time{}
	case dead || !s.due.IsZero():
		s.put(now.Add(s.lease), 0)
		s.indexed = later(s.indexed, now.Add(s.lease+s.retention))
	}
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// put sets when the key is due. The real time may be later by up to jitter.
func (s *slot) put(due time.Time, jitter time.Duration) { s.due, s.jitter = due, jitter }

// claimFlow updates the model for the claim of a flow's run. It reports whether the worker gets the
// lease, and otherwise returns the error of its caller. A snoozed stage has an answer.
func (s *slot) claimFlow(now time.Time, w *worker) (granted bool, want error) {
	switch r := s.record; {
	case r.point == redisidem.Finished, r.snoozes(now):
		return false, nil
	case r.point != redisidem.Started && r.point != second:
		return false, redisidem.ErrUnknownRecoveryPoint
	case s.held():
		return false, redisidem.ErrLocked
	}
	s.claim(now, w)
	return true, nil
}

// Run runs the flow for a request.
func (m *machine) Run(t *rapid.T) {
	need(t, m.travels)
	o, s := m.connected(t), m.slot(t)
	request := rapid.IntRange(0, len(requests)-1).Draw(t, "request")
	m.draw(t)
	now := m.now()
	want := redisidem.ErrFingerprintMismatch
	if s.record == nil {
		s.create(now, request)
	}
	if s.record.request == request {
		w := &worker{owner: o, flow: true}
		var granted bool
		if granted, want = s.claimFlow(now, w); granted {
			want = s.run(now, w, m.plan)
			s.fence = max(s.fence, s.record.fence)
		} else if want == nil && s.record.notKept {
			want = redisidem.ErrNotKept
		}
	}
	key, err := o.scope.DoFlow(m.ctx, s.value, requests[request], o.flow)
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
	if err == nil {
		m.compare(s, key)
		m.saw(s, key)
	}
}

// Sweep runs one sweep of a completer.
func (m *machine) Sweep(t *rapid.T) {
	need(t, m.completes)
	o := m.connected(t)
	m.draw(t)
	now := m.now()
	var want redisidem.SweepResult
	for _, s := range m.slots {
		if s.due.IsZero() {
			continue
		}
		s.indexed = later(s.indexed, now.Add((s.lease+s.retention)/2)) // each sweep makes sure of that
		if s.due.After(now) {
			continue
		}
		want.Due++
		s.put(now.Add(s.lease), 0)
		r := s.record
		w := &worker{owner: o, flow: true}
		if r == nil || r.point == redisidem.Finished || r.flow == "" {
			s.due = time.Time{} // there is nothing to complete
			continue
		}
		snoozes := r.snoozes(now)
		switch granted, err := s.claimFlow(now, w); {
		case snoozes: // a completer may find it too early, because it was put off
			s.put(r.snoozed, 0)
		case errors.Is(err, redisidem.ErrLocked):
		case err != nil && s.held(): // its worker may still advance it to a known recovery point
		case err != nil: // no program knows the recovery point
			s.claim(now, w)
			r.runs--
			r.attempts--
			if r.refusedAt != r.revision {
				r.refusedAt, r.refused = r.revision, 0
			}
			r.refused++
			s.abandon(w)
			if r.refused >= maxAttempts {
				r.dead, s.due = true, time.Time{}
				want.DeadLettered++
				break
			}
			s.enter(now, r.refused)
			want.Failed++
		case granted && r.runs > r.limit():
			r.runs--
			r.attempts--
			s.abandon(w)
			r.dead = true
			s.due = time.Time{}
			want.DeadLettered++
		case granted:
			if s.run(now, w, m.plan) != nil {
				want.Failed++
			} else if r.point == redisidem.Finished {
				want.Finished++
			}
		}
		s.fence = max(s.fence, r.fence)
	}
	completer, err := redisidem.NewCompleter(o.service, []*redisidem.Flow{o.flow}, nil)
	m.must(err)
	got, err := completer.Sweep(m.ctx)
	m.must(err)
	if got != want {
		t.Fatalf("the completer did %+v, want %+v", got, want)
	}
}

// limit returns the number of attempts at this revision after which a completer makes the key a
// dead letter.
func (r *record) limit() int {
	if r.requeued && r.requeuedAt == r.revision {
		return maxAttempts + r.requeuedRuns
	}
	return maxAttempts
}

// Letters reads the dead letters.
func (m *machine) Letters(t *rapid.T) {
	need(t, m.completes)
	o := m.connected(t)
	m.now()
	want := make(map[string]bool)
	for _, s := range m.slots {
		if s.record != nil && s.record.dead {
			want[s.value] = true
		}
	}
	for key, err := range o.service.DeadLetters(m.ctx, flowName) {
		m.must(err)
		if !want[key.Value] {
			t.Fatalf("%s is a dead letter and should not be, or was listed twice", key.Value)
		}
		delete(want, key.Value)
	}
	if len(want) > 0 {
		t.Fatalf("%v are no dead letters", want)
	}
}

// Requeue requeues a dead letter.
func (m *machine) Requeue(t *rapid.T) {
	need(t, m.completes)
	o, v := m.view(t)
	s := v.slot
	now := m.now()
	r := s.record
	var want error
	switch {
	case v.key.Flow == "":
		want = redisidem.ErrInvalid
	case r == nil:
		want = redisidem.ErrNotFound
	case r.point == redisidem.Finished:
		want = redisidem.ErrFinished
	case r.flow == "": // it is a different record
		want = redisidem.ErrStale
	case !r.dead && !s.due.IsZero(): // or it has advanced since
		want = redisidem.ErrNotFound
	case s.held():
		want = redisidem.ErrLocked
	default:
		r.dead, r.refused = false, 0
		r.requeued, r.requeuedAt, r.requeuedRuns = true, r.revision, r.runs
		s.put(now.Truncate(time.Second), 0)
		s.indexed = later(s.indexed, r.expires)
	}
	if err := o.scope.Requeue(m.ctx, v.key); !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

// placed checks, apart from the model, that workers can find an unfinished key of the flow. The key
// has a lease whose lock still exists, or it is due or a dead letter, but not both.
func (m *machine) placed(s *slot) {
	m.t.Helper()
	if s.record == nil {
		return
	}
	record, lock := m.place(s)
	in := func(index string) bool {
		return m.raw.ZScore(m.ctx, s.prefix+index+":"+flowName, m.scope.ID(s.value)).Err() == nil
	}
	due, dead := in("due"), in("dead")
	fields := m.raw.HMGet(m.ctx, record, "flow", "recovery_point", "dead_letter").Val()
	ends := m.mayLapse(s, m.now())
	switch letter := fields[2] != nil; {
	case fields[0] == nil, fields[1] == redisidem.Finished:
	case due && dead || letter != dead:
		m.t.Fatalf("%s is due: %v, among the dead letters: %v, a dead letter: %v", s.value, due, dead, letter)
	case !due && !dead && !ends && m.raw.Exists(m.ctx, lock).Val() == 0:
		m.t.Fatalf("%s is not finished, and no worker will come to it", s.value)
	}
}

// dueIndex returns the Redis key of the due index in a slot's shard.
func (m *machine) dueIndex(s *slot) string { return s.prefix + "due:" + flowName }

// mayLapse reports whether the due index may have expired: without a completer that scans, it may
// expire with the last record that was entered.
func (m *machine) mayLapse(s *slot, now time.Time) bool {
	return now.After(s.indexed.Add(-m.least()))
}

// lapseDue makes the model forget when a key is due, if the due index has expired with it. This
// comes before each action, since a commit enters some keys again only if they are still there.
func (m *machine) lapseDue(s *slot, now time.Time) {
	if s.prefix == "" || s.due.IsZero() || s.record != nil && !m.mayLapse(s, now) {
		return
	}
	if m.raw.ZScore(m.ctx, m.dueIndex(s), m.scope.ID(s.value)).Err() != nil {
		s.due = time.Time{}
	}
}

// compareDue compares the time at which a completer may find a key.
func (m *machine) compareDue(s *slot) {
	m.t.Helper()
	if s.prefix == "" {
		return
	}
	_, err := m.raw.ZScore(m.ctx, s.prefix+"dead:"+flowName, m.scope.ID(s.value)).Result()
	if r := s.record; r != nil && r.dead && (err != nil || !s.due.IsZero()) {
		m.t.Fatalf("%s is a dead letter that is not in their list (%v), or due at %v", s.value, err, s.due)
	}
	m.lapseDue(s, m.now())
	score, err := m.raw.ZScore(m.ctx, m.dueIndex(s), m.scope.ID(s.value)).Result()
	there := err == nil
	if there != !s.due.IsZero() {
		m.t.Fatalf("%s is in the due index: %v, want %v", s.value, there, !there)
	}
	if !there {
		return
	}
	got := time.UnixMilli(int64(score))
	if d := got.Sub(s.due); d < -m.slack || d > s.jitter+m.slack {
		m.t.Fatalf("%s is due at %v, want %v and up to %v more", s.value, got, s.due, s.jitter)
	}
	s.put(got, 0)
}
