package redisidem

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
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
func (st *Stage) State(v any) error {
	if !st.key.hasState {
		return ErrNoState
	}
	if b, ok := v.(*[]byte); ok {
		*b = append([]byte(nil), st.key.state...)
		return nil
	}
	if err := json.Unmarshal(st.key.state, v); err != nil {
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

// OutboundKey returns an idempotency key for a call to another service, in the form of a UUID. It
// is the same for every run of this visit to the stage, on any machine. A later visit to the stage
// has another one. Calls to different operations in one stage need different names; an empty name
// is allowed.
//
// If a key is used again after its record has ended, its outbound keys depend on how the record
// ended:
//
//   - If Redis lost the record, or its retention is over, the outbound keys are the same. The work
//     may have been done, and the other service recognises the repetition.
//   - If [Scope.Delete] removed the record, the outbound keys are new. The other service does not
//     replay calls of the deleted record, which may have been called off. This holds for
//     Config.Retention, and as long as records exist that were made within that time. If Redis
//     loses the tombstone of the delete, or a record made in its place, the outbound keys are those
//     of the first record again.
//
// A new record also has new outbound keys if the first of Config.FingerprintKeys has changed.
func (st *Stage) OutboundKey(name string) string {
	return st.outboundKey(st.key.RecoveryPoint, st.key.Revision, name)
}

// CommittedKey returns the key that OutboundKey returned to the run behind a journal entry. A
// compensation uses it to call off the calls of that run.
func (st *Stage) CommittedKey(e JournalEntry, name string) string {
	return st.outboundKey(e.Stage, e.Revision, name)
}

func (st *Stage) outboundKey(point string, revision int64, name string) string {
	id := st.lease.id
	b := append([]byte(nil), "redisidem/outbound/1"...)
	b = protocol.AppendPart(b, id.Record)
	b = protocol.AppendPart(b, st.key.fingerprint)
	b = protocol.AppendPart(b, point)
	b = binary.BigEndian.AppendUint64(b, uint64(revision)) //nolint:gosec // it is counted from 0
	b = protocol.AppendPart(b, name)
	if st.key.generation > 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(st.key.generation)) //nolint:gosec // it is counted from 0
	}
	sum := sha256.Sum256(b)
	u := uuid.UUID(sum[:16])
	u[6] = u[6]&0x0f | 0x80 // version 8: a form of one's own (RFC 9562, section 5.8)
	u[8] = u[8]&0x3f | 0x80
	return u.String()
}

// stage describes the stage at which the lease stands.
func (l *Lease) stage() *Stage {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &Stage{lease: l, key: l.key, attempt: l.attempt}
}
