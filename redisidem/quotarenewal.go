package redisidem

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
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
	slots := make(chan struct{}, shareCalls)
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
		for s := q.next(); s != nil; s = q.next() {
			select {
			case <-ctx.Done():
				return
			case slots <- struct{}{}:
			}
			calls.Go(func() {
				defer func() { <-slots }()
				q.renewShare(ctx, s)
			})
		}
	}
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

// next returns the next share of the queue, or nil.
func (q *Quota) next() *scopeShare {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) == 0 {
		q.queue = nil
		return nil
	}
	s := q.queue[0]
	q.queue = q.queue[1:]
	s.queued = false
	return s
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
