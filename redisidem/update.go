package redisidem

import (
	"context"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Update writes an outcome to a key that no worker has, without running a callback: an operator's
// correction, or the answer of work that was done elsewhere. It counts as a revision, so that the
// commit of a worker whose lease lapsed is refused. A dead letter stays one, at its new revision,
// until [Scope.Requeue] or until a stage is committed; an outcome that finishes the key ends that,
// too. One round trip.
//
// The key is the one the caller has read: [ErrStale] says that the record has moved on since. It
// returns [ErrNotFound], [ErrFinished], [ErrLocked] while a worker has the lease, [ErrNoProgress],
// [ErrInvalid], [ErrUndecided], [ErrDamaged], [ErrNotDurable] and [ErrUnavailable]; nothing was
// changed then, but with ErrNotDurable. A try that got no answer may reach the server after the
// call has returned ErrLocked or ErrUnavailable: it is then stored if the key is still as the
// caller has read it and its lease is free.
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
	// What the caller has seen may lack what changes without a commit: attempts, the flow, a dead
	// letter.
	next, err := decodeRecord(id, s.valueCodec, r.Texts)
	if err != nil {
		return nil, err
	}
	if next.Revision == key.Revision+1 {
		next.interim, next.own = e.interim, e.interim || next.Finished()
	}
	return next, s.settled(r)
}
