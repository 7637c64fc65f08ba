package redisidem

import (
	"context"
	"sync/atomic"
	"time"
)

// sharedTimeouts gives operations on Redis a timeout without a timer and a channel for each.
// Operations that begin at nearly the same time share one.
type sharedTimeouts struct {
	after time.Duration // Config.Timeout
	last  atomic.Pointer[sharedTimeout]
}

// sharing is into how many parts a timeout is divided. Operations that begin within one part share
// a timeout, so an operation can have one part less time. A service has at most sharing+1 timeouts
// under way.
const sharing = 64

// sharedTimeout is a time at which operations end.
type sharedTimeout struct {
	at     time.Time
	passed chan struct{}
}

// begin returns the timeout of an operation that begins now.
func (s *sharedTimeouts) begin() *sharedTimeout {
	now := time.Now()
	last := s.last.Load()
	if last != nil {
		if left := last.at.Sub(now); left > s.after-s.after/sharing && left <= s.after {
			return last
		}
	}
	t := &sharedTimeout{now.Add(s.after), make(chan struct{})}
	if !s.last.CompareAndSwap(last, t) {
		return s.begin() // another operation has just begun one
	}
	time.AfterFunc(s.after, func() { close(t.passed) })
	return t
}

// timeoutContext is a context that ends with its timeout, and has the values of another one that
// has no end of its own.
type timeoutContext struct {
	values context.Context
	*sharedTimeout
}

// Deadline implements [context.Context].
func (c timeoutContext) Deadline() (deadline time.Time, ok bool) { return c.at, true }

// Done implements [context.Context].
func (c timeoutContext) Done() <-chan struct{} { return c.passed }

// Err implements [context.Context].
func (c timeoutContext) Err() error {
	select {
	case <-c.passed:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// Value implements [context.Context].
func (c timeoutContext) Value(key any) any { return c.values.Value(key) }
