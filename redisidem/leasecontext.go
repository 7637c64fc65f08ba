package redisidem

import (
	"context"
	"strings"
)

// leaseContext is the context key of the lease under which a stage runs.
type leaseContext struct{}

// stageContext is the claimant's context with the lease under leaseContext. If the caller leaves,
// the context of the work ends with it. The lease is given back once the callback has returned. It
// is a part of the lease, so that it needs no allocation.
type stageContext struct {
	context.Context
	lease *Lease
}

// Value implements [context.Context].
func (c *stageContext) Value(key any) any {
	if key == (leaseContext{}) {
		return c.lease
	}
	return c.Context.Value(key)
}

// Context returns the context for the work. It descends from the context with which the lease was
// taken, and is cancelled when the lease ends or is lost. [context.Cause] returns the reason. It
// matches [ErrLeaseLost], or [ErrClosed] after [Service.Close], if another worker may work on the
// key now.
func (l *Lease) Context() context.Context { return l.ctx }

// caller returns the context with which the lease was claimed, and the span of a completer's work.
func (l *Lease) caller() context.Context { return l.stageContext.Context }

// undoing reports whether the key is at a compensation that the caller's cancellation must not
// stop. Otherwise a client that disconnects would leave the flow half undone. A completer's
// compensation may be stopped, since a completer comes back to it. Without a flow there is no
// compensation.
func (l *Lease) undoing(key *Key) bool {
	return !l.byCompleter && l.flow != nil && strings.HasPrefix(key.RecoveryPoint, compensating)
}

// withoutCaller returns a context for a compensation. The loss of the lease cancels it, and the
// caller's cancellation does not. The returned function ends it.
func (l *Lease) withoutCaller(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.detach = stop
	if l.lost != nil {
		stop(l.lost)
	}
	return ctx, stop
}
