package redisidem

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Commit applies an outcome and ends the lease. It returns the key as it stands then. The caller's
// cancellation does not stop it: what was done is to be stored.
//
// Besides the errors of [Scope.WorkStage] it returns [ErrLeaseEnded]. An outcome that is refused
// (ErrInvalid, ErrNoProgress, ErrUndecided) leaves the lease as it is: another one can be
// committed.
func (l *Lease) Commit(ctx context.Context, o Outcome) (*Key, error) {
	key, _, err := l.commit(ctx, o, false, false)
	return key, err
}

// CommitKeep applies an outcome and keeps the lease for the next stage. It reports whether the
// lease is still held: the result is stored even when it lapsed before, but then another worker may
// have the key already, and the lease has ended. The outcomes that end the work, Finish and
// Interim, end the lease as Commit does.
func (l *Lease) CommitKeep(ctx context.Context, o Outcome) (key *Key, held bool, err error) {
	return l.commit(ctx, o, true, false)
}

// commit commits an outcome. With worked, a callback has returned it, whose work is done and must
// not run again: an outcome that cannot be stored then ends the key as executed without its result.
func (l *Lease) commit(ctx context.Context, o Outcome, keep, worked bool) (*Key, bool, error) {
	l.committing.Lock()
	defer l.committing.Unlock()
	s := l.scope.service
	key := l.Key()
	e, err := l.encode(o, key)
	worked = worked && !strings.HasPrefix(key.RecoveryPoint, compensating) // which is to run until it succeeds
	if worked && isUnstorable(err) {
		e, err = l.encode(o.withoutResult(err), key)
	}
	if err != nil {
		return key, l.holds(), err
	}
	e.worked = worked
	l.checkClock()
	keep = keep && e.point != Finished && !e.interim && !l.isLost()
	if !keep && !l.end() || keep && !l.holds() {
		return key, false, ErrLeaseEnded
	}
	if !keep {
		defer l.leave()
	}

	sent := time.Now()
	c := l.commitCall(key, e, keep)
	bounded, cancel := s.detached(ctx)
	defer cancel()
	r, err := s.redis.Run(bounded, c)
	if err != nil && !protocol.IsDamaged(err) {
		if keep && l.end() {
			defer l.leave()
		}
		return key, false, l.retryCommit(ctx, c, e, err)
	}
	if err == nil && r.Status == protocol.StatusEffect && worked {
		if e, err = l.encode(o.withoutResult(effectError(e.effects, r)), key); err != nil {
			return key, l.holds(), err
		}
		if keep && e.point == Finished {
			if !l.end() {
				return key, false, ErrLeaseEnded
			}
			defer l.leave()
			keep = false
		}
		c = l.commitCall(key, e, keep)
		again, stop := s.detached(ctx)
		defer stop()
		if r, err = s.redis.Run(again, c); err != nil && !protocol.IsDamaged(err) {
			if keep && l.end() {
				defer l.leave()
			}
			return key, false, l.retryCommit(ctx, c, e, err)
		}
	}
	next, held, err := l.committed(ctx, key, e, keep, sent, r, err)
	switch {
	case held && l.isLost():
		// Lost by the clock while the commit that keeps it was under way: no stage runs under it
		// any more.
		held = false
		_ = l.putBack(ctx, ErrLeaseLost)
	case keep && !held && l.end():
		l.leave()
	}
	return next, held, err
}

// encode makes an outcome ready to be committed to the key.
func (l *Lease) encode(o Outcome, key *Key) (encodedOutcome, error) {
	if l.flow == nil {
		var err error
		if o, err = o.byHand(key); err != nil {
			return encodedOutcome{}, err
		}
	}
	s := l.scope.service
	e, err := o.encode(l.id, key.RecoveryPoint, s.cfg.MaxValueBytes)
	if err != nil {
		return e, err
	}
	e.undoable = l.flow.undoes(key.RecoveryPoint)
	err = e.keep(s.valueCodec, l.id, key)
	return e, err
}

// isUnstorable reports whether an outcome is refused since it cannot be stored, and not since it is
// no way on from where the key is.
func isUnstorable(err error) bool {
	return err != nil && !errors.Is(err, ErrNoProgress) && !errors.Is(err, ErrUndecided) && !errors.Is(err, ErrOtherFlow)
}

func (l *Lease) commitCall(key *Key, e encodedOutcome, keep bool) protocol.Call {
	s := l.scope.service
	c := protocol.Commit{
		ID: l.id, Token: l.token, Fence: l.fence, Revision: key.Revision, Attempt: l.attempt, Attempts: key.Attempts, From: key.RecoveryPoint,
		Keep: keep, Journal: l.journal(key, e), Outcome: e.fields(key), Effects: effectCalls(e.effects), DeadLetter: key.DeadLetter != nil,
	}
	switch recoverable := l.flow.recoverable(); {
	case !recoverable && !c.DeadLetter && (l.flow != nil || key.Flow == ""):
		return s.redis.NewCommit(&c) // it is in no index
	case !recoverable:
		// Neither whether it is in an index nor RecoverAfter is known here.
		c.FlowUnknown, c.Recovery.After = true, s.cfg.Lease
	case e.interim:
		c.Recovery.After = l.flow.cfg.InterimFor
	default:
		c.Recovery.After = s.cfg.Lease + l.flow.recoverAfter(s.cfg.Retention)
	}
	c.Recovery.Flow, c.Leaves = protocol.FlowName(key.Flow), e.point == Finished
	return s.redis.NewCommit(&c)
}

// committed deals with the answer to a commit.
func (l *Lease) committed(ctx context.Context, key *Key, e encodedOutcome, keep bool, sent time.Time, r protocol.Reply, err error) (
	*Key, bool, error,
) {
	s := l.scope.service
	if err != nil {
		return key, false, fromProtocol(err)
	}
	switch r.Status {
	case protocol.StatusOK:
	case protocol.StatusFenced:
		if s.settled(r) != nil {
			return key, false, l.outcomeUnknown(ctx)
		}
		l.lose(ErrFenced)
		return key, false, ErrFenced
	case protocol.StatusGone, protocol.StatusForgotten:
		return key, false, l.outcomeUnknown(ctx)
	case protocol.StatusEffect:
		s.release(ctx, l.id, l.token, protocol.Ending{}, 0)
		return key, false, effectError(e.effects, r)
	default:
		return key, false, r.Unexpected()
	}
	at, kept, err := r.Committed()
	if err != nil {
		return key, false, fromProtocol(err)
	}
	next := e.apply(key, JournalEntry{Fence: l.fence, Attempt: l.attempt, Owner: s.cfg.Owner, At: at}, l.journal(key, e))
	held := keep && kept

	done := l.event(EventCommitted)
	l.mu.Lock()
	done.Duration = time.Since(l.since)
	done.RecoveryPoint, done.Revision = next.RecoveryPoint, next.Revision
	if e.notKept != nil {
		done.Err = e.notKept
	}
	if held {
		next.LockedAt = key.LockedAt
		l.attempt, l.retried, l.kept, l.since, l.sent = 1, false, true, time.Now(), sent
	}
	l.key = next
	l.mu.Unlock()

	s.observe(ctx, done)
	if keep && !held {
		l.lose(ErrLeaseLost)
	}
	notKept := next.NotKept()
	if notKept != nil && e.notKept != nil {
		notKept = e.notKept // with the reason
	}
	if err := s.settled(r); err != nil {
		return next, held, errors.Join(err, notKept)
	}
	if s.cache != nil && next.Finished() {
		s.listener.listen()
		s.cache.put(l.id.Name, next, sent, s.cfg.Retention)
	}
	return next, held, notKept
}

// outcomeUnknown reports that the fate of the commit can no longer be determined. A try without an
// answer may have stored it in a record that no longer exists, or before the oldest entry of the
// journal. Or too few replicas have the write that refuses it, so that a late repetition could
// still be stored after a failover.
func (l *Lease) outcomeUnknown(ctx context.Context) error {
	e := l.event(EventOutcomeUnknown)
	e.Err = ErrOutcomeUnknown
	l.scope.service.observe(ctx, e)
	return ErrOutcomeUnknown
}
