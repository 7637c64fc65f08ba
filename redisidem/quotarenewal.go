package redisidem

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// queueIfUneven queues a share for a call in the background, if it has many places without a use or
// few that are left. The caller holds mu.
func (q *Quota) queueIfUneven(s *scopeShare) {
	if s.isUneven() && time.Now().Before(s.until) {
		q.enqueue(s)
		select {
		case q.queued <- struct{}{}:
		default: // the renewal is awake already
		}
	}
}

// enqueue queues a share for a call in the background. The caller holds mu.
func (q *Quota) enqueue(s *scopeShare) {
	if !s.queued {
		s.queued = true
		q.queue = append(q.queue, s)
	}
}

// renew makes the calls in the background until ctx ends: for the shares in the queue at once, and
// for others when their renewal is due.
func (q *Quota) renew(ctx context.Context) {
	defer close(q.ended)
	ticker := time.NewTicker(shareRenewal / 5)
	defer ticker.Stop()
	servers := make(map[string]*serverCalls)
	var calls sync.WaitGroup
	defer calls.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.queued:
		case <-ticker.C:
			q.enqueueDue(time.Now())
		}
		for _, s := range q.take() {
			server := q.service.redis.Master(ctx, protocol.QuotaKey(q.service.cfg.Namespace, s.scope))
			c := servers[server]
			if c == nil {
				c = &serverCalls{}
				servers[server] = c
			}
			if c.add(&q.mu, s) {
				calls.Go(func() {
					for s := c.next(ctx, &q.mu); s != nil; s = c.next(ctx, &q.mu) {
						q.renewShare(ctx, s)
					}
				})
			}
		}
	}
}

// serverCalls are the calls in the background to one server. Each has shareCalls of its own, so
// that calls to a server that does not answer keep none to another one waiting.
type serverCalls struct {
	queue   []*scopeShare
	callers int
}

// add queues a share. It reports whether the caller must start one more caller.
func (c *serverCalls) add(mu *sync.Mutex, s *scopeShare) bool {
	mu.Lock()
	defer mu.Unlock()
	c.queue = append(c.queue, s)
	if c.callers == shareCalls {
		return false
	}
	c.callers++
	return true
}

// next returns the next share of the queue for a caller, or nil if the caller must end.
func (c *serverCalls) next(ctx context.Context, mu *sync.Mutex) *scopeShare {
	mu.Lock()
	defer mu.Unlock()
	if len(c.queue) == 0 || ctx.Err() != nil {
		c.queue = nil
		c.callers--
		return nil
	}
	s := c.queue[0]
	c.queue = c.queue[1:]
	s.queued = false
	return s
}

// enqueueDue queues the shares whose renewal is due.
func (q *Quota) enqueueDue(now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.shares {
		if !now.Before(s.renewal) {
			q.enqueue(s)
		}
	}
}

// take empties the queue.
func (q *Quota) take() []*scopeShare {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := q.queue
	q.queue = nil
	return taken
}

// renewShare renews a share, or gives it back if it is not used. It does nothing while Redis does
// not answer, and leaves the share to a request that has its turn.
func (q *Quota) renewShare(ctx context.Context, s *scopeShare) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-s.turn }()
	q.mu.Lock()
	now := time.Now()
	forgotten := q.shares[s.scope] != s
	away, unused := s.isAway(now, q.service.cfg.Timeout), s.isUnused() && !now.Before(s.renewal)
	q.mu.Unlock()
	lasting := context.WithoutCancel(ctx)
	switch {
	case forgotten, away:
	case unused:
		_ = q.giveBack(lasting, s)
	default:
		_ = q.call(lasting, s) // the next renewal tries again
	}
}

// Close ends the renewals and gives all shares back. Call it when the requests have ended, and
// before Service.Close. Requests that still run keep their places for 15 s. It blocks until ctx
// ends at the latest, and then returns the context's error; the other shares lapse. If Redis does
// not answer, all do, and Close returns nil. After Close, Admit counts in this process only. A
// second Close does nothing.
func (q *Quota) Close(ctx context.Context) error {
	q.stop()
	select {
	case <-q.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil
	}
	q.closed = true
	shares := slices.Collect(maps.Values(q.shares))
	q.mu.Unlock()
	q.giveAllBack(ctx, shares)
	return ctx.Err()
}

// giveAllBack gives shares back, until ctx ends or Redis does not answer.
func (q *Quota) giveAllBack(ctx context.Context, shares []*scopeShare) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	slots := make(chan struct{}, shareCalls)
	var calls sync.WaitGroup
	defer calls.Wait()
	for _, s := range shares {
		slots <- struct{}{}
		if ctx.Err() != nil {
			return
		}
		calls.Go(func() {
			defer func() { <-slots }()
			select {
			case s.turn <- struct{}{}:
				if errors.Is(q.giveBack(ctx, s), ErrUnavailable) {
					stop()
				}
				<-s.turn
			case <-ctx.Done():
			}
		})
	}
}
