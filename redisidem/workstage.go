package redisidem

import (
	"context"
)

// WorkStage takes the lease on a key, runs the callback, and commits the outcome that the callback
// returns. It takes two round trips.
//
// The record must be as the caller has read it. If it has advanced, was deleted and made again, or
// is finished, the callback does not run and the current key is returned. A loop over recovery
// points then simply continues. The returned key is never nil; with an error it is the key as last
// read.
//
// The callback's own error is returned as it is, joined with the cause if the lease was lost.
// Otherwise the error matches one of these:
//
//   - [ErrLocked]: another worker has the lease, for longer than [Scope.Wait].
//   - [ErrNotFound]: the record does not exist.
//   - [ErrFingerprintMismatch]: the value now belongs to another request.
//   - [ErrLeaseLost]: the lease was lost before the callback began.
//   - [ErrFenced]: another worker claimed the key during the callback.
//   - [ErrOutcomeUnknown]: it is unknown whether the outcome was stored.
//   - [ErrNoProgress]: the outcome stays at the same recovery point.
//   - [ErrNotKept]: the outcome cannot be stored. Each later use of the key returns it as well.
//   - [ErrNotDurable]: too few replicas acknowledged. If the callback ran, the outcome is stored.
//   - [ErrNested]: the call is inside a stage of the same key.
//   - [ErrDamaged], [ErrInvalid] and [ErrUnavailable].
func (sc *Scope) WorkStage(ctx context.Context, key *Key, work StageFunc) (*Key, error) {
	if key == nil {
		return &Key{}, invalid("key", "must not be nil")
	}
	if work == nil {
		return key, invalid("work", "must not be nil")
	}
	id, err := sc.identityOf(key)
	if err != nil {
		return key, err
	}
	if !key.unchanged() || key.id.Record != id.Record {
		// The caller made or changed this key, so the record may differ.
		fresh, err := sc.service.retrieve(ctx, id)
		if err != nil {
			return key, err
		}
		switch {
		case key.fingerprint != "" && key.fingerprint != fresh.fingerprint:
			return key, ErrFingerprintMismatch
		case !fresh.isStill(key):
			return fresh, nil
		}
		key = fresh
	}
	if key.Finished() {
		return key.result()
	}
	return sc.claimAndRun(ctx, key, claim{id: id, seen: key}, work)
}

// claimAndRun claims the key, runs the callback under the lease, and commits. Without a fresher key
// it returns seen.
func (sc *Scope) claimAndRun(ctx context.Context, seen *Key, c claim, work StageFunc) (*Key, error) {
	lease, fresh, err := sc.claim(ctx, c)
	switch {
	case err != nil:
		if fresh != nil {
			seen = fresh
		}
		return seen, err
	case lease == nil:
		return fresh.result()
	}
	key, _, err := lease.runStage(ctx, work, false)
	return key, err
}
