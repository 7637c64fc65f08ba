package redisidem

import (
	"context"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Update writes an outcome to a key without running a callback and without a lease. Use it for an
// operator's correction, or for the answer of work that was done elsewhere. It returns the key as
// it is then. It takes one round trip.
//
// The key must be as the caller has read it. The update counts as a revision, so the commit of a
// worker whose lease has lapsed is refused. A dead letter stays one at its new revision, until
// [Scope.Requeue] or the commit of a stage. An outcome that finishes the key also ends that.
//
// An update does not know the stages of the key's flow, and neither does a stage that is worked on
// without the flow. If it moves the key past the point of no return, [Scope.Cancel] does not refuse
// the key, although the flow then goes on to its end. If it moves the key past the only stage that
// can be undone, a later end by hand does not return ErrUndecided.
//
// It returns [ErrStale] if the record has advanced, and [ErrLocked] while a worker has the lease.
// It also returns [ErrNotFound], [ErrFinished], [ErrNoProgress], [ErrInvalid], [ErrUndecided],
// [ErrDamaged], [ErrNotDurable] and [ErrUnavailable]. Nothing is stored then, except with
// ErrNotDurable.
//
// A try without an answer may reach the server after the call has returned ErrLocked or
// ErrUnavailable. The outcome is then stored if the key is still as the caller has read it and its
// lease is free.
func (sc *Scope) Update(ctx context.Context, key *Key, o Outcome) (*Key, error) {
	return sc.update(ctx, key, o, nil)
}

// update is Update. The audit is nil for a program's own call.
func (sc *Scope) update(ctx context.Context, key *Key, o Outcome, audit *protocol.Audit) (*Key, error) {
	id, err := sc.identityOf(key)
	if err != nil {
		return nil, err
	}
	s := sc.service
	if !key.unchanged() || key.id.Record != id.Record {
		// The caller made or changed this key, so it may lack parts of the record.
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
	if o.snooze > 0 {
		return nil, invalid("Outcome", "is Snooze, which is for stages")
	}
	if len(o.effects) > 0 {
		return nil, invalid("Outcome.Effects", "cannot go with an update")
	}
	e, err := o.encode(id, key, s.cfg.MaxValueBytes)
	if err == nil {
		err = e.keep(s.valueCodec, id, key)
	}
	if err != nil {
		return nil, err
	}
	e.keepEarlierState(s.valueCodec, id, key, nil)
	flow := key.Flow
	var r protocol.Reply
	for range 2 {
		c := s.redis.NewUpdate(&protocol.Update{ID: id, Token: protocol.NewToken(), Seen: key.asSeen(), Flow: flow, Outcome: e.fields(key)})
		if r, err = s.ask(ctx, "update", c.Audited(id, audit)); err != nil {
			return nil, err
		}
		if r.Status != protocol.StatusOther || len(r.Texts) == 0 {
			break
		}
		flow = r.Texts[0] // a flow has taken the key up since the caller read it
		if err = checkFlow(flow); err != nil {
			return nil, err
		}
	}
	if r.Status != protocol.StatusOK {
		return nil, s.refusal(id, r)
	}
	if len(r.Texts) == 0 { // repeated with an audit, which has the status alone
		if r.Texts, _, err = s.fields(ctx, id); err != nil {
			return nil, err
		}
	}
	// The caller's key may lack changes that need no commit: attempts, the flow, a dead letter.
	next, err := decodeRecord(id, s.valueCodec, r.Texts)
	if err != nil {
		return nil, err
	}
	if next.Revision == key.Revision+1 {
		next.interim, next.ownAnswer = e.interim, e.interim || next.Finished()
	}
	return next, s.checkAcks(r)
}
