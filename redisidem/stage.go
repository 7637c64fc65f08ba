package redisidem

import (
	"context"
	"encoding/json"
	"fmt"
)

// StageFunc does the work between two recovery points. Its context is cancelled when the caller's
// context ends, when the lease is lost, and when [Service.Close] stops waiting. If the lease is
// lost, [context.Cause] returns an error that matches [ErrLeaseLost]. After Close it returns
// [ErrClosed].
//
// Work outside Redis can happen more than once, because a process can die or stall before the
// commit. [Stage.Fence] and [Stage.OutboundKey] help to make a repetition harmless.
//
// A returned error, a panic or a [runtime.Goexit] leaves the recovery point unchanged, and the
// attempt counts.
type StageFunc func(ctx context.Context, st *Stage) (Outcome, error)

// Stage describes the stage that a callback works on.
type Stage struct {
	lease   *Lease
	key     *Key
	attempt int
	undoes  *JournalEntry // the commit that a compensation undoes
}

// Key returns the key as it was at the beginning of the stage.
func (st *Stage) Key() *Key { return st.key }

// Fence returns the number of the lease under which the stage runs; see [Lease.Fence].
func (st *Stage) Fence() int64 { return st.lease.fence }

// Attempt returns the number of this run of the stage, counted from 1. A greater number means that
// an earlier run began and was not committed, so its effects outside Redis are unknown. The runs
// that [FlowStage.Retry] makes under one lease count as one for later leases.
func (st *Stage) Attempt() int { return st.attempt }

// State decodes the state that an earlier stage stored into v. It copies the stored bytes into a
// *[]byte, and decodes JSON into any other pointer. It returns [ErrNoState] if no earlier stage
// stored a state, and [ErrOtherType] if the state does not fit v.
//
// A Compensate gets the state that the key had after the commit that it undoes, without what later
// commits have changed. For an interim commit of the stage that may be ErrNoState. A state that was
// set by hand, with [Scope.Update] or [Lease.Commit], or by an Adopt, is the one that the
// compensations of all earlier commits get. The earlier states of a key have up to
// Config.MaxValueBytes together. One that did not fit, or that Config.Codec could not encode, is
// logged as a warning, and is [ErrDamaged] for the Compensate that asks for it.
func (st *Stage) State(v any) error {
	state, ok := st.key.state, st.key.hasState
	if st.undoes != nil {
		var err error
		if state, ok, err = st.key.stateAfter(st.lease.scope.service.valueCodec, st.undoes.Revision); err != nil {
			return err
		}
	}
	if !ok {
		return ErrNoState
	}
	if b, ok := v.(*[]byte); ok {
		*b = append([]byte(nil), state...)
		return nil
	}
	if err := json.Unmarshal(state, v); err != nil {
		return fmt.Errorf("%w: state left by an earlier stage: %w", ErrOtherType, err)
	}
	return nil
}

// Compensates returns the commit that a compensation has to undo. It returns the zero JournalEntry
// outside of [FlowStage.Compensate].
func (st *Stage) Compensates() JournalEntry {
	if st.undoes == nil {
		return JournalEntry{}
	}
	return *st.undoes
}

// ShardKey returns the name of a Redis key for the program's own data, for use in an effect
// ([Outcome.WithEffects]). The Redis key is in the same shard as the idempotency key, so that one
// commit can write both. There are 1024 shards, each in one cluster slot. The same name in
// different shards is a different Redis key.
func (st *Stage) ShardKey(name string) string { return st.lease.id.ShardKey(name) }
