package redisidem

import (
	"context"
	"fmt"
	"reflect"
)

// Do runs work once for a key that a request brought, and returns the same result to every retry.
// replayed reports whether an earlier call made the result. It takes two round trips the first
// time, and one for a replay.
//
// The result is stored as JSON, and each call decodes it from there, the first one too. So a field
// with the tag json:"-" is never returned. A type with a part that JSON would lose is refused: a
// field that is not exported and has no such tag, an interface with methods, or a type that writes
// its own JSON and does not read it. A type that writes its own JSON and leaves a part out cannot
// be recognised, such as a struct that embeds a time.Time.
//
// Do is for work of a single stage. If work returns an error, the key stays as it was and can be
// retried. It is a function because methods cannot have type parameters.
//
// The status of the stored response is 200. A result of a type with the method
//
//	StatusCode() int
//
// names its own, such as 201, or 402 for a declined payment: this is a result, too, and is
// replayed. Zero stands for 200. The method is called on the decoded result, so the status must
// follow from what JSON keeps.
//
// The errors are those of [Scope.Do], and:
//
//   - [ErrInvalid] if values of type T cannot be stored, or would lose a part. It is returned
//     before work runs.
//   - [ErrNotKept] if this result cannot be stored. Every retry gets it as well.
//   - [ErrOtherType] if the stored response does not decode into T, or has another status than that
//     result: the key was finished in another way, perhaps by hand.
//   - [ErrUnknownRecoveryPoint] if the key is neither at Started nor at Finished.
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
		return Finish(storeResult(&result)), nil
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
	result, err = decodeResult[T](key.Response)
	return result, true, err
}

// Do is [Scope.InitializeRequest] and [Scope.WorkStage] in one. It creates the key of a request if
// it does not exist, takes its lease, runs the callback at any recovery point, and commits. It
// takes two round trips the first time, and one for a replay.
//
// The returned key is never nil. The errors are those of these two methods. Unlike
// InitializeRequest, Do refuses an empty value.
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

// do is separate from Do so that encoded moves to the heap only for a claim, and not for a replay
// from a copy.
func (sc *Scope) do(ctx context.Context, id identity, encoded encodedRequest, work StageFunc) (*Key, error) {
	key, err := sc.claimAndRun(ctx, nil, claim{id: id, request: &encoded}, work)
	return orOnlyNamed(id, key), err
}

// orOnlyNamed returns the key, or a key with only its name if it is nil.
func orOnlyNamed(id identity, key *Key) *Key {
	if key == nil {
		return &Key{Value: id.Value, Scope: id.Scope, id: id}
	}
	return key
}
