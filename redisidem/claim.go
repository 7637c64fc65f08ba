package redisidem

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// claim is what a caller knows when it asks for the lease on a key.
type claim struct {
	id identity
	// seen is the key as the caller sees it: the claim is refused when the record has moved on.
	// Nil: any revision will do.
	seen *Key
	// request is the request that the key must stand for; the record is created if it does not
	// exist. Nil: the record must exist.
	request *encodedRequest
	// print is the fingerprint that the record must have if seen and request are nil; "" for any.
	print string
	// flow is what is to work on the key, or nil.
	flow *Flow
	// completing: a completer asks, which knows the record's place only, and when the due index
	// that handed it out says that it is due again; "" if that does not matter.
	completing bool
	handed     string
	// byHand: the lease is for a program that ends it by itself, without a callback.
	byHand bool
	// unable: the flow's program cannot work on the key, which is claimed whatever flow and
	// recovery point it has.
	unable bool
}

// fingerprint is the one that the record must have, or "" for any.
func (c claim) fingerprint() string {
	switch {
	case c.request != nil:
		return c.request.fingerprint
	case c.seen != nil:
		return c.seen.fingerprint
	}
	return c.print
}

// asked returns the claim as Redis gets it. If the key is taken, channel is where the caller wants
// to hear of its end, "" for nowhere. waited is how long the caller has waited for the key.
func (c claim) asked(s *Service, channel string, waited time.Duration) protocol.Claim {
	k := protocol.Claim{
		ID: c.id, Fingerprint: c.fingerprint(), NeedsParams: c.request.needsParams(), WakeChannel: channel,
		Completer: c.completing, HandedOut: c.handed, Recovery: c.flow.recovery(s.cfg.Retention),
	}
	if c.seen != nil {
		k.Seen = c.seen.asSeen()
	}
	if !c.byHand { // a lease by hand is for work, not for an answer
		k.Waited = waited
	}
	if c.flow != nil && !c.unable {
		k.Flow = c.flow.words
	}
	if c.request != nil {
		k.New, k.Creates = c.request.record(), true
		if c.flow != nil {
			k.New.Flow = c.flow.id
		}
	}
	return k
}

// claim asks for the lease on a key, waiting for it within the scope's budget. It returns the
// lease; or no lease and the fresh key, when that has moved on or is finished; or an error.
func (sc *Scope) claim(ctx context.Context, c claim) (*Lease, *Key, error) {
	outer, _ := ctx.Value(leaseContext{}).(*Lease)
	for l := outer; l != nil; l = l.outer {
		if l.id.Record == c.id.Record && l.scope.service.client == sc.service.client && l.holds() {
			return nil, nil, ErrNested
		}
	}
	s := sc.service
	if err := s.enter(ctx); err != nil {
		return nil, nil, err
	}
	began := time.Now()
	var a attempt
	entered := false // the caller has the lease, which leaves by itself
	defer func() {
		switch {
		case entered:
		case a.lease != nil:
			_ = a.lease.putBack(ctx, nil) // an observer has panicked
		default:
			s.inFlight.leave()
		}
	}()
	// One token for the whole attempt: a try that was thought lost and arrives late then helps
	// instead of hindering. But each fingerprint has its own: a token that was refused gives the
	// lock back, and in steps that may happen late.
	by := protocol.Claimant{Token: protocol.NewToken()}
	var elders []*protocol.Claimant // of the older fingerprints
	a = sc.awaitLease(ctx, c, func(channel string, waited time.Duration) attempt {
		a := sc.tryClaim(ctx, c, &by, channel, waited, outer)
		for i, secret := range s.cfg.FingerprintKeys.older() {
			if c.request == nil || !errors.Is(a.err, ErrFingerprintMismatch) {
				break
			}
			if len(elders) == i {
				elders = append(elders, &protocol.Claimant{Token: protocol.NewToken()})
			}
			older := c
			if older.request, a.err = c.request.keyedWith(secret, s.valueCodec, c.id); a.err == nil {
				a = sc.tryClaim(ctx, older, elders[i], channel, waited, outer)
			}
		}
		return a
	})
	if a.lease == nil {
		s.forget(ctx, c.id, &by)
		for _, elder := range elders {
			s.forget(ctx, c.id, elder)
		}
	}
	if s.cfg.Observer != nil {
		sc.observeClaim(ctx, c, a.lease, a.key, a.err, time.Since(began))
	}
	entered = a.lease != nil
	return a.lease, a.key, a.err
}

func (sc *Scope) observeClaim(ctx context.Context, c claim, lease *Lease, key *Key, err error, took time.Duration) {
	e := Event{Key: c.id.Digest, Duration: took, Err: err}
	switch {
	case err != nil:
		e.Kind = EventRefused
	case lease != nil:
		e = lease.event(EventClaimed)
		e.Duration = took
	case key.Answered():
		e.Kind, e.RecoveryPoint, e.Revision = EventReplayed, key.RecoveryPoint, key.Revision
	default:
		return // moved on: nothing happened to the key
	}
	sc.service.observe(ctx, e)
}

// tryClaim asks once.
func (sc *Scope) tryClaim(
	ctx context.Context, c claim, by *protocol.Claimant, channel string, waited time.Duration, outer *Lease,
) (a attempt) {
	s := sc.service
	sent := time.Now()
	bounded, cancel := s.bounded(ctx)
	defer cancel()
	asked := c.asked(s, channel, waited)
	r, err := s.redis.Claim(bounded, &asked, by)
	if err != nil {
		a.err = explain(ctx, "claim", err)
		return a
	}
	switch r.Status {
	case protocol.StatusOwn:
		by.Open = true
		if a.err = s.settled(r); a.err != nil {
			return a
		}
		a.lease, a.err = sc.newLease(ctx, c, by.Token, sent, outer, r)
		if a.err != nil && c.completing {
			by.Open = false
			a.err = s.refuseUnread(ctx, c, by.Token, r, a.err)
		}
	case protocol.StatusDone:
		if c.completing {
			if c.id, a.err = adopt(c.id, r.Texts, s.cfg.Namespace); a.err != nil {
				return a
			}
		}
		a.key, a.err = s.found(c.id, c.request, r, sent)
	case protocol.StatusInterim:
		var age time.Duration
		if age, a.err = r.InterimAge(); a.err != nil {
			a.err = fromProtocol(a.err)
			return a
		}
		if a.key, a.err = s.found(c.id, c.request, r, sent); a.err == nil {
			a.key.interim, a.made = true, sent.Add(-age)
		}
	case protocol.StatusOther:
		var stored string
		if stored, a.err = r.Text(); a.err == nil {
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
		// STALE among them: the key was unlocked, or this attempt given up, while it was under way.
		a.err = refusal(r)
	}
	return a
}
