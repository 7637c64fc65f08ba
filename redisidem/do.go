package redisidem

import (
	"context"
	"encoding/json"
	"fmt"
)

// Do runs work once for a key that a request brought, and gives its result again to every retry: replayed says which it
// was. The result travels as JSON. Two round trips the first time, one for a replay.
//
// It is for work of a single stage: a key that stands at a recovery point of its own is [ErrUnknownRecoveryPoint]. An
// error of work leaves the key as it was, to be retried. The other errors are those of [Scope.Do]. It is a function since
// methods cannot have type parameters.
func Do[T any](ctx context.Context, sc *Scope, value string, req Request, work func(context.Context, *Stage) (T, error)) (
	result T, replayed bool, err error,
) {
	if work == nil {
		return result, false, invalid("work", "must not be nil")
	}
	key, err := sc.Do(ctx, value, req, func(ctx context.Context, st *Stage) (Outcome, error) {
		if st.Key().RecoveryPoint != Started {
			return Idle(), nil
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
		return result, true, fmt.Errorf("redisidem: the key was finished without a result")
	}
	if err := json.Unmarshal(key.Response.Body, &result); err != nil {
		return result, true, fmt.Errorf("redisidem: the stored result does not decode: %w", err)
	}
	return result, true, nil
}
