package redisidem

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// claim describes a caller's request for the lease on a key.
type claim struct {
	id identity
	// seen is the key as the caller has read it: the claim fails if the record has advanced. Nil:
	// any revision is accepted.
	seen *Key
	// request is the request that the key must belong to. The record is created if it does not
	// exist. Nil: the record must exist.
	request *encodedRequest
	// onlyFingerprint is the fingerprint that the record must have if seen and request are nil; ""
	// for any.
	onlyFingerprint string
	// flow is the flow that works on the key, or nil.
	flow *Flow
	// completing is set for a completer, which knows only the record's place. The field handedOut
	// is the score with which the due index handed the key out; "" if it does not matter.
	completing bool
	handedOut  string
	// onHung is called with true if the callback is reported as hung, and with false if it returns
	// then; nil for nothing.
	onHung func(bool)
	// byHand is set for a program that ends the lease itself, without a callback.
	byHand bool
	// unrunnable is set if the flow's program cannot work on the key. The key is then claimed
	// whatever its flow and recovery point are.
	unrunnable bool
}

// fingerprint returns the fingerprint that the record must have, or "" for any.
func (c *claim) fingerprint() string {
	switch {
	case c.request != nil:
		return c.request.fingerprint
	case c.seen != nil:
		return c.seen.fingerprint
	}
	return c.onlyFingerprint
}

// asked returns the claim in the form that the protocol package sends.
func (c *claim) asked(s *Service, w tryOptions) protocol.Claim {
	k := protocol.Claim{
		ID: c.id, Fingerprint: c.fingerprint(), NeedsParams: c.request.needsParams(), WakeChannel: w.channel,
		Completer: c.completing, HandedOut: c.handedOut, Recovery: c.flow.recovery(s.cfg.Retention),
	}
	if c.seen != nil {
		k.Seen = c.seen.asSeen()
	}
	if !c.byHand { // a caller that wants the lease itself has no use for an interim answer
		k.Waited = w.waited
	}
	if c.flow != nil && !c.unrunnable {
		k.Flow = c.flow.words
	}
	if c.request != nil {
		k.New, k.Creates = c.request.record(), true
	}
	return k
}

// claim asks for the lease on a key and waits for it within the scope's budget. It returns the
// lease, or an error. If the record has advanced, is finished, or got an interim answer while the
// caller waited, it returns that key and no lease.
func (sc *Scope) claim(ctx context.Context, c claim) (*Lease, *Key, error) {
	cl := claimant{claim: c, scope: sc, caller: ctx}
	cl.outer, _ = ctx.Value(leaseContext{}).(*Lease)
	if cl.isNested() {
		return nil, nil, ErrNested
	}
	s := sc.service
	if err := s.enter(ctx); err != nil {
		return nil, nil, err
	}
	began := time.Now()
	var a claimResult
	defer func() {
		if a.lease == nil { // a lease leaves inFlight itself
			s.inFlight.leave()
		}
	}()
	cl.by.Token = protocol.NewToken()
	ctx, span := sc.startClaimSpan(ctx, &c, SpanClaim)
	defer func() { span.end(a.err) }()
	a = cl.await(ctx)
	if a.lease == nil {
		s.abandonClaim(ctx, c.id, &cl.by)
		for _, older := range cl.byOlder {
			s.abandonClaim(ctx, c.id, older)
		}
	}
	if s.cfg.Observer != nil {
		sc.observeClaim(ctx, c, a.lease, a.key, a.err, time.Since(began))
	}
	return a.lease, a.key, a.err
}

func (sc *Scope) observeClaim(ctx context.Context, c claim, lease *Lease, key *Key, err error, took time.Duration) {
	e := Event{Key: c.id.Digest, Duration: took, Err: err}
	if c.flow != nil {
		e.Flow = c.flow.id
	}
	switch {
	case c.flow != nil && c.flow.versionOf(err) != nil:
		return // it is claimed again, for the version that it belongs to
	case err != nil:
		e.Kind = EventRefused
	case lease != nil:
		e = lease.event(EventClaimed)
		e.Duration = took
	case key.Answered():
		e.Kind, e.Flow, e.RecoveryPoint, e.Revision = EventReplayed, key.Flow, key.RecoveryPoint, key.Revision
	default:
		return // the record has advanced: nothing happened to the key
	}
	sc.service.observe(ctx, e)
}

// claimant is a caller of claim.
type claimant struct {
	claim  claim
	scope  *Scope
	caller context.Context // from which the context of the lease descends, without the claim's span
	outer  *Lease          // the lease of the stage that the call is in; nil outside of one

	// All tries share one token, so that a try that arrives late belongs to the same attempt. A
	// claim with an older fingerprint needs another token: a refused claim gives its lock back.
	// While a slot migrates that is a command of its own. It may come late, and take the lock of a
	// later claim with the same token.
	by      protocol.Claimant
	byOlder []*protocol.Claimant
}

// tryOptions holds what differs between the tries of a claimant.
type tryOptions struct {
	channel string        // on which it is notified that the key is free; "" for no notification
	waited  time.Duration // since it came
}

// ask sends a claim with the request's fingerprint. If the record has another one, it sends a claim
// with the fingerprint that each older secret of Config.FingerprintKeys gives.
func (cl *claimant) ask(ctx context.Context, w tryOptions) claimResult {
	c := &cl.claim
	a := cl.try(ctx, c, &cl.by, w)
	if c.request == nil {
		return a
	}
	a.err = cl.scope.service.tryOlderFingerprints(c.request, c.id, a.err, func(i int, request *encodedRequest) error {
		if len(cl.byOlder) == i {
			cl.byOlder = append(cl.byOlder, &protocol.Claimant{Token: protocol.NewToken()})
		}
		older := *c
		older.request = request
		a = cl.try(ctx, &older, cl.byOlder[i], w)
		return a.err
	})
	return a
}

// try sends one claim and interprets the reply.
func (cl *claimant) try(ctx context.Context, c *claim, by *protocol.Claimant, w tryOptions) (a claimResult) {
	s := cl.scope.service
	sent := time.Now()
	bounded, cancel := s.bounded(ctx)
	defer cancel()
	asked := c.asked(s, w)
	if asked.Creates {
		asked.New.Origin = s.origin(cl.caller)
	}
	r, err := s.redis.Claim(bounded, &asked, by)
	if err != nil {
		a.err = explain(ctx, "claim", err)
		return a
	}
	switch r.Status {
	case protocol.StatusOwn:
		by.Open = true
		if a.err = s.checkAcks(r); a.err != nil {
			return a
		}
		a.lease, a.err = cl.newLease(c, grant{by.Token, sent, r})
		if a.err != nil && c.completing {
			by.Open = false
			a.err = s.refuseUnread(ctx, *c, by.Token, r, a.err)
		}
	case protocol.StatusDone:
		if c.completing {
			var id identity
			if id, a.err = adopt(c.id, r.Texts, s.cfg.Namespace); a.err != nil {
				return a
			}
			a.key, a.err = s.found(id, c.request, r, sent)
			return a
		}
		a.key, a.err = s.found(c.id, c.request, r, sent)
	case protocol.StatusInterim:
		var age time.Duration
		if age, a.err = r.InterimAge(); a.err != nil {
			a.err = fromProtocol(a.err)
			return a
		}
		if a.key, a.err = s.found(c.id, c.request, r, sent); a.err == nil {
			a.key.interim, a.answeredAt = true, sent.Add(-age)
		}
	case protocol.StatusOther:
		var stored string
		if stored, a.err = r.Text(); a.err == nil {
			a.err = checkFlow(stored)
		}
		if a.err == nil {
			a.err = &FlowError{Stored: stored, Wanted: c.flow.id}
		}
	case protocol.StatusLater:
		a.err = errPutOff
	case protocol.StatusUnknown:
		var point string
		if point, a.err = r.Text(); a.err == nil {
			a.err = fmt.Errorf("%w: %q", ErrUnknownRecoveryPoint, point)
		}
	case protocol.StatusMoved:
		a.key, a.err = decodeRecord(c.id, s.valueCodec, r.Texts)
	default:
		// This includes STALE: the key was unlocked, or this attempt given up, while the claim was
		// under way.
		a.err = s.refusal(c.id, r)
	}
	return a
}

// errPutOff reports that another worker had the lease after the index handed the key out, so the
// key is not due any more.
var errPutOff = errors.New("redisidem: key is due later")

// refusal is the error for a status that says no to a call on a key.
func (s *Service) refusal(id identity, r protocol.Reply) error {
	switch r.Status {
	case protocol.StatusGone:
		return ErrNotFound
	case protocol.StatusDone:
		return ErrFinished
	case protocol.StatusMoved, protocol.StatusOther:
		return ErrStale
	case protocol.StatusMismatch:
		return ErrFingerprintMismatch
	case protocol.StatusStale:
		return ErrLeaseLost
	case protocol.StatusBusy:
		err := locked(r)
		if locked, ok := errors.AsType[*LockedError](err); ok {
			locked.inFlight, locked.record = s.inFlight, id.Record
		}
		return err
	case protocol.StatusAlive:
		return fmt.Errorf("%w among the dead letters: a completer continues it anyway", ErrNotFound)
	default:
		return r.Unexpected()
	}
}
