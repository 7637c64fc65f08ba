package redisidem

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Exhausted says what a [Completer] does with a key of a [Flow] that has used up MaxAttempts at a
// stage. The zero value makes it a dead letter, unless the key is canceled or past its Deadline:
// its flow is failed then. Any other value, too, makes a dead letter of a key in a compensation,
// after the point of no return or at Stage itself. It also does so if MaxAttempts further attempts
// and a last one cannot fail the flow, because Reconcile of the stage cannot decide or the process
// dies. Attempts of clients count, but do not keep a Completer from failing the flow once.
type Exhausted struct {
	// Compensate fails the flow: the committed stages are compensated, and the key finishes with
	// the answer of [FlowConfig].FailWith.
	Compensate bool

	// Stage is the recovery point of a last stage, at which the flow continues. If Reconcile of the
	// stage whose attempts are used up finds that its work was done, the flow goes on from there
	// instead. Otherwise that stage counts as committed: if the flow fails later, its Compensate
	// runs, and must accept that the work was not done. If the attempts at the last stage are used
	// up, too, the key becomes a dead letter. It must not be in Next of a stage with NoReturn,
	// because the journal could not tell whether that stage was done. Empty: there is no last
	// stage.
	Stage string
}

// checkExhausted checks FlowConfig.Exhausted when the stages are known.
func (f *Flow) checkExhausted() error {
	switch e := f.cfg.Exhausted; {
	case e.Compensate && e.Stage != "":
		return invalid("FlowConfig.Exhausted", "must not have both Compensate and Stage (%q)", e.Stage)
	case e.Stage != "" && f.stages[e.Stage] == nil:
		return invalid("FlowConfig.Exhausted.Stage", "names no stage's recovery point: %q", e.Stage)
	}
	last := f.cfg.Exhausted.Stage
	for _, s := range f.cfg.Stages {
		if last != "" && s.NoReturn && f.stages[s.Point].passed(last) {
			return invalid("FlowConfig.Exhausted.Stage", "must not be in Next of %q, the point of no return, which by default is the next stage: %q", s.Point, last)
		}
	}
	return nil
}

// deadlineIn returns how long it is until the key reaches its flow's deadline. It returns 0 if
// there is no deadline, or none any more, or it has passed.
func (l *Lease) deadlineIn(key *Key) time.Duration {
	return l.flow.deadlineIn(key, l.began)
}

// deadlineIn is the same for a flow and a key that was claimed at that time.
func (f *Flow) deadlineIn(key *Key, claimed time.Time) time.Duration {
	if !f.hasDeadline(key) {
		return 0
	}
	return max(f.untilOld(key, claimed), 0)
}

// hasDeadline reports whether the flow's deadline applies to the key.
func (f *Flow) hasDeadline(key *Key) bool {
	return f != nil && f.cfg.Deadline > 0 && !isCompensating(key) && !f.hasPassedReturn(key)
}

// untilOld returns how long it is until the key is as old as its flow's deadline. The server's time
// is that of the claim, plus the time since the claim was sent.
func (f *Flow) untilOld(key *Key, claimed time.Time) time.Duration {
	age := key.LockedAt.Sub(key.CreatedAt) + time.Since(claimed)
	return f.cfg.Deadline - age
}

// untilDeadline returns the context for a run of a stage, which ends at the flow's deadline.
func (l *Lease) untilDeadline(ctx context.Context, key *Key) (context.Context, context.CancelFunc) {
	if left := l.deadlineIn(key); left > 0 {
		return context.WithTimeoutCause(ctx, left, ErrDeadline)
	}
	return ctx, func() {}
}

// isPastDeadline reports whether a stage that has returned fails the flow because of its deadline.
// It is false if the lease was lost, and if the deadline is that of another flow, a stage of which
// calls this one. Both end the context, too.
func (l *Lease) isPastDeadline(key *Key) bool {
	l.checkClock()
	return !l.isLost() && errors.Is(l.failCause(key), ErrDeadline)
}

// failCause returns why the flow is failed at the key, or nil if it continues.
func (l *Lease) failCause(key *Key) error {
	switch {
	case !key.CanceledAt.IsZero() && !isCompensating(key) && !l.flow.hasPassedReturn(key):
		return ErrCanceled
	case l.exhausted && l.exhaustedAt == key.Revision:
		return ErrExhausted
	case l.flow.hasDeadline(key) && l.flow.untilOld(key, l.began) <= 0:
		return ErrDeadline
	}
	return nil
}

// exhaust decides what becomes of a key whose attempts at this revision are used up: made is their
// number, and limit the number that is allowed. It reports false if the key becomes a dead letter.
// The caller holds the lease's mu.
//
// A run that fails the flow may itself fail, so it needs a bound: MaxAttempts further attempts, by
// completers or clients. One run follows that is the last, except after an attempt whose lease
// lapsed: a run that ends its process would do so again and again.
func (l *Lease) exhaust(key *Key, made, limit int) bool {
	f := l.flow
	e := f.cfg.Exhausted
	if made >= limit+f.cfg.MaxAttempts {
		if l.lapsed {
			return false
		}
		l.final, l.finalAt = key.rareFields().requeued.count(made+1, key.Revision), key.Revision
	}
	switch {
	case isCompensating(key), f.hasPassedReturn(key):
		return false
	case !key.CanceledAt.IsZero():
		return true
	case e.Compensate, e.Stage != "" && e.Stage != key.RecoveryPoint:
		l.exhausted, l.exhaustedAt = true, key.Revision
		return true
	}
	return l.failCause(key) != nil // the deadline has passed, and the attempts no longer matter
}

// failedFinally returns why the key becomes a dead letter after a run that has ended with this
// error, or "" if it does not. A run that a shutdown has stopped, or for which Redis did not
// answer, is not the last.
func (l *Lease) failedFinally(ctx context.Context, err error) string {
	_, panicked := errors.AsType[*panicError](err)
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Err() != nil || l.key.Revision != l.finalAt {
		return ""
	}
	if ofStage(err) || panicked || errors.Is(err, errGoexit) || errors.Is(err, ErrDamaged) || errors.Is(err, ErrUnknownRecoveryPoint) {
		return l.final
	}
	return ""
}

// fail returns the outcome that fails a flow at a stage. began means that an attempt at the stage
// has begun. If Reconcile finds out that its work was done, the outcome is the stage's. It is
// committed. A flow that is canceled or past its deadline is then failed at the next stage, and one
// whose attempts were used up goes on.
func (f *Flow) fail(ctx context.Context, st *Stage, stage *FlowStage, cause error, began bool) (Outcome, error) {
	if began && stage.Reconcile != nil {
		if o, done, err := f.reconcile(ctx, st, stage); done || err != nil {
			return o, err
		}
		began = false
	}
	if last := f.cfg.Exhausted.Stage; last != "" && errors.Is(cause, ErrExhausted) {
		return Outcome{RecoveryPoint: last, failedBy: cause}, nil
	}
	next, err := f.undoFrom(stage, st.key, began)
	if err != nil {
		return Outcome{}, err
	}
	r := f.answerTo(st, cause)
	return Outcome{RecoveryPoint: next, Response: &r, failedBy: cause}, nil
}

// reconcile asks whether an attempt at the stage did its work, which it reports with the outcome.
func (f *Flow) reconcile(ctx context.Context, st *Stage, stage *FlowStage) (o Outcome, done bool, err error) {
	o, err = stage.runOnce(ctx, st, stage.reconcile)
	switch {
	case err == nil:
		o, err = f.resolveOrEnd(stage, st, o, true)
		return o, true, err
	case !errors.Is(err, ErrNothingDone):
		return Outcome{}, false, &StageError{Stage: stage.Point, Err: fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)}
	}
	return Outcome{}, false, nil
}

// answerTo returns the answer of a key that the flow fails.
func (f *Flow) answerTo(st *Stage, cause error) Response {
	if f.cfg.FailWith != nil {
		return f.cfg.FailWith(st, cause)
	}
	code, title := http.StatusInternalServerError, "The request could not be completed."
	switch {
	case errors.Is(cause, ErrCanceled):
		code, title = http.StatusConflict, "The request was canceled."
	case errors.Is(cause, ErrDeadline):
		code, title = http.StatusGatewayTimeout, "The request was not completed in time."
	}
	return Response{
		Code: code, Header: http.Header{"Content-Type": {"application/problem+json"}},
		Body: fmt.Appendf(nil, `{"title":%q,"status":%d}`, title, code),
	}
}

// returnsNot reports whether a commit of the stage at a point, which leads to another one, is the
// point of no return.
func (f *Flow) returnsNot(from, to string) bool {
	if f == nil || f.stages[from] == nil {
		return false
	}
	return f.stages[from].NoReturn && f.stages[from].passed(to)
}

// hasPassedReturn reports whether the key is behind the flow's point of no return. Records that an
// older library has written have only the journal for it.
func (f *Flow) hasPassedReturn(key *Key) bool {
	if !f.returnless || key.noReturn {
		return key.noReturn
	}
	for i := key.lastAdoption() + 1; i < len(key.Journal); i++ {
		if s := f.stages[key.Journal[i].Stage]; s != nil && s.NoReturn && s.passed(pointAfter(key, i)) {
			return true
		}
	}
	return false
}
