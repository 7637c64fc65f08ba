package redisidem

import (
	"context"
	"strconv"
	"time"

	"github.com/redisidem/redisidem/lua"
)

// Update writes an outcome to a key that nobody is working on, without running anything: an operator's correction, or
// the answer of work that was done elsewhere. It counts as a revision, so that the commit of a worker whose lease lapsed
// is refused. A dead letter stays one, at its new revision, until [Scope.Requeue] or until a stage is committed; an outcome that
// finishes the key ends that, too. One round trip.
//
// The key is the one the caller has read: [ErrStale] says that the record has moved on since. It
// returns [ErrNotFound], [ErrFinished], [ErrLocked] while a worker has the lease, [ErrNoProgress],
// [ErrInvalid], [ErrUndecided], [ErrDamaged], [ErrNotDurable] and [ErrUnavailable]; nothing was
// changed then, but with ErrNotDurable. A try that got no answer may reach the server after the
// call has returned ErrLocked or ErrUnavailable: it is then stored if the key is still as the
// caller has read it and nobody is working on it.
func (sc *Scope) Update(ctx context.Context, key *Key, o Outcome) (*Key, error) {
	id, err := sc.own(key)
	if err != nil {
		return nil, err
	}
	s := sc.service
	if !key.unchanged() || key.id.record != id.record {
		// Not made by a call of this library's, so it may lack what the record has.
		fresh, err := s.retrieve(ctx, id)
		switch {
		case err != nil:
			return nil, err
		case fresh.Finished():
			return nil, ErrFinished
		case !fresh.isStill(key):
			return nil, ErrStale
		}
		key = fresh
	}
	if key.Finished() {
		return nil, ErrFinished
	}
	if o, err = o.byHand(key); err != nil {
		return nil, err
	}
	if len(o.effects) > 0 {
		return nil, invalid("Outcome.Effects", "cannot go with an update")
	}
	e, err := o.encode(id, key.RecoveryPoint, s.cfg.MaxValueBytes)
	if err == nil {
		err = e.keep(s.valueCodec, id, key)
	}
	if err != nil {
		return nil, err
	}
	token, flow := newToken(), key.Flow
	var r reply
	for range 2 {
		c := newCall(lua.Update, token, 5+outcomeWords, append([]string{id.record, id.lock}, id.indexes(flow)...)...)
		c.durable = true
		c.add(key.Revision, created(key), s.retention, s.owner, s.flags)
		c.addOutcome(&e, key)
		if r, err = s.ask(ctx, "update", c); err != nil {
			return nil, err
		}
		if r.status != statusOther || r.need() != nil {
			break
		}
		flow = r.rest[0] // it was taken up since the caller has read it
	}
	if r.status != statusOK {
		return nil, r.refusal(lua.Update)
	}
	// What the caller has seen may lack what changes without a commit: attempts, the flow, a dead letter.
	next, err := decodeRecord(id, s.valueCodec, r.rest)
	if err != nil {
		return nil, err
	}
	if next.Revision == key.Revision+1 {
		next.interim, next.own = e.interim, e.interim || next.Finished()
	}
	return next, s.settled(r)
}

// refusal is the error for a status that says no.
func (r reply) refusal(script *lua.Script) error {
	switch r.status {
	case statusGone:
		return ErrNotFound
	case statusDone:
		return ErrFinished
	case statusMoved, statusOther:
		return ErrStale
	case statusMismatch:
		return ErrFingerprintMismatch
	case statusStale:
		return ErrLeaseLost
	case statusBusy:
		return r.locked()
	case statusAlive:
		return ErrNotFound
	default:
		return r.unexpected(script)
	}
}

// locked is the error for a BUSY reply.
func (r reply) locked() error {
	left, err := strconv.ParseInt(r.number(0), 10, 64)
	if err != nil {
		return damaged("the lock's remaining time is no number")
	}
	if left == -1 {
		return &LockedError{RetryAfter: lastPoll} // somebody took the lock's expiry: nobody knows
	}
	return &LockedError{RetryAfter: remaining(left)}
}

// remaining is what a server says is left of a key's life, in milliseconds. Whoever can write to it can make it more than a
// duration can be.
func remaining(milliseconds int64) time.Duration {
	return time.Duration(min(max(milliseconds, 0), maxDuration.Milliseconds())) * time.Millisecond
}
