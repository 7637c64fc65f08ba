package redisidem

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Lease is the right to work on a key. It is renewed in the background until it ends with Commit or
// Abandon, or is lost. The owner must call Commit or Abandon. The methods are safe for concurrent
// use.
//
// [Scope.WorkStage] and [Do] hold a lease around a callback. Take one with [Scope.Lock] only if a
// callback does not fit.
type Lease struct {
	scope       *Scope
	id          identity
	token       string
	lapsed      bool // the lease before it was not given back
	fence       int64
	openAttempt time.Time // when the last attempt began whose end is not known, or zero
	began       time.Time // when the claim was sent
	outer       *Lease    // the lease of the stage whose callback claimed this one, or nil
	flow        *Flow     // the flow that works on the key, if it is known
	byCompleter bool      // a completer has claimed it

	working atomic.Bool // a callback is running
	// unsettled is set if the key waits for an operator should the attempt end without a result.
	unsettled atomic.Bool
	onHung    func(bool) // called if it is reported as hung, and if it returns then; nil for nothing

	byHand bool // Scope.Lock has claimed it: the program ends it, and no callback runs under it

	span *openSpan // SpanComplete, which a completer begins and ends; nil if no completer has claimed it

	stageContext stageContext
	ctx          context.Context // descends from stageContext
	cancel       context.CancelCauseFunc

	firstStage Stage      // a part of the lease, so that most leases need no other
	committing sync.Mutex // one commit at a time, because each extends the revision of the last one

	mu           sync.Mutex
	key          *Key
	attempt      int       // of this stage
	since        time.Time // when this stage began, from where MaxHold counts: the claim or the last commit
	ended        bool      // set by end
	retried      bool      // this stage ran more than once under this lease
	hasCommitted bool      // a stage was committed under this lease
	idle         bool      // it ended because there was nothing to do
	exhausted    bool      // the attempts at the revision exhaustedAt are used up
	exhaustedAt  int64
	final        string // why a failed run at the revision finalAt makes the key a dead letter; "" if it does not
	finalAt      int64
	detach       context.CancelCauseFunc // ends the context of the last compensation; nil before the first
	hung         bool                    // the callback was reported as hung and has not returned
	lost         error                   // set by lose: why it cancelled the context
	// sent is when the last command that extended the lease was sent: the claim, a renewal, or a
	// commit that kept the lease. The holder relies on the lease for a time that counts from here.
	sent    time.Time
	renewer renewer
}

// Lock takes the lease on the key with this value. It is for callers that have the text of a key
// and no [Key]. It takes one round trip, and Commit or Abandon takes another one. It waits up to
// [Scope.Wait] for a key that another worker has. The lease's context descends from ctx.
//
// It returns [ErrNotFound] if the record does not exist, [ErrFinished] if the work is done, and
// [ErrLocked] if another worker has the lease. It returns [ErrNested] inside a stage of the same
// key. It also returns [ErrInvalid], [ErrDamaged], [ErrNotDurable] and [ErrUnavailable].
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

// grant is the reply that gave a lease to a token.
type grant struct {
	token string
	sent  time.Time // when the claim was sent
	reply protocol.Reply
}

// newLease makes the lease that a claim was granted.
func (cl *claimant) newLease(c *claim, g grant) (*Lease, error) {
	sc, id, r := cl.scope, c.id, g.reply
	granted, err := r.Granted()
	if err != nil {
		return nil, fromProtocol(err)
	}
	var key *Key
	if c.completing {
		if id, err = adopt(id, r.Texts, sc.service.cfg.Namespace); err != nil {
			return nil, err
		}
		sc = sc.service.Scope(id.Scope)
	}
	switch {
	case len(r.Texts) > 0:
		key, err = decodeRecord(id, sc.service.valueCodec, r.Texts)
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
			key = newKey(id, *c.request, created)
		}
		err = fromProtocol(err)
	}
	if err != nil {
		return nil, err
	}
	lapsed, openAttempt := key.rareFields().leasedBy != "", key.openAttemptBefore(granted.Fence)
	key.rare = key.rare.withoutLease()
	key.id, key.Attempts, key.LockedAt, key.interim, key.ownAnswer = id, granted.Attempts, granted.At, false, false
	key.LockedBy = sc.service.cfg.Owner
	if c.flow != nil && !c.unrunnable {
		key.Flow = c.flow.id
	}

	l := &Lease{
		scope: sc, id: id, token: g.token, lapsed: lapsed, openAttempt: openAttempt, fence: granted.Fence, attempt: granted.Attempt,
		outer: cl.outer, flow: c.flow, key: key,
		byCompleter: c.completing, byHand: c.byHand, onHung: c.onHung, began: g.sent, since: g.sent, sent: g.sent,
	}
	caller := cl.caller
	if c.completing {
		var span openSpan
		caller, span = l.startSpan(caller, SpanComplete)
		l.span = &span
	}
	l.stageContext = stageContext{caller, l}
	l.ctx, l.cancel = context.WithCancelCause(&l.stageContext)
	sc.service.inFlight.hold(l)
	return l, nil
}

// Key returns the key as it is under this lease, with the commits made so far.
func (l *Lease) Key() *Key {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.key
}

// Fence returns the lease's number. Later leases of the same key have larger numbers, so systems
// that can refuse smaller ones are protected from a late worker. If the record ends and is created
// again, the numbers still grow, unless the server's clock was set back in between.
func (l *Lease) Fence() int64 { return l.fence }

// Renew gives the lease its full length again. The library does so at each third of the length
// anyway.
//
// If the lease is lost, Renew returns the cause. It matches [ErrLeaseLost], or [ErrClosed] if
// [Service.Close] stopped waiting. It returns [ErrLeaseEnded] after Commit or Abandon. It returns
// [ErrUnavailable] if Redis did not answer; the lease then ends when it would have without the
// call.
func (l *Lease) Renew(ctx context.Context) error {
	l.mu.Lock()
	ended, lost := l.ended, l.lost
	l.mu.Unlock()
	switch {
	case ended:
		return ErrLeaseEnded
	case lost != nil:
		return lost // the work was cancelled, so a renewal would only make other workers wait
	}
	err := l.renew(context.WithoutCancel(ctx))
	if errors.Is(err, ErrLeaseLost) {
		l.lose(err)
	}
	if err == nil && l.isLost() { // it was lost during the renewal
		err = ErrLeaseLost
	}
	return explain(ctx, "renew", err)
}

// indexed returns the flow whose due index may hold the key. It returns nil for a dead letter,
// which is not in the index until a commit revives it. The renewer calls it while the holder may
// change the flow.
func (l *Lease) indexed() *Flow {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.key.DeadLetter != nil {
		return nil
	}
	return l.flow
}

// committedBefore reports whether an earlier stage was committed under this lease.
func (l *Lease) committedBefore() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hasCommitted
}

// runAgain counts another run of the stage and returns its number.
func (l *Lease) runAgain() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attempt++
	l.retried = true
	return l.attempt
}

// wasIdle reports whether the lease ended because there was nothing to do.
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

// whyEnded returns why the lease's context has ended, or nil. The loss of the lease has precedence
// over the caller's cancellation, after which a compensation continues.
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

// end marks the lease as ended: it is not renewed any more, and cannot be committed or abandoned
// again. It reports true to the first caller only. That caller must call close when its commit or
// abandon was answered, or was handed to the background.
//
// A lost lease has not ended: lose cancels the context, and the holder must still end the lease.
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

// close follows end. It cancels the context with ErrLeaseEnded, wakes the waiters in this process,
// and lets [Service.Close] no longer wait for the lease.
func (l *Lease) close() {
	l.cancel(ErrLeaseEnded)
	s := l.scope.service
	s.flights.wake(l.id.Record) // waiters in this process do not need the wake-up from Redis
	s.inFlight.release(l)
}

// flowID returns the key's flow as name/version, or "".
func (l *Lease) flowID() string {
	if l.flow != nil {
		return l.flow.id
	}
	return l.key.Flow
}

// event returns an event with the lease's current state.
func (l *Lease) event(kind EventKind) Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Event{
		Kind: kind, Key: l.id.Digest, Flow: l.flowID(), Stage: l.key.RecoveryPoint, RecoveryPoint: l.key.RecoveryPoint,
		Revision: l.key.Revision, Fence: l.fence, Attempt: l.attempt,
	}
}
