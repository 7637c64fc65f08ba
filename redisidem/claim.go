package redisidem

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redisidem/redisidem/lua"
)

// claim is what a caller knows when it asks for the lease on a key.
type claim struct {
	id identity
	// seen is the key as the caller sees it: the claim is refused when the record has moved on. Nil: any revision will do.
	seen *Key
	// request is the request that the key must stand for; the record is made when there is none. Nil: the record must be
	// there.
	request *encodedRequest
	// print is the fingerprint that the record must have when neither of these tells; "" for any.
	print string
	// flow is what is to work on the key, or nil.
	flow *Flow
	// completing: a completer asks, which knows the record's place only, and when the due index that handed it out says that it is
	// due again; "" if that does not matter.
	completing bool
	handed     string
	// byHand: the lease is for a program that ends it by itself, without a callback.
	byHand bool
	// unable: the flow's program cannot work on the key, which is claimed whatever flow and
	// recovery point it has.
	unable bool
	// letter is the flow that the key belongs to, which is one of its dead letters, as the record
	// says; "" when it did not say so.
	letter string
}

// keys returns the Redis keys that the calls of a lease on the key take.
func (id identity) keys(flow *Flow) []string {
	if flow.recoverable() {
		return []string{id.record, id.lock, id.dueIndex(flow.cfg.Name)}
	}
	return []string{id.record, id.lock}
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

// call makes the invocation of the claim script by the attempt with this token. If the key is
// taken, channel is where the caller wants to hear of its end, "" for nowhere. waited is how long
// the caller has waited for the key, 0 for not at all.
func (c claim) call(s *Service, token, channel string, waited time.Duration) call {
	seen := ""
	if c.seen != nil {
		seen = strconv.FormatInt(c.seen.Revision, 10) + " " + strconv.FormatInt(c.seen.CreatedAt.UnixMicro(), 10)
	}
	flags, flow, age := s.flagsFor(c.request), "", any("")
	if c.completing {
		flags += flagClean
		channel = c.handed // it waits for nobody
	}
	if waited > 0 && !c.byHand { // a lease by hand is for work, not for an answer
		flags += flagWaited + strconv.FormatInt(waited.Microseconds(), 10)
	}
	if c.flow != nil && !c.unable {
		flow = c.flow.words
	}
	keys := c.id.keys(c.flow)
	if c.flow.recoverable() {
		age = c.flow.recoverAfter(s.cfg.Retention)
	}
	if c.letter != "" {
		keys = append(keys[:2], c.id.indexes(c.letter)...)
		if !c.flow.recoverable() {
			age = s.lease // RecoverAfter is not known here
		}
	}
	k := newCall(lua.Claim, token, 16, keys...)
	k.durable = true
	k.add(seen, c.fingerprint(), s.lease, s.lifetime, flags, channel, flow, age)
	if c.request != nil {
		k.addRecord(c.id, c.request)
		if c.flow != nil {
			k.add(fieldFlow, c.flow.id)
		}
	}
	return k
}

// claim asks for the lease on a key, waiting for it within the scope's budget. It returns the lease; or no lease and the
// fresh key, when that has moved on or is finished; or an error.
func (sc *Scope) claim(ctx context.Context, c claim) (*Lease, *Key, error) {
	outer, _ := ctx.Value(leaseContext{}).(*Lease)
	for l := outer; l != nil; l = l.outer {
		if l.id.record == c.id.record && l.scope.service.client == sc.service.client && l.holds() {
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
			s.life.leave()
		}
	}()
	// One token for the whole attempt: a try that was thought lost and arrives late then helps instead of hindering.
	// But each fingerprint has its own: a token that was refused gives the lock back, and in steps that may happen late.
	by := claimant{token: newToken()}
	var elders []*claimant // of the older fingerprints
	a = sc.waiting(ctx, c, func(channel string, waited time.Duration) attempt {
		a := sc.tryClaim(ctx, c, &by, channel, waited, outer)
		for i, secret := range s.cfg.FingerprintKeys.older() {
			if c.request == nil || !errors.Is(a.err, ErrFingerprintMismatch) {
				break
			}
			if len(elders) == i {
				elders = append(elders, &claimant{token: newToken()})
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
	e := Event{Key: c.id.digest, Duration: took, Err: err}
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

// claimant is a token that asks for the lease on a key.
type claimant struct {
	token string
	asked bool // a server may have seen the token
	// open: the token may have the lease, or get it when a lost try arrives late. If no [Lease]
	// comes of it, it is to be given back.
	open bool
}

// tryClaim asks once.
func (sc *Scope) tryClaim(
	ctx context.Context, c claim, by *claimant, channel string, waited time.Duration, outer *Lease,
) (a attempt) {
	s := sc.service
	sent := time.Now()
	bounded, cancel := s.bounded(ctx)
	defer cancel()
	r, err := s.obtain(bounded, c.id, c.call(s, by.token, channel, waited), by)
	if err == nil && r.status == statusLetter && r.need() == nil {
		c.letter = r.rest[0]
		if r, err = s.obtain(bounded, c.id, c.call(s, by.token, channel, waited), by); err != nil || r.status == statusLetter {
			by.open = true // it has the lock
		}
	}
	if err != nil {
		a.err = explain(ctx, "claim", err)
		return a
	}
	switch r.status {
	case statusOwn:
		by.open = true
		if a.err = s.settled(r); a.err != nil {
			return a
		}
		a.lease, a.err = sc.newLease(ctx, c, by.token, sent, outer, r)
		if a.err != nil && c.completing {
			by.open = false
			a.err = s.refuseUnread(ctx, c, by.token, r, a.err)
		}
	case statusDone:
		if c.completing {
			if c.id, a.err = adopt(c.id, r.rest, s.cfg.Namespace); a.err != nil {
				return a
			}
		}
		a.key, a.err = s.found(c.id, c.request, r, sent)
	case statusInterim:
		var age int64
		if age, a.err = parseCount("age of the interim answer", r.number(0)); a.err != nil {
			return a
		}
		if a.key, a.err = s.found(c.id, c.request, r, sent); a.err == nil {
			a.key.interim, a.made = true, sent.Add(-time.Duration(age)*time.Microsecond)
		}
	case statusOther:
		if a.err = r.need(); a.err == nil {
			a.err = &FlowError{Stored: r.rest[0], Wanted: c.flow.id}
		}
	case statusLater:
		a.err = errPutOff
	case statusUnknown:
		if a.err = r.need(); a.err == nil {
			a.err = fmt.Errorf("%w: %q", ErrUnknownRecoveryPoint, r.rest[0])
		}
	case statusMoved:
		a.key, a.err = decodeRecord(c.id, s.valueCodec, r.rest)
	default:
		// STALE among them: somebody unlocked the key, or gave this attempt up, while it was under way.
		a.err = r.refusal(lua.Claim)
	}
	return a
}
