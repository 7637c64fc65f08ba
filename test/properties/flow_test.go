package properties

import (
	"context"
	"errors"
	"math"
	"time"

	"pgregory.net/rapid"

	"github.com/redisidem/redisidem/redisidem"
)

// The flow that works on some of the keys. It has two stages, and a completer gives a key up after
// two attempts of one.
const (
	flowName     = "orders"
	flowID       = "orders/1"
	recoverAfter = time.Second
	interimFor   = 15 * time.Minute
	maxAttempts  = 2
	second       = "two"
)

// plan is what the stages of the next run of a flow do.
type plan struct {
	first  string // what the stage at Started does
	second string
	out    *outcome // how the last one ends
}

var errStage = errors.New("the stage failed")

// newFlow makes the flow, whose stages do what the machine's plan says.
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
	ends := []string{"finish", "fail", "interim", "idle", "error", "error"}
	m.plan.first = rapid.SampledFrom(append(ends, "next", "next", "next")).Draw(t, "first stage")
	m.plan.second = rapid.SampledFrom(ends).Draw(t, "second stage")
	body := rapid.SliceOfN(rapid.Byte(), 1, 6).Draw(t, "body")
	m.plan.out = &outcome{Outcome: redisidem.Finish(redisidem.Response{Code: 201, Body: body})}
}

// run is what a run of the flow does once a worker has its lease.
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
		default:
			s.commit(now, w, p.out, true)
			s.due = time.Time{}
			return nil
		}
	}
}

// enter puts the key in the due index. The time for clients to come back doubles with each attempt.
func (s *slot) enter(from time.Time, attempt int) {
	if s.record != nil && s.record.dead {
		return // it stays a dead letter until a commit
	}
	doubled := math.Pow(2, float64(min(max(attempt-1, 0), 6)))
	after := time.Duration(float64(recoverAfter) * doubled)
	s.put(from.Add(after), after/4)
}

// carryOn is what a commit does to a key of a flow besides. By hand it knows the flow's name and
// nothing else of it.
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

// put sets when the key is due, give or take a jitter upwards.
func (s *slot) put(due time.Time, jitter time.Duration) { s.due, s.jitter = due, jitter }

// claimFlow is the claim of a flow's run. It says whether the worker has the lease; if not, what
// its caller hears.
func (s *slot) claimFlow(now time.Time, w *worker) (granted bool, want error) {
	switch r := s.record; {
	case r.point == redisidem.Finished:
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

// Sweep lets a completer look for keys.
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
		s.indexed = later(s.indexed, now.Add((s.lease+s.retention)/2)) // each look sees to that
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
		switch granted, err := s.claimFlow(now, w); {
		case errors.Is(err, redisidem.ErrLocked):
		case err != nil: // no program has the recovery point
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

// limit is how many attempts of this revision there may be before a completer gives the key up.
func (r *record) limit() int {
	if r.requeued && r.requeuedAt == r.revision {
		return maxAttempts + r.requeuedRuns
	}
	return maxAttempts
}

// Letters looks at the dead letters.
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

// Requeue takes a key out of the dead letters.
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
	case r.flow == "": // it is another record
		want = redisidem.ErrStale
	case !r.dead && !s.due.IsZero(): // or it was carried on since
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

// placed checks, whatever the model says, that a key of the flow that is not finished is where
// a worker comes to it: it has a lease whose lock is still there, or it is due, or a dead letter,
// and never both of these.
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
	ends := m.now().After(s.indexed.Add(-m.least())) // see compareDue
	switch letter := fields[2] != nil; {
	case fields[0] == nil, fields[1] == redisidem.Finished:
	case due && dead || letter != dead:
		m.t.Fatalf("%s is due: %v, among the dead letters: %v, a dead letter: %v", s.value, due, dead, letter)
	case !due && !dead && !ends && m.raw.Exists(m.ctx, lock).Val() == 0:
		m.t.Fatalf("%s is not finished, and no worker will come to it", s.value)
	}
}

// compareDue compares when a completer may look at a key.
func (m *machine) compareDue(s *slot) {
	m.t.Helper()
	if s.prefix == "" {
		return
	}
	_, err := m.raw.ZScore(m.ctx, s.prefix+"dead:"+flowName, m.scope.ID(s.value)).Result()
	if r := s.record; r != nil && r.dead && (err != nil || !s.due.IsZero()) {
		m.t.Fatalf("%s is a dead letter that is not in their list (%v), or due at %v", s.value, err, s.due)
	}
	score, err := m.raw.ZScore(m.ctx, s.prefix+"due:"+flowName, m.scope.ID(s.value)).Result()
	there := err == nil
	if !there && (s.record == nil || m.now().After(s.indexed.Add(-m.least()))) {
		s.due = time.Time{} // the index may end with the last record that was entered, unless a completer scans
	}
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
