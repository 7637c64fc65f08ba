package redisidem

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// pausedFlows is what a completer knows about pauses: the answer of its last turn. If Redis does
// not answer, it stays in force.
type pausedFlows struct {
	mu     sync.Mutex
	now    map[string]bool      // by name or name/version
	keptAt map[string]time.Time // when the keys of each flow name were kept from expiring
}

// learn remembers the flows and versions that are paused.
func (p *pausedFlows) learn(flows []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = make(map[string]bool, len(flows))
	for _, flow := range flows {
		p.now[flow] = true
	}
}

// has reports whether a flow is paused, given by its name and as name/version.
func (p *pausedFlows) has(name, id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now[name] || p.now[id]
}

// keepNow reports whether it is time to keep the keys of a flow name from expiring.
func (p *pausedFlows) keepNow(name string, every time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at, ok := p.keptAt[name]; ok && time.Since(at) < every {
		return false
	}
	if p.keptAt == nil {
		p.keptAt = make(map[string]time.Time)
	}
	p.keptAt[name] = time.Now()
	return true
}

// forgetKept makes the next call of keepNow for a flow name report true.
func (p *pausedFlows) forgetKept(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.keptAt, name)
}

// runnable returns the newest version of a flow that is not paused, or nil. Keys of the others are
// recognised by the reply to the claim, which then takes no lease.
func (c *Completer) runnable(name string) (newest *Flow) {
	for _, f := range c.flows {
		if f.cfg.Name == name && (newest == nil || newest.cfg.Version < f.cfg.Version) && !c.paused.has(name, f.id) {
			newest = f
		}
	}
	return newest
}

// keepPaused keeps the keys of flows from expiring, of which a version is paused. Otherwise each
// claim of a completer would do so. It looks at their indexes four times in a retention.
func (c *Completer) keepPaused(ctx context.Context, all []*workers) (errs error) {
	for _, w := range all {
		name := w.flow.cfg.Name
		paused := false
		for _, f := range c.flows {
			paused = paused || f.cfg.Name == name && c.paused.has(name, f.id)
		}
		if !paused || ctx.Err() != nil || !c.paused.keepNow(name, c.service.cfg.Retention/4) {
			continue
		}
		if err := c.prolong(ctx, w); err != nil {
			c.paused.forgetKept(name)
			errs = errors.Join(errs, err)
		}
	}
	return errs
}

// prolong lets the keys of a flow live for as long as after a claim.
func (c *Completer) prolong(ctx context.Context, w *workers) error {
	found, err := c.look(ctx, []*workers{w})
	if err != nil {
		return err
	}
	s := c.service
	if err := s.inFlight.enter(); err != nil {
		return err
	}
	defer s.inFlight.leave()
	for _, prefix := range found[w] {
		if err := explain(ctx, "completer", s.redis.Prolong(ctx, protocol.DueIndex(prefix, w.flow.cfg.Name))); err != nil {
			return err
		}
	}
	return nil
}

// readPauses learns the pauses without a turn.
func (c *Completer) readPauses(ctx context.Context) error {
	all, err := NewInspector(c.service).Pauses(ctx)
	if err != nil {
		return err
	}
	flows := make([]string, 0, len(all))
	for _, p := range all {
		flows = append(flows, p.Flow)
	}
	c.paused.learn(flows)
	return nil
}

// deadLetterReason returns why the key becomes a dead letter, or "" if it does not. Redis is asked
// for the last pause only if there is a reason without one, since that is rare.
func (c *Completer) deadLetterReason(ctx context.Context, l *Lease) (string, error) {
	var resumed time.Time
	why := l.deadLetterReason(resumed)
	if why == "" {
		return "", nil
	}
	bounded, cancel := c.service.bounded(ctx)
	defer cancel()
	resumed, err := c.service.redis.Resumed(bounded, l.flow.id)
	if err = explain(ctx, "completer", err); err != nil {
		return "", err
	}
	return l.deadLetterReason(resumed), nil
}
