package sim

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// operator pauses the flow and resumes it, requeues dead letters, and rebuilds due indexes.
type operator struct {
	worker    *worker
	inspector *redisidem.Inspector
	sure      bool // the flow is paused: no completer may begin a run in a sweep that begins now
	unsure    bool // a resume has an unknown outcome, and may still arrive
}

// pause pauses the flow, or its version.
func (p *operator) pause() {
	flow := "orders"
	if p.worker.random.IntN(2) == 0 {
		flow = "orders/1"
	}
	clients := p.worker.world.plan.pausable && p.worker.random.IntN(2) == 0
	if clients {
		p.worker.world.closed.Store(true)
	}
	err := p.inspector.Pause(context.Background(), flow, clients, redisidem.Act{Actor: "sim", Reason: "a test"})
	p.worker.world.log("worker %d pauses %s: %v", p.worker.number, flow, err)
	switch {
	case err == nil:
		p.worker.world.tell(func(t *tally) { t.Paused++ })
		all := flow == "orders" || !p.worker.world.plan.changes // the other version goes on
		p.sure = p.sure || all && !p.unsure && !p.worker.world.plan.forgets
	case !errors.Is(err, redisidem.ErrUnavailable):
		p.worker.world.violation("%s cannot be paused: %v", flow, err)
	}
}

// resume ends all pauses.
func (p *operator) resume() {
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

// requeueAll requeues all dead letters, one after the other, while they may become others.
func (p *operator) requeueAll() {
	w := p.worker.world
	dead := redisidem.Filter{States: []redisidem.KeyState{redisidem.KeyDead}}
	for page, err := range p.inspector.List(context.Background(), dead, "") {
		if err != nil {
			if !errors.Is(err, redisidem.ErrUnavailable) {
				w.violation("the dead letters cannot be listed: %v", err)
			}
			return
		}
		for _, key := range page.Keys {
			w.requeues(key.Value)
			err := p.inspector.Requeue(context.Background(), key, redisidem.Act{Actor: "sim", Reason: "a test"})
			w.log("worker %d requeues %s with the others: %v", p.worker.number, key.Value, err)
			switch {
			case err == nil:
				w.tell(func(t *tally) { t.RequeuedTogether++ })
			case errors.Is(err, redisidem.ErrUnavailable), errors.Is(err, redisidem.ErrNotFound):
			case errors.Is(err, redisidem.ErrStale): // a worker has claimed it since it was listed
			default:
				w.violation("%s cannot be requeued: %v", key.Value, err)
			}
		}
	}
}

// reindex loses the due indexes and rebuilds them. Every unfinished key must be in them then.
func (p *operator) reindex() {
	w := p.worker.world
	w.lost.Store(true)
	for _, name := range w.server.Keys() {
		if strings.Contains(name, "}:due:") {
			w.server.Del(name)
		}
	}
	w.log("the due indexes are lost")
	for _, flow := range []string{"orders", "bills"} {
		if !p.rebuild(flow) {
			return
		}
	}
	w.lost.Store(false)
	w.observer.look()
}

// rebuild rebuilds the indexes of a flow. It reports whether they are complete.
func (p *operator) rebuild(flow string) bool {
	w := p.worker.world
	for range 5 {
		var err error
		var done redisidem.Reindexed
		for done, err = range p.inspector.Reindex(context.Background(), flow, time.Second, "", redisidem.Act{Actor: "sim", Reason: "a test"}) {
			if err != nil {
				break
			}
		}
		w.log("worker %d rebuilds the indexes of %s: %+v %v", p.worker.number, flow, done, err)
		w.tell(func(t *tally) { t.Reindexed += done.Entered })
		switch {
		case err == nil:
			return true
		case !errors.Is(err, redisidem.ErrUnavailable):
			w.violation("the indexes of %s cannot be rebuilt: %v", flow, err)
			return false
		}
		time.Sleep(time.Second)
	}
	return false
}
