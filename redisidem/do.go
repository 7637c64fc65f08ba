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

// Do runs work once for a key that a request brought, and gives its result again to every retry:
// replayed says which it was. The result travels as JSON. Two round trips the first time, one for a
// replay.
//
// It is for work of a single stage: a key that stands at a recovery point of its own is
// [ErrUnknownRecoveryPoint]. An error of work leaves the key as it was, to be retried. A type T
// that cannot be stored is [ErrInvalid], before work runs; a result that cannot be is [ErrNotKept],
// now and for every retry. A stored result that does not decode into T is [ErrOtherType]. The other
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

// Do is InitializeRequest and WorkStage in one: it takes the lease on the key that a request
// brought, creates it if it does not exist, runs the callback from whatever recovery point the key
// is at, and commits. Two round trips the first time, one for a replay.
//
// The key returned is never nil. The errors are those of [Scope.InitializeRequest] and
// [Scope.WorkStage]; unlike the former it refuses an empty value.
func (sc *Scope) Do(ctx context.Context, value string, req Request, work StageFunc) (*Key, error) {
	if work == nil {
		return &Key{}, invalid("work", "must not be nil")
	}
	key, id, encoded, err := sc.cached(ctx, value, req)
	switch {
	case err != nil:
		return &Key{}, err
	case key != nil:
		return key.result()
	}
	return sc.do(ctx, id, encoded, work)
}

// do is apart from Do so that a replay from a copy does not pay for what only a claim needs.
func (sc *Scope) do(ctx context.Context, id identity, encoded encodedRequest, work StageFunc) (*Key, error) {
	key, err := sc.work(ctx, nil, claim{id: id, request: &encoded}, work)
	return orOnlyNamed(id, key), err
}

// orOnlyNamed returns the key, or when it is nil one of which only the name is known.
func orOnlyNamed(id identity, key *Key) *Key {
	if key == nil {
		return &Key{Value: id.Value, Scope: id.Scope, id: id}
	}
	return key
}
