package sim

import (
	"errors"
	"sync"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// hangs watches the runs of stages that outlast their context.
type hangs struct {
	world *world

	mu   sync.Mutex
	runs map[leaseID]*hanging // the runs that have not returned
}

// leaseID identifies a lease: the key's ID and the fence.
type leaseID struct {
	id    string
	fence int64
}

// hanging is a run of a stage, which is reported if it hangs.
type hanging struct {
	value, key, stage string
	by                *worker
	inFlow            bool
	began             time.Time
	lost              time.Time // when its lease was lost; zero: it was not
	reported          bool
}

// due returns when the run is to be reported: one lease after its context has ended, because of the
// stage's Timeout or because the lease was lost. It returns zero if neither has happened yet.
func (h *hanging) due() (at time.Time) {
	if !h.lost.IsZero() {
		at = h.lost.Add(lease)
	}
	if h.inFlow && h.by.world.plan.hangs {
		if late := h.began.Add(stageTimeout + lease); at.IsZero() || late.Before(at) {
			at = late
		}
	}
	return at
}

// nearly is the precision of the time of a report.
const nearly = 10 * time.Millisecond

// begins records that a run of a stage begins. The returned function records that it has returned.
func (s *hangs) begins(h *hanging, at leaseID) (returns func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.began = time.Now()
	s.runs[at] = h
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.runs[at] == h {
			delete(s.runs, at)
		}
		if due := h.due(); !h.reported && !due.IsZero() && time.Since(due) > nearly {
			s.world.violation("%s has hung at %s of %s, and was not reported", h.value, h.stage, h.key)
		}
		if h.reported {
			h.by.turns.returns(h.value)
		}
	}
}

// observe follows the events of a worker.
func (s *hangs) observe(e redisidem.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.runs[leaseID{e.Key, e.Fence}]
	switch e.Kind {
	case redisidem.EventLeaseLost:
		if h != nil && h.lost.IsZero() && !errors.Is(e.Err, redisidem.ErrFenced) {
			h.lost = time.Now()
		}
	case redisidem.EventHung:
		switch {
		case h == nil:
			s.world.violation("a stage is reported as hung that does not run: %+v", e)
			return
		case h.reported:
			s.world.violation("%s is reported as hung twice", h.value)
		case e.Stage != h.stage || e.Scope != scopeOf(h.key) || h.inFlow && redisidem.Reason(e.Err) == "":
			s.world.violation("%s hangs at %s of %s, and the report is %+v", h.value, h.stage, h.key, e)
		}
		if due := h.due(); due.IsZero() || time.Since(due).Abs() > nearly {
			s.world.violation("%s is reported as hung at the wrong time, not at %v", h.value, due.Sub(s.world.began))
		}
		h.reported = true
		s.world.log("%s hangs", h.value)
		s.world.tell(func(t *tally) { t.Hung++ })
		h.by.turns.hangs(h.value, h.key)
	default:
	}
}
