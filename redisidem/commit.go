package redisidem

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Commit applies an outcome and ends the lease. It returns the key after the commit. The caller's
// cancellation does not stop it, because finished work must be stored. Config.Timeout bounds it.
//
// Besides the errors of [Scope.WorkStage] it returns [ErrLeaseEnded]. If the outcome was refused
// before it was sent, the lease is still held, and another outcome can be committed. The errors are
// then [ErrInvalid], [ErrNoProgress], [ErrUndecided] and [ErrOtherFlow]; with [Outcome.Undo] also
// [ErrUnknownRecoveryPoint] and [ErrDamaged].
func (l *Lease) Commit(ctx context.Context, o Outcome) (*Key, error) {
	key, _, err := l.commit(ctx, o, false, false)
	return key, err
}

// CommitKeep applies an outcome and keeps the lease for the next stage. It reports whether the
// lease is still held. The outcomes that end the work, such as Finish and Interim, end the lease as
// Commit does.
//
// If the lease has lapsed, the result is still stored unless another worker has claimed the key. In
// both cases held is false.
func (l *Lease) CommitKeep(ctx context.Context, o Outcome) (key *Key, held bool, err error) {
	return l.commit(ctx, o, true, false)
}

// commit commits an outcome. worked means that a callback returned it: its work is done and must
// not run again. If the outcome cannot be stored, the key is finished without a result, after its
// compensations if the outcome was Fail. The outcome of a compensation is refused instead.
func (l *Lease) commit(ctx context.Context, o Outcome, keep, worked bool) (_ *Key, _ bool, err error) {
	ctx, span := l.startSpan(ctx, SpanCommit)
	defer func() { span.end(err) }()
	l.committing.Lock()
	defer l.committing.Unlock()
	s := l.scope.service
	key := l.Key()
	e, err := l.encode(o, key)
	// A compensation runs again, and so does a stage whose outcome the program has stored itself.
	worked = worked && o.adoptedBy == nil && !o.elsewhere && !strings.HasPrefix(key.RecoveryPoint, compensating)
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
		defer l.close()
	}

	sent := time.Now()
	c := l.commitCall(key, e, keep)
	bounded, cancel := s.detached(ctx)
	defer cancel()
	r, err := s.redis.Run(bounded, c)
	if err != nil && !protocol.IsDamaged(err) {
		if keep && l.end() {
			defer l.close()
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
			defer l.close()
			keep = false
		}
		c = l.commitCall(key, e, keep)
		again, stop := s.detached(ctx)
		defer stop()
		if r, err = s.redis.Run(again, c); err != nil && !protocol.IsDamaged(err) {
			if keep && l.end() {
				defer l.close()
			}
			return key, false, l.retryCommit(ctx, c, e, err)
		}
	}
	next, held, err := l.applyReply(ctx, commitTry{key, e, keep, sent}, r, err)
	switch {
	case held && l.isLost():
		// The lease was lost while the commit that keeps it was under way, so no stage may begin
		// under it.
		held = false
		_ = l.abandonUnbegun(ctx, ErrLeaseLost)
	case keep && !held && l.end():
		l.close()
	}
	return next, held, err
}

// encode checks an outcome and encodes it for a commit to the key.
func (l *Lease) encode(o Outcome, key *Key) (encodedOutcome, error) {
	if l.flow == nil {
		var err error
		if o, err = o.byHand(key); err != nil {
			return encodedOutcome{}, err
		}
	}
	s := l.scope.service
	e, err := o.encode(l.id, key, s.cfg.MaxValueBytes)
	if err != nil {
		return e, err
	}
	if e.adoptedBy == nil {
		e.undoable = l.flow.undoes(key.RecoveryPoint)
		e.noReturn = l.flow.returnsNot(key.RecoveryPoint, e.point)
	} else { // it may undo what the earlier version could not
		e.undoable = slices.ContainsFunc(key.Journal, func(j JournalEntry) bool { return e.adoptedBy.undoes(j.Stage) })
	}
	e.snooze = min(e.snooze, s.cfg.Retention/2) // the key would expire
	if left := l.deadlineIn(key); left > 0 && e.snooze > 0 {
		e.snooze = min(e.snooze, max(left, time.Millisecond))
	}
	if err = e.keep(s.valueCodec, l.id, key); err == nil {
		e.keepEarlierState(s.valueCodec, l.id, key, l.flow)
	}
	return e, err
}

func (l *Lease) commitCall(key *Key, e encodedOutcome, keep bool) protocol.Call {
	s := l.scope.service
	c := protocol.Commit{
		ID: l.id, Token: l.token, Fence: l.fence, Revision: key.Revision, Attempt: l.attempt, From: e.committedFrom(key.RecoveryPoint),
		Keep: keep, Journal: l.journal(key, &e), Outcome: e.fields(key), Effects: effectCalls(e.effects), DeadLetter: key.DeadLetter != nil,
		Snoozed: e.waits, Merged: e.merges(key),
	}
	flow := l.flow
	if e.adoptedBy != nil {
		flow = e.adoptedBy
	}
	switch recoverable := flow.recoverable(); {
	case !recoverable && !c.DeadLetter && (flow != nil || key.Flow == ""):
		return s.redis.NewCommit(&c) // the key is in no index
	case !recoverable:
		// This program does not have the key's flow, so it knows neither RecoverAfter nor whether
		// the key is in the due index.
		c.FlowUnknown, c.Recovery.After = true, s.cfg.Lease
	case e.snooze > 0:
		c.Recovery.After = e.snooze
	case e.interim:
		c.Recovery.After = flow.cfg.InterimFor
	default:
		c.Recovery.After = s.cfg.Lease + flow.recoverAfter(s.cfg.Retention)
	}
	if left := flow.deadlineIn(key, l.began); left > 0 && e.interim {
		c.Recovery.After = max(min(c.Recovery.After, left), time.Millisecond)
	} else if left > 0 {
		c.Recovery.After = min(c.Recovery.After, max(left, s.cfg.Lease))
	}
	c.Recovery.Flow, c.Leaves = protocol.FlowName(key.Flow), e.point == Finished
	return s.redis.NewCommit(&c)
}

// commitTry is a commit as it was sent.
type commitTry struct {
	key     *Key // before the commit
	outcome encodedOutcome
	keep    bool
	sent    time.Time
}

// applyReply interprets the reply to a commit. It returns the key and whether the lease is still
// held.
func (l *Lease) applyReply(ctx context.Context, try commitTry, r protocol.Reply, err error) (*Key, bool, error) {
	key, e, keep := try.key, &try.outcome, try.keep
	s := l.scope.service
	if err != nil {
		return key, false, fromProtocol(err)
	}
	switch r.Status {
	case protocol.StatusOK:
	case protocol.StatusFenced:
		if s.checkAcks(r) != nil {
			return key, false, l.outcomeUnknown(ctx)
		}
		l.lose(ErrFenced)
		if key.Flow != "" { // a cancel leaves the lock, which keeps the compensations waiting
			s.abandonInBackground(ctx, l.id, l.token, protocol.Ending{}, 0)
		}
		return key, false, ErrFenced
	case protocol.StatusGone, protocol.StatusForgotten:
		return key, false, l.outcomeUnknown(ctx)
	case protocol.StatusEffect:
		err := effectError(e.effects, r)
		l.abandonRefused(ctx, err)
		return key, false, err
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
		next.LockedAt, next.LockedBy = key.LockedAt, key.LockedBy
		l.attempt, l.retried, l.hasCommitted, l.since, l.sent = 1, false, true, time.Now(), try.sent
	}
	l.key = next
	if e.adoptedBy != nil {
		l.flow = e.adoptedBy
	}
	l.mu.Unlock()

	l.warnOfJournal(ctx, key, next)
	l.warnOfEarlierStates(ctx, key, e)
	s.observe(ctx, done)
	if e.failedBy != nil {
		failed := done
		failed.Kind, failed.Err, failed.Scope = EventFailed, e.failedBy, l.id.Scope
		s.observe(ctx, failed)
	}
	if e.interim && l.dueSoon(key, e) {
		s.wakeInBackground(ctx, l.flow.cfg.Name)
	}
	if keep && !held {
		l.lose(ErrLeaseLost)
	}
	notKept := next.NotKept()
	if notKept != nil && e.notKept != nil {
		notKept = e.notKept // the error with its reason
	}
	if err := s.checkAcks(r); err != nil {
		return next, held, errors.Join(err, notKept)
	}
	if s.cache != nil && next.Finished() {
		s.listener.listen()
		s.cache.put(l.id.Name, next, try.sent, s.cfg.Retention)
	}
	return next, held, notKept
}

// dueSoon reports whether a key with an interim answer is due before a completer that rests would
// look at it.
func (l *Lease) dueSoon(key *Key, e *encodedOutcome) bool {
	if !l.flow.recoverable() {
		return false
	}
	due, left := l.flow.cfg.InterimFor, l.deadlineIn(key)
	if e.snooze > 0 {
		due = e.snooze
	}
	if left > 0 {
		due = min(due, left)
	}
	return due < l.flow.quiet(l.scope.service.cfg.Retention)
}

// outcomeUnknown reports that it can no longer be found out whether the commit was stored. Either
// an earlier try without an answer may have stored it, and the record or its journal entry is gone.
// Or the commit was refused because of a write that too few replicas have: after a failover without
// that write, a late copy of the commit could still be stored.
func (l *Lease) outcomeUnknown(ctx context.Context) error {
	e := l.event(EventOutcomeUnknown)
	e.Err = &commitUnknownError{}
	l.scope.service.observe(ctx, e)
	return e.Err
}
