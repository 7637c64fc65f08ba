package redisidem

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"sync"
)

// results has why a type cannot be a result of Do, nil if it can.
var results sync.Map // reflect.Type: error

// resultError returns why no value of the type can be stored; nil if one can.
func resultError(t reflect.Type) error {
	known, ok := results.Load(t)
	if !ok {
		var err error
		if why := neverJSON(t); why != nil {
			err = &InvalidError{Field: "result", Reason: "of type " + t.String() + " cannot be stored as JSON: " + why.Error(), Err: why}
		}
		known, _ = results.LoadOrStore(t, err)
	}
	err, _ := known.(error)
	return err
}

// Do runs work once for a key that a request brought, and gives its result again to every retry: replayed says which it
// was. The result travels as JSON. Two round trips the first time, one for a replay.
//
// It is for work of a single stage: a key that stands at a recovery point of its own is
// [ErrUnknownRecoveryPoint]. An error of work leaves the key as it was, to be retried. A type T
// that cannot be stored is [ErrInvalid], before work runs; a result that cannot be is [ErrNotKept],
// now and for every retry. A stored result that is none of type T is [ErrOtherType]. The other
// errors are those of [Scope.Do]. It is a function since methods cannot have type parameters.
func Do[T any](ctx context.Context, sc *Scope, value string, req Request, work func(context.Context, *Stage) (T, error)) (
	result T, replayed bool, err error,
) {
	if work == nil {
		return result, false, invalid("work", "must not be nil")
	}
	if err := resultError(reflect.TypeFor[T]()); err != nil {
		return result, false, err
	}
	key, err := sc.Do(ctx, value, req, func(ctx context.Context, st *Stage) (Outcome, error) {
		if st.Key().RecoveryPoint != Started {
			return NothingDone(), nil
		}
		var err error
		if result, err = work(ctx, st); err != nil {
			return Outcome{}, err
		}
		return Finish(JSON(200, result)), nil
	})
	if err != nil {
		var none T
		return none, false, err
	}
	if !key.Finished() {
		return result, false, fmt.Errorf("%w: %q", ErrUnknownRecoveryPoint, key.RecoveryPoint)
	}
	if !key.Replayed() {
		return result, false, nil
	}
	if key.Response == nil {
		return result, true, fmt.Errorf("%w: the key was finished without a result", ErrOtherType)
	}
	if err := json.Unmarshal(key.Response.Body, &result); err != nil {
		var none T // not what was decoded of it so far
		return none, true, fmt.Errorf("%w: result: %w", ErrOtherType, err)
	}
	return result, true, nil
}
