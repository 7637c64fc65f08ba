package redisidem

import (
	"context"
	"errors"
)

// reasons are the words of Reason. If an error matches several, the first one counts.
var reasons = []struct {
	err  error
	word string
}{
	{ErrNotKept, "not-kept"},
	{ErrMaxHold, "max-hold"},
	{errStageTimeout, "stage-timeout"},
	{ErrFenced, "fenced"},
	{errDeadLettered, "dead-lettered"},
	{ErrCanceled, "canceled-key"},
	{ErrTooLate, "too-late"},
	{ErrDeadline, "deadline"},
	{ErrExhausted, "exhausted"},
	{ErrNotPermitted, "not-permitted"},
	{ErrOutcomeUnknown, "outcome-unknown"},
	{ErrLocked, "locked"},
	{ErrFingerprintMismatch, "mismatch"},
	{ErrNotDurable, "not-durable"},
	{ErrClosed, "closed"},
	{errStopped, "stopped"},
	{context.Canceled, "canceled"},
	{ErrUnavailable, "unavailable"},
	{ErrLeaseLost, "lease-lost"},
	{ErrLeaseEnded, "lease-ended"},
	{ErrNested, "nested"},
	{ErrOtherFlow, "other-flow"},
	{ErrUnknownRecoveryPoint, "unknown-recovery-point"},
	{ErrNoProgress, "no-progress"},
	{ErrDamaged, "damaged"},
	{ErrNotFound, "not-found"},
	{ErrFinished, "finished"},
	{ErrStale, "stale"},
	{ErrUndecided, "undecided"},
	{ErrEffect, "effect"},
	{ErrOtherType, "other-type"},
	{ErrInvalid, "invalid"},
	{errPutOff, "put-off"},
	{errPanicked, "panicked"},
	{context.DeadlineExceeded, "deadline-exceeded"},
}

// Reason returns a short word for an error of this package, for labels of metrics and attributes of
// spans. There are few words, and they do not change. It is "stage" for the error of a stage of a
// flow and "compensation" for that of a compensation, whatever they wrap; "canceled" if the caller
// left; "other" for an unknown error, such as a callback's own one; and "" for nil.
func Reason(err error) string {
	if err == nil {
		return ""
	}
	if _, ok := errors.AsType[*CompensationError](err); ok {
		return "compensation"
	}
	if _, ok := errors.AsType[*StageError](err); ok {
		return "stage"
	}
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.word
		}
	}
	return "other"
}
