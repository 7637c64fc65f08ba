package sim

import (
	"context"
	"errors"

	"github.com/redisidem/redisidem/redisidem"
)

// pauser is an operator who pauses the flow and resumes it.
type pauser struct {
	worker    *worker
	inspector *redisidem.Inspector
	sure      bool // the flow is paused: no completer may begin a run in a sweep that begins now
	unsure    bool // a resume has an unknown outcome, and may still arrive
}

// pause pauses the flow, or its version.
func (p *pauser) pause() {
	flow := "orders"
	if p.worker.random.IntN(2) == 0 {
		flow = "orders/1"
	}
	err := p.inspector.Pause(context.Background(), flow, false, redisidem.Act{Actor: "sim", Reason: "a test"})
	p.worker.world.log("worker %d pauses %s: %v", p.worker.number, flow, err)
	switch {
	case err == nil:
		p.worker.world.tell(func(t *tally) { t.Paused++ })
		p.sure = !p.unsure && !p.worker.world.plan.forgets
	case !errors.Is(err, redisidem.ErrUnavailable):
		p.worker.world.violation("%s cannot be paused: %v", flow, err)
	}
}

// resume ends all pauses.
func (p *pauser) resume() {
	for _, flow := range []string{"orders", "orders/1"} {
		err := p.inspector.Resume(context.Background(), flow, redisidem.Act{Actor: "sim", Reason: "a test"})
		p.worker.world.log("worker %d resumes %s: %v", p.worker.number, flow, err)
		switch {
		case err == nil:
			p.worker.world.tell(func(t *tally) { t.Resumed++ })
		case errors.Is(err, redisidem.ErrUnavailable):
			p.unsure = true
		case !errors.Is(err, redisidem.ErrNotPaused):
			p.worker.world.violation("%s cannot be resumed: %v", flow, err)
		}
	}
	p.sure = false
}
