package redisidem

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// undo returns the recovery point of the next compensation, at the i-th journal entry or an earlier
// one. It returns Finished if no commit needs one. It checks every commit that needs compensation,
// so that an impossible one is found before the first one runs.
func (f *Flow) undo(key *Key, i int) (string, error) {
	next := Finished
	if !f.compensates {
		return next, nil
	}
	adopted := i < key.lastAdoption() // the commits from here on are those of an earlier version
	gaps := key.merged                // how many commits may be missing between the entries
	for ; i >= 0; i-- {
		e, later := key.Journal[i], key.Revision
		if i+1 < len(key.Journal) {
			later = key.Journal[i+1].Revision
		}
		if gaps -= later - e.Revision - 1; gaps < 0 {
			break
		}
		adopted = adopted || e.isAdoption()
		if strings.HasPrefix(e.Stage, compensating) {
			continue
		}
		stage := f.stages[e.Stage]
		switch {
		case stage == nil && adopted: // the adoption itself, or a stage that it has found to need no compensation
		case stage == nil:
			return "", fmt.Errorf("%w: %q, which was committed and is to be compensated", ErrUnknownRecoveryPoint, e.Stage)
		case stage.NoReturn && !adopted && stage.passed(pointAfter(key, i)):
			return next, nil
		case stage.Compensate != nil && next == Finished:
			next = compensating + strconv.FormatInt(e.Revision, 10)
		}
	}
	if key.forgotten() != 0 {
		return "", damaged("the journal has %d of %d commits: what it does not have cannot be compensated", len(key.Journal), key.Revision)
	}
	return next, nil
}

// undoFrom returns the recovery point at which the compensation of a flow begins that fails at this
// stage, which is nil if the flow does not have it. began means that an attempt at the stage may
// have begun.
func (f *Flow) undoFrom(stage *FlowStage, key *Key, began bool) (string, error) {
	next, err := f.undo(key, len(key.Journal)-1)
	if err == nil && began && stage != nil && stage.CompensateFailed {
		// The commit that fails the flow is in the journal with this revision and this stage.
		next = compensating + strconv.FormatInt(key.Revision, 10)
	}
	return next, err
}

// pointAfter returns the recovery point to which the i-th journal entry led.
func pointAfter(key *Key, i int) string {
	if i+1 < len(key.Journal) {
		return strings.TrimPrefix(key.Journal[i+1].Stage, adopting)
	}
	return key.RecoveryPoint
}

// passed reports whether the stage's commit that led to this point was more than an interim answer.
func (s *FlowStage) passed(to string) bool {
	return to == Finished || strings.HasPrefix(to, compensating) || slices.Contains(s.Next, to)
}

// compensate undoes the commit of one revision.
func (f *Flow) compensate(ctx context.Context, st *Stage, revision string) (Outcome, error) {
	n, err := parseCount("recovery_point", revision)
	if err != nil {
		return Outcome{}, err
	}
	i := slices.IndexFunc(st.key.Journal, func(e JournalEntry) bool { return e.Revision == n })
	if i < 0 {
		return Outcome{}, damaged("revision %d is to be compensated and not in the journal", n)
	}
	st.undoes = &st.key.Journal[i]
	stage := f.stages[st.undoes.Stage]
	if stage == nil {
		return Outcome{}, fmt.Errorf("%w: %q, which is to be compensated", ErrUnknownRecoveryPoint, st.undoes.Stage)
	}
	next, err := f.undo(st.key, i-1)
	if err != nil {
		return Outcome{}, err
	}
	if stage.Compensate != nil {
		_, err = stage.retry(ctx, st, func(ctx context.Context, st *Stage) (Outcome, error) {
			return stage.runOnce(ctx, st, func(ctx context.Context, st *Stage) (Outcome, error) {
				return Outcome{}, stage.Compensate(ctx, st)
			})
		})
		if err != nil {
			return Outcome{}, &CompensationError{Stage: stage.Point, Err: err}
		}
	}
	return Outcome{RecoveryPoint: next}, nil
}
