package redisidem

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Lease is the right to work on a key. It is renewed until it ends by Commit or Abandon, which the
// owner must call, or is lost. Its methods are safe for concurrent use.
//
// [Scope.WorkStage] and [Do] hold one around a callback; take one with [Scope.Lock] only where a
// callback does not fit.
type Lease struct {
	scope *Scope
	id    identity
	token string
	fence int64
	began time.Time // when the claim was sent
	outer *Lease    // the lease whose stage this one was claimed in
	flow  *Flow     // what works on the key, if it is known
	swept bool      // a completer has claimed it

	byHand bool // it is its program's to end, not a callback's

	ctx    context.Context
	cancel context.CancelCauseFunc

	committing sync.Mutex // one commit at a time: the next one extends what this one made

	mu      sync.Mutex
	key     *Key
	attempt int       // of this stage
	since   time.Time // when this stage began
	ended   bool
	retried bool                    // this stage ran more than once under this lease
	kept    bool                    // a stage was committed under it
	detach  context.CancelCauseFunc // ends the context of a compensation; nil outside of a compensation
	idle    bool                    // it ended since there was nothing to do
	lost    error                   // why the context was cancelled
	sent    time.Time               // when the last claim, renewal or kept commit that succeeded was sent
	renewer renewer
}

// leaseContext is the context key under which a stage's context carries its lease.
type leaseContext struct{}

// Lock takes the lease on the key of that value, for callers who have only its text. One round
// trip, and another one for Commit or Abandon. The lease's context descends from ctx.
//
// It returns [ErrNotFound] when the record does not exist, [ErrFinished] when the work is done,
// [ErrLocked] when another worker has the lease, [ErrNested] inside a stage of the same key,
// [ErrInvalid], [ErrDamaged], [ErrNotDurable] and [ErrUnavailable].
func (sc *Scope) Lock(ctx context.Context, value string) (*Lease, error) {
	id, err := sc.identify(value)
	if err != nil {
		return nil, err
	}
	lease, key, err := sc.claim(ctx, claim{id: id, byHand: true})
	if err == nil && key != nil {
		err = ErrFinished
	}
	return lease, err
}

// newLease makes the lease that a claim's OWN reply gives.
func (sc *Scope) newLease(ctx context.Context, c claim, token string, sent time.Time, outer *Lease, r protocol.Reply) (*Lease, error) {
	granted, err := r.Granted()
	if err != nil {
		return nil, fromProtocol(err)
	}
	var key *Key
	if c.completing {
		if c.id, err = adopt(c.id, r.Texts, sc.service.cfg.Namespace); err != nil {
			return nil, err
		}
		sc = sc.service.Scope(c.id.Scope)
	}
	switch {
	case len(r.Texts) > 0:
		key, err = decodeRecord(c.id, sc.service.valueCodec, r.Texts)
	case c.seen != nil:
		seen := *c.seen
		key = &seen
		flow, dead := r.GrantedSeen()
		if flow != "" {
			key.Flow = flow
		}
		if dead && key.DeadLetter == nil {
			key.DeadLetter = &DeadLetter{}
		}
	default:
		var created protocol.Created
		if created, err = r.GrantedNew(); err == nil {
			key = newKey(c.id, *c.request, created)
		}
		err = fromProtocol(err)
	}
	if err != nil {
		return nil, err
	}
	key.id, key.Attempts, key.LockedAt, key.interim, key.own = c.id, granted.Attempts, granted.At, false, false
	if c.flow != nil && !c.unable {
		key.Flow = c.flow.id
	}

	l := &Lease{
		scope: sc, id: c.id, token: token, fence: granted.Fence, attempt: granted.Attempt, outer: outer, flow: c.flow, key: key,
		swept: c.completing, byHand: c.byHand, began: sent, since: sent, sent: sent,
	}
	l.ctx, l.cancel = context.WithCancelCause(context.WithValue(ctx, leaseContext{}, l))
	sc.service.inFlight.hold(l)
	l.startRenewer()
	return l, nil
}

// Key returns the key as it stands under this lease.
func (l *Lease) Key() *Key {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.key
}

// Fence returns the lease's number. Later leases of the same key have larger ones, while the record
// survives and, if the servers' clocks are sane, beyond: hand it to systems that can refuse older
// numbers.
func (l *Lease) Fence() int64 { return l.fence }

// Context returns a context for the work: it descends from the one the lease was taken with, and is
// cancelled when the lease ends or is lost. [context.Cause] then returns the reason: an error that
// matches [ErrLeaseLost] when another worker may start.
func (l *Lease) Context() context.Context { return l.ctx }

// Renew gives the lease its full length again. The library renews it at every third of its length
// anyway. If the lease is lost, Renew returns the cause, which matches [ErrLeaseLost]. It returns
// [ErrLeaseEnded] after Commit or Abandon, and [ErrUnavailable] when Redis did not answer; the
// lease is then valid for the rest of its length.
func (l *Lease) Renew(ctx context.Context) error {
	l.mu.Lock()
	ended, lost := l.ended, l.lost
	l.mu.Unlock()
	switch {
	case ended:
		return ErrLeaseEnded
	case lost != nil:
		return lost // its work was called off: it must not keep the key from others
	}
	err := l.renew(context.WithoutCancel(ctx))
	if errors.Is(err, ErrLeaseLost) {
		l.lose(ErrLeaseLost)
	}
	if err == nil && l.isLost() { // meanwhile
		err = ErrLeaseLost
	}
	return explain(ctx, "renew", err)
}

// indexed is the lease's flow if the key is to stay in the flow's due index. A dead letter is not
// in it until a commit carries it on.
func (l *Lease) indexed() *Flow {
	if l.Key().DeadLetter != nil {
		return nil
	}
	return l.flow
}

// wasKept reports whether a stage was committed under the lease.
func (l *Lease) wasKept() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept
}

// runAgain counts another run of the stage, and returns its number.
func (l *Lease) runAgain() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attempt++
	l.retried = true
	return l.attempt
}

// wasIdle reports whether the lease was put back.
func (l *Lease) wasIdle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.idle
}

// holds reports whether the lease has not ended.
func (l *Lease) holds() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.ended
}

// whyEnded returns why the lease's context has ended: the loss of the lease comes first, since a
// caller's leaving does not end a compensation. Nil while it has not.
func (l *Lease) whyEnded() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil {
		return l.lost
	}
	return context.Cause(l.ctx)
}

// isLost reports whether the lease's context was cancelled because the lease is gone.
func (l *Lease) isLost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost != nil
}

// end marks the lease as ended. Only the first caller gets true, and must call leave when the
// ending is done.
func (l *Lease) end() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.ended = true
	l.renewer.stop()
	return true
}

// undoing reports whether the lease runs a compensation that its caller's cancellation must not
// stop: a client that has left must not leave it undone. Under a completer's lease it may be called
// off, since a completer comes back to it. A callback that is not the flow's undoes nothing.
func (l *Lease) undoing(key *Key) bool {
	return !l.swept && l.flow != nil && strings.HasPrefix(key.RecoveryPoint, compensating)
}

// detached returns a context for a compensation, which the lease's loss ends and its caller's
// cancellation does not. Stop ends it.
func (l *Lease) detached(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.detach = stop
	if l.lost != nil {
		stop(l.lost)
	}
	return ctx, stop
}

func (l *Lease) leave() {
	l.cancel(ErrLeaseEnded)
	s := l.scope.service
	s.flights.wake(l.id.Record) // waiters of this process need no wake-up from Redis
	s.inFlight.release(l)
}

// event returns an event about this lease.
func (l *Lease) event(kind EventKind) Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Event{
		Kind: kind, Key: l.id.Digest, RecoveryPoint: l.key.RecoveryPoint, Revision: l.key.Revision, Fence: l.fence,
		Attempt: l.attempt,
	}
}
