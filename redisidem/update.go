package redisidem

import (
	"context"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
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
	if !key.unchanged() || key.id.Record != id.Record {
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
	token, flow := protocol.NewToken(), key.Flow
	var r protocol.Reply
	for range 2 {
		c := s.redis.NewUpdate(&protocol.Update{ID: id, Token: token, Seen: key.asSeen(), Flow: flow, Outcome: e.fields(key)})
		if r, err = s.ask(ctx, "update", c); err != nil {
			return nil, err
		}
		if r.Status != protocol.StatusOther || len(r.Texts) == 0 {
			break
		}
		flow = r.Texts[0] // it was taken up since the caller has read it
	}
	if r.Status != protocol.StatusOK {
		return nil, refusal(r)
	}
	// What the caller has seen may lack what changes without a commit: attempts, the flow, a dead letter.
	next, err := decodeRecord(id, s.valueCodec, r.Texts)
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
	r, err := s.ask(ctx, "delete", s.redis.NewDelete(id, key.asSeen(), key.Flow))
	if err != nil {
		return err
	}
	if r.Status != protocol.StatusOK && r.Status != protocol.StatusGone {
		return refusal(r)
	}
	if s.cache != nil {
		s.cache.forget(id.Record)
	}
	return nil
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
	r, err := sc.service.ask(ctx, "unlock", sc.service.redis.NewUnlock(id))
	if err != nil {
		return err
	}
	if r.Status != protocol.StatusOK && r.Status != protocol.StatusDone {
		return refusal(r)
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
