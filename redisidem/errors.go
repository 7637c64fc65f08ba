package redisidem

import (
	"errors"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// The states a caller branches on. Test for them with [errors.Is]: most reach the caller wrapped.
var (
	// ErrInvalid is matched by the error of every call whose input is refused: an [*InvalidError]
	// names the field and its bound. Nothing was changed, unless it matches ErrNotKept, too.
	ErrInvalid = errors.New("redisidem: invalid input")
	// ErrNotFound is returned when the key has no record: it never had one, it was deleted, or its
	// retention ended.
	ErrNotFound = errors.New("redisidem: key not found")
	// ErrLocked is matched by a [*LockedError]: another worker has the lease on the key.
	ErrLocked = errors.New("redisidem: key already locked")
	// ErrNotLocked is returned by [Inspector.Unlock] for a key on which no worker has a lease.
	ErrNotLocked = errors.New("redisidem: key is not locked")
	// ErrFinished is returned by Lock and Update for a finished key: it never changes.
	ErrFinished = errors.New("redisidem: key is finished")
	// ErrStale is returned by Update, Delete and the acts of an [Inspector] when the record has
	// advanced since the caller read it.
	ErrStale = errors.New("redisidem: key has moved on")
	// ErrFingerprintMismatch is returned when the key was first used with another request.
	ErrFingerprintMismatch = errors.New("redisidem: key was used with another request")
	// ErrLeaseLost is the cause of a stage's cancelled context once its lease is gone: another
	// worker may start.
	ErrLeaseLost = errors.New("redisidem: lease lost")
	// ErrFenced is returned when a result was refused because another worker has claimed the key
	// since. The result is not stored and never will be. It matches ErrLeaseLost, too.
	ErrFenced error = fencedError{}
	// ErrLeaseEnded is returned by the methods of a Lease that was committed or abandoned already.
	ErrLeaseEnded = errors.New("redisidem: lease has ended")
	// ErrMaxHold is the cause of a stage's cancelled context once the lease was held for
	// Config.MaxHold without a commit. It matches ErrLeaseLost, too.
	ErrMaxHold error = maxHoldError{}
	// ErrNested is returned by a WorkStage, Do or Lock on a key from inside a stage of the same
	// key: the call would wait for itself.
	ErrNested = errors.New("redisidem: the caller is inside a stage of this key")
	// ErrUnavailable is returned when Redis gave no usable answer within Config.Timeout. No
	// callback has run. It also matches the caller's context error when that was the cause.
	ErrUnavailable = errors.New("redisidem: redis unavailable")
	// ErrNotPermitted is returned when Redis denies this client's user a command or a key that the
	// library needs: see docs/security.md. Asking again does not help. It comes with
	// ErrUnavailable, or with ErrOutcomeUnknown.
	ErrNotPermitted error = notPermittedError{}
	// ErrNotDurable is matched by a [*NotDurableError]: fewer replicas than Config.Durability
	// acknowledged.
	ErrNotDurable = errors.New("redisidem: not enough replicas acknowledged")
	// ErrUnknownRecoveryPoint says that a key stands at a recovery point the program does not know,
	// perhaps because a newer replica of it does. The record is untouched.
	ErrUnknownRecoveryPoint = errors.New("redisidem: unknown recovery point")
	// ErrNoProgress is returned when a stage returned the recovery point it started from, without
	// Interim.
	ErrNoProgress = errors.New("redisidem: stage returned its own recovery point")
	// ErrOtherFlow is matched by a [*FlowError]: the key belongs to another flow, or to another
	// version of it.
	ErrOtherFlow = errors.New("redisidem: key belongs to another flow")
	// ErrOutcomeUnknown says that the outcome of the work is unknown. Ask again with the same key.
	//
	// A call returns it when Redis did not acknowledge a commit within Config.Timeout: the result
	// may be stored or not. The service repeats the commit in the background for
	// Config.CommitRetry, and no other worker can claim the key before the lease ends. A call also
	// returns it when the record is gone, because Redis lost its data or the record has expired: a
	// retry then makes a new record and runs the work as its first attempt. With Config.Durability
	// it also covers a refusal of the commit that too few replicas have acknowledged.
	//
	// A stage, or its Reconcile, returns it when it cannot determine whether its work was done. The
	// key then stays as it is, and WorkFlow and DoFlow return the error.
	ErrOutcomeUnknown = errors.New("redisidem: outcome unknown")
	// ErrNothingDone is for Reconcile to return when the earlier attempt has not done the stage's
	// work: the stage then runs.
	ErrNothingDone = errors.New("redisidem: not done")
	// ErrDeadline is the cause with which a flow is failed after FlowConfig.Deadline, and the cause
	// of the cancelled context of a stage that was running then.
	ErrDeadline = errors.New("redisidem: deadline of the flow has passed")
	// ErrCanceled is the cause with which a flow is failed after Scope.Cancel, and the cause of the
	// cancelled context of a stage that was running then. It matches ErrLeaseLost, too.
	ErrCanceled error = canceledError{}
	// ErrTooLate is returned by Cancel for a key that has its answer already, or is behind the
	// point of no return.
	ErrTooLate = errors.New("redisidem: too late to cancel")
	// ErrExhausted is the cause with which a flow is failed, or moved to its last stage, when
	// MaxAttempts is used up: see FlowConfig.Exhausted.
	ErrExhausted = errors.New("redisidem: attempts are used up")
	// ErrEffect is matched by an [*EffectError]: an effect cannot be applied, and so nothing of its
	// outcome was. If the outcome was a callback's, the error matches ErrNotKept, too.
	ErrEffect = errors.New("redisidem: effect refused")
	// ErrDamaged is returned when the value stored under the key is not a record of this library,
	// or cannot be read. It is never treated as an absent record, because finished work would run
	// again.
	ErrDamaged = errors.New("redisidem: damaged record")
	// ErrUnsafeClient is returned by New for a client on which the promise cannot be kept.
	ErrUnsafeClient = errors.New("redisidem: unsafe client")
	// ErrUnsafeServer is returned by Open when Check found a server on which the promise cannot be
	// kept.
	ErrUnsafeServer = errors.New("redisidem: unsafe server")
	// ErrNoState is returned by Stage.State when no earlier stage left one.
	ErrNoState = errors.New("redisidem: no state")
	// ErrNotKept is matched by a [*NotKeptError]: the work was done, and its result could not be
	// stored. The key is finished, and each call that asks for its answer gets this error.
	ErrNotKept = errors.New("redisidem: executed, result not kept")
	// ErrUndecided is matched by the error for an outcome that would end a key by hand although
	// stages of its flow were committed that can be undone: [Outcome.Undo] and [Outcome.Leave]
	// decide whether they are undone. Nothing was changed. Neither an attempt that was not
	// committed nor a stage that was committed without the flow is a reason for it, and
	// [Outcome.Undo] undoes both, too.
	ErrUndecided = errors.New("redisidem: outcome needs Undo or Leave")
	// ErrPaused is matched by a [*PausedError]: an operator has paused the flow for clients.
	ErrPaused = errors.New("redisidem: flow is paused")
	// ErrNotPaused is returned by [Inspector.Resume] for a flow that is not paused.
	ErrNotPaused = errors.New("redisidem: flow is not paused")
	// ErrOtherType is matched when a stored value does not decode into the requested type.
	ErrOtherType = errors.New("redisidem: stored value has another type")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("redisidem: service closed")
)

// notPermittedError is ErrNotPermitted with what Redis said.
type notPermittedError struct{ err error }

func (e notPermittedError) Error() string {
	const text = "the Redis user lacks a right"
	if e.err == nil {
		return "redisidem: " + text
	}
	return text + ": " + e.err.Error()
}
func (notPermittedError) Is(target error) bool { return target == ErrNotPermitted }
func (e notPermittedError) Unwrap() error      { return e.err }

// commitUnknownError is ErrOutcomeUnknown for a commit, with the reason if there is one. A call
// that returns it can be repeated, unlike a stage that does not know whether its work was done.
type commitUnknownError struct{ err error }

func (e *commitUnknownError) Error() string {
	if e.err == nil {
		return ErrOutcomeUnknown.Error()
	}
	return ErrOutcomeUnknown.Error() + ": " + e.err.Error()
}
func (e *commitUnknownError) Is(target error) bool { return target == ErrOutcomeUnknown }
func (e *commitUnknownError) Unwrap() error        { return e.err }

type fencedError struct{}

func (fencedError) Error() string        { return "redisidem: fenced: another worker has claimed the key" }
func (fencedError) Is(target error) bool { return target == ErrLeaseLost }

type maxHoldError struct{}

func (maxHoldError) Error() string        { return "redisidem: lease held for longer than MaxHold" }
func (maxHoldError) Is(target error) bool { return target == ErrLeaseLost }

type canceledError struct{}

func (canceledError) Error() string        { return "redisidem: key was canceled" }
func (canceledError) Is(target error) bool { return target == ErrLeaseLost }

// InvalidError names an input that was refused, and the reason. It matches [ErrInvalid].
type InvalidError struct {
	// Field is the name of the parameter or field, as in "Config.Lease".
	Field string
	// Reason is the reason, with the bound that the input breaks.
	Reason string
	// Err is the error behind it, if there is one.
	Err error
}

func (e *InvalidError) Error() string { return "redisidem: " + e.Field + " " + e.Reason }

// Is reports whether target is [ErrInvalid].
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

// Unwrap returns the error behind it, if there is one.
func (e *InvalidError) Unwrap() error { return e.Err }

func invalid(field, format string, args ...any) error {
	return &InvalidError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// LockedError reports that another worker has the lease on the key. It matches [ErrLocked].
type LockedError struct {
	// RetryAfter is the rest of that lease by the server's clock: the key is free by then at
	// the latest, unless its worker is alive and renews. It is never negative.
	RetryAfter time.Duration

	inFlight *inFlight // of the service that was refused; nil if it is not known
	record   string
}

func (e *LockedError) Error() string {
	text := fmt.Sprintf("redisidem: key already locked, its lease has %v left", e.RetryAfter)
	// A call inside of the key's own stage that passes on the stage's context gets ErrNested. This
	// one may have the outer context. The search is left to the text, since it is long with many
	// leases.
	if e.inFlight != nil && e.inFlight.works(e.record) {
		text += " and is this service's own: if the call is inside of the key's stage, it needs the stage's context"
	}
	return text
}

// Is reports whether target is [ErrLocked].
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// FlowError reports that a key belongs to another flow than the one that was to work on it. It
// matches [ErrOtherFlow]. The record is untouched.
type FlowError struct {
	// Stored is the flow that the key belongs to, and Wanted the one that was to work on it, as
	// name/version.
	Stored, Wanted string
}

func (e *FlowError) Error() string {
	return fmt.Sprintf("redisidem: key belongs to the flow %s, not to %s", e.Stored, e.Wanted)
}

// Is reports whether target is [ErrOtherFlow].
func (e *FlowError) Is(target error) bool { return target == ErrOtherFlow }

// StageError reports that a stage of a flow failed, with the stage's own error. That error is about
// the stage's work, perhaps with another key, and not about the flow's key. The key stays at the
// stage.
type StageError struct {
	// Stage is the stage's recovery point.
	Stage string
	// Err is the error that the stage returned, or the reason why the outcome of its Reconcile is
	// invalid.
	Err error
}

func (e *StageError) Error() string { return fmt.Sprintf("redisidem: stage %q: %v", e.Stage, e.Err) }

// Unwrap returns the stage's error.
func (e *StageError) Unwrap() error { return e.Err }

// ofStage reports whether an error is that of a stage's or a compensation's own work.
func ofStage(err error) bool {
	_, stage := errors.AsType[*StageError](err)
	_, compensation := errors.AsType[*CompensationError](err)
	return stage || compensation
}

// CompensationError reports that a compensation failed. The key stays where it is: a retry or a
// [Completer] continues with this very compensation.
type CompensationError struct {
	// Stage is the recovery point of the stage that was to be compensated.
	Stage string
	// Err is the error that the compensation returned.
	Err error
}

func (e *CompensationError) Error() string {
	return fmt.Sprintf("redisidem: compensation of stage %q: %v", e.Stage, e.Err)
}

// Unwrap returns the compensation's error.
func (e *CompensationError) Unwrap() error { return e.Err }

// EffectError names an effect that the server refused, and the reason. Nothing of the outcome was
// stored, and the lease has ended. It matches [ErrEffect].
type EffectError struct {
	// Index is the effect's number among the outcome's, counted from 0, and Key its Redis key.
	Index int
	Key   string
	// Reason is the reason of the server or of the check.
	Reason string
}

func (e *EffectError) Error() string {
	return fmt.Sprintf("redisidem: effect %d on %q: %s", e.Index, e.Key, e.Reason)
}

// Is reports whether target is [ErrEffect].
func (e *EffectError) Is(target error) bool { return target == ErrEffect }

// fromProtocol turns the error for a record or a reply that cannot be read into ErrDamaged. Others
// it returns as they are.
func fromProtocol(err error) error {
	if err == nil {
		return nil
	}
	if damage, ok := errors.AsType[*protocol.DamagedError](err); ok {
		return damaged("%s", damage.Reason)
	}
	return err
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// locked is the error for a BUSY reply.
func locked(r protocol.Reply) error {
	left, expires, err := r.LockLife()
	switch {
	case err != nil:
		return fromProtocol(err)
	case !expires:
		return &LockedError{RetryAfter: lastPoll} // the lock has lost its expiry, so that its end is unknown
	}
	return &LockedError{RetryAfter: left}
}
