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

// Delete removes a key whose lease is free, for instance because stored data must be erased. The
// next request with its value runs the work again. Other processes drop their copies
// (Config.CacheBytes) at once, or within Config.CacheLife if the notification is lost. One round
// trip.
//
// The key is the one that the caller has read: [ErrStale] means that the record has advanced since.
// A key that has only Value and Scope is removed whatever its record holds, even if that is
// damaged. A record that does not exist is not an error, because a repeated delete finds none.
//
// Delete undoes nothing. It removes a flow's key whatever the flow has committed, does not ask for
// [Outcome.Undo] or [Outcome.Leave], and no completer sees the key again. To undo the flow's work,
// end the key with [Scope.Update] and [Outcome.Undo] first, and delete it when it is finished.
//
// A tombstone takes the record's place for Config.Retention. It is a counter under the digest of
// scope and value, takes about 200 bytes, and holds nothing of the request or the response. Records
// that are made within that time have new outbound keys ([Stage.OutboundKey]), so that no other
// service replays what it did for the deleted one. A record that Redis lost is made again with the
// same outbound keys.
//
// It returns [ErrLocked] while a worker has the lease, [ErrInvalid], [ErrDamaged] and
// [ErrUnavailable]. A request without an answer may reach the server after the call has returned.
// It then removes the key only if the record is still as the caller has read it and its lease is
// free.
func (sc *Scope) Delete(ctx context.Context, key *Key) error {
	id, err := sc.own(key)
	if err != nil {
		return err
	}
	s := sc.service
	c := newCall(lua.Delete, newToken(), 4, append([]string{id.record, id.lock}, id.indexes(key.Flow)...)...)
	c.add(seenRevision(key), created(key), s.deletions, s.retention)
	r, err := s.ask(ctx, "delete", c)
	if err != nil {
		return err
	}
	if r.status != statusOK && r.status != statusGone {
		return r.refusal(lua.Delete)
	}
	if s.cache != nil {
		s.cache.forget(id.record)
	}
	return nil
}

// seenRevision tells how far the record was that the caller has read. Empty for a key that was not read.
func seenRevision(key *Key) any {
	if key.CreatedAt.IsZero() {
		return ""
	}
	return key.Revision
}

// created tells which record of its name the caller has read: it may have been deleted and made again since. Empty for a key
// that was not read.
func created(key *Key) any {
	if key.CreatedAt.IsZero() {
		return ""
	}
	return key.CreatedAt.UnixMicro()
}

// Unlock takes the lease on a key away from whoever has it, as a last resort for a worker that hangs. Its commit will be
// refused with [ErrFenced], but what it does outside Redis goes on: be sure that it is dead, or that a second run does no
// harm. A finished key has no lease, which is no error. One round trip.
//
// It returns [ErrNotFound], [ErrInvalid], [ErrDamaged] and [ErrUnavailable].
func (sc *Scope) Unlock(ctx context.Context, value string) error {
	id, err := sc.identify(value)
	if err != nil {
		return err
	}
	r, err := sc.service.ask(ctx, "unlock", newCall(lua.Unlock, newToken(), 0, id.record, id.lock))
	if err != nil {
		return err
	}
	if r.status != statusOK && r.status != statusDone {
		return r.refusal(lua.Unlock)
	}
	return nil
}

// own checks that a key is of this scope and derives where it lives.
func (sc *Scope) own(key *Key) (identity, error) {
	if key == nil {
		return identity{}, invalid("key", "must not be nil")
	}
	if key.Scope != sc.name {
		return identity{}, invalid("key", "is of another scope")
	}
	return sc.identify(key.Value)
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
