package redisidem

import (
	"errors"
	"strconv"
	"strings"
)

// NotKeptError reports that the work on a key was done and its result could not be stored. The work
// does not run again. It matches [ErrNotKept].
type NotKeptError struct {
	// Part is the part of the outcome that could not be stored, as in "Response.Body".
	Part string
	// Err is why: an [*InvalidError], an [*EffectError] or what a [Codec] returned. Nil for calls
	// that ask later.
	Err error
}

func (e *NotKeptError) Error() string {
	if e.Err == nil {
		return ErrNotKept.Error() + ": " + e.Part + " could not be stored"
	}
	return ErrNotKept.Error() + ": " + e.Err.Error()
}

// Is reports whether target is [ErrNotKept].
func (e *NotKeptError) Is(target error) bool { return target == ErrNotKept }

// Unwrap returns why the result could not be stored, if that is known.
func (e *NotKeptError) Unwrap() error { return e.Err }

// NotKept returns a [*NotKeptError] if the key's work was done but its result could not be stored,
// and nil otherwise.
func (k *Key) NotKept() error {
	if k.notKept == "" || !k.Finished() {
		return nil
	}
	return &NotKeptError{Part: k.notKept}
}

// isUnstorable reports whether an outcome was refused because it cannot be stored. It is false for
// an outcome that this key cannot take.
func isUnstorable(err error) bool {
	return err != nil && !errors.Is(err, ErrNoProgress) && !errors.Is(err, ErrUndecided) && !errors.Is(err, ErrOtherFlow)
}

// withoutResult returns the outcome to commit in place of one that cannot be stored, for the reason
// err. It finishes the key. If the outcome was Fail, the committed stages are undone first.
func (o Outcome) withoutResult(err error) Outcome {
	part := "the outcome"
	var in *InvalidError
	var refused *EffectError
	switch {
	case errors.As(err, &in):
		part = in.Field
	case errors.As(err, &refused):
		part = "Outcome.Effects[" + strconv.Itoa(refused.Index) + "]"
	}
	point := Finished
	if strings.HasPrefix(o.RecoveryPoint, compensating) {
		point = o.RecoveryPoint
	}
	return Outcome{RecoveryPoint: point, leave: true, notKept: &NotKeptError{Part: part, Err: err}}
}

// withoutResult is [Outcome.withoutResult] for an outcome that is already encoded.
func (e encodedOutcome) withoutResult(err error) Outcome {
	return Outcome{RecoveryPoint: e.point}.withoutResult(err)
}
