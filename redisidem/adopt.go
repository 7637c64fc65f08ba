package redisidem

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// adopting is the prefix of the stage that the journal names for an adoption. The recovery point
// follows it.
const adopting = "adopt:"

// adopt returns the outcome that moves the key of an earlier version to the version that adopts it.
// newest is the version that the lease's holder runs. adopt reports false if the earlier version's
// stage has to run. It returns an outcome of that stage if Reconcile has found one.
func (l *Lease) adopt(ctx context.Context, st *Stage, newest *Flow, paused func(*Flow) bool) (o Outcome, ok bool, err error) {
	s := newest.earlier[l.flow.id]
	stage := l.flow.stages[st.key.RecoveryPoint]
	if s.adopt == nil || stage == nil || l.failCause(st.key) != nil || !s.adoptable(st.key) || paused(s.next) {
		return Outcome{}, false, nil
	}
	if st.attempt > 1 {
		if stage.Reconcile == nil {
			return Outcome{}, false, nil
		}
		done := false
		_, err := stage.retry(ctx, st, func(ctx context.Context, st *Stage) (_ Outcome, err error) {
			o, done, err = l.flow.reconcile(ctx, st, stage)
			return o, err
		})
		if done || err != nil {
			return o, true, err
		}
	}
	if o, err = s.adopt(ctx, st); err == nil {
		o, err = s.resolve(l, st.key, o)
	}
	if err != nil {
		l.scope.service.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: key goes on in its version, because Adopt failed",
			attrKey(l.id), slog.String("from", s.flow.id), slog.String("to", s.next.id), attrErr(err))
		return Outcome{}, false, nil
	}
	return o, !o.idle, nil
}

// adoptable reports whether the key can change its version.
func (s *succession) adoptable(key *Key) bool {
	if isCompensating(key) || s.flow.hasPassedReturn(key) || s.next.compensates && key.forgotten() != 0 {
		return false
	}
	for _, e := range key.Journal {
		if s.flow.undoes(e.Stage) && !s.next.undoes(e.Stage) {
			return false
		}
	}
	return true
}

// resolve turns the outcome of Adopt into one that can be committed, or is NothingDone.
func (s *succession) resolve(l *Lease, key *Key, o Outcome) (Outcome, error) {
	switch {
	case o.idle:
		return o, o.checkExtra()
	case o.next, o.failed, o.Interim, o.Response != nil, o.leave, o.undo != nil, len(o.effects) > 0:
		return o, invalid("EarlierVersion.Adopt", "must return Advance, with or without a state, or NothingDone")
	case s.next.stages[o.RecoveryPoint] == nil:
		return o, invalid("EarlierVersion.Adopt", "returned a recovery point that %s does not have: %q", s.next, o.RecoveryPoint)
	}
	o.again, o.adoptedBy = true, s.next
	e, err := o.encode(l.id, key, l.scope.service.cfg.MaxValueBytes)
	if err == nil {
		err = e.keep(l.scope.service.valueCodec, l.id, key)
	}
	if err != nil {
		return o, fmt.Errorf("EarlierVersion.Adopt: %w", err)
	}
	return o, nil
}

// versionOf returns the earlier version that a claim was refused for, or nil.
func (f *Flow) versionOf(err error) *Flow {
	if other, ok := errors.AsType[*FlowError](err); ok {
		return f.version(other.Stored)
	}
	return nil
}

// committedFrom returns the stage that the journal names for a commit from a recovery point.
func (o *encodedOutcome) committedFrom(point string) string {
	if o.adoptedBy != nil {
		return adopting + point
	}
	return point
}

// isAdoption reports whether the commit moved the key to another version of its flow.
func (e *JournalEntry) isAdoption() bool { return strings.HasPrefix(e.Stage, adopting) }

// lastAdoption returns the journal entry of the last adoption; -1 for none.
func (k *Key) lastAdoption() int {
	for i := len(k.Journal) - 1; i >= 0; i-- {
		if k.Journal[i].isAdoption() {
			return i
		}
	}
	return -1
}
