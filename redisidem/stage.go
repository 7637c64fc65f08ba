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

// StageFunc is the work between two recovery points. Its context is cancelled when the caller's is,
// and when the lease is lost: [context.Cause] then matches [ErrLeaseLost]. What it does outside
// Redis can happen more than once, when a process dies or stalls between doing it and committing:
// [Stage.Fence] and [Stage.OutboundKey] help to make that harmless.
//
// A returned error, a panic and [runtime.Goexit] leave the recovery point unchanged and count the
// attempt.
type StageFunc func(ctx context.Context, st *Stage) (Outcome, error)

// Stage is what a callback may ask about the stage it works on.
type Stage struct {
	lease   *Lease
	key     *Key
	attempt int
	undoes  *JournalEntry // what a compensation undoes
}

// Key returns the key as it stands at the beginning of the stage.
func (st *Stage) Key() *Key { return st.key }

// Fence returns the number of the lease the stage runs under; see [Lease.Fence].
func (st *Stage) Fence() int64 { return st.lease.fence }

// Attempt returns the number of this run of the stage, counted from 1. If it is greater than 1, an
// earlier run began and did not commit: what it did outside is unknown. Of the runs that
// [FlowStage.Retry] makes, those of one lease count as one to the leases after it.
func (st *Stage) Attempt() int { return st.attempt }

// State decodes the state that an earlier stage left into v: into a *[]byte the bytes as they were
// stored, into anything else as JSON. It returns [ErrNoState] when no earlier stage left a state.
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

// Compensates returns the commit that a compensation is to undo. Outside of [FlowStage.Compensate]
// it is the zero value.
func (st *Stage) Compensates() JournalEntry {
	if st.undoes == nil {
		return JournalEntry{}
	}
	return *st.undoes
}

// ShardKey returns the name of a Redis key of the program's own for use in an [Effect]. It is in
// the key's shard, one of 1024, which live in one cluster slot each: keys of the same name in
// different shards are different Redis keys.
func (st *Stage) ShardKey(name string) string { return st.lease.id.ShardKey(name) }

// OutboundKey returns an idempotency key for a call to another service: the same for every run of
// this visit to the stage, on any machine, and another one when the stage is visited again. Calls
// to different operations from one stage need different names; an empty one is a name, too. It has
// the form of a UUID.
//
// What a key that is used again gets depends on how its record came to an end:
//
//   - Redis lost it, or its retention is over: the same outbound keys. The work may have been
//     done, and the other service recognises the repetition.
//   - [Scope.Delete] removed it: new ones, for Config.Retention from then on and as long as the
//     records made within that time exist. What an earlier record has called for, and may have
//     called off, is not replayed. When Redis loses the tombstone that the delete has left, or a
//     record made in its place, they are those of the first record again.
//
// A record that is made anew also has others when the first of Config.FingerprintKeys is another
// one by then.
func (st *Stage) OutboundKey(name string) string {
	return st.outboundKey(st.key.RecoveryPoint, st.key.Revision, name)
}

// CommittedKey returns the key that OutboundKey gave to the run behind a journal entry: for a
// compensation, to call off what that run has called for.
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

// stage returns the view of the stage that the lease stands at.
func (l *Lease) stage() *Stage {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &Stage{lease: l, key: l.key, attempt: l.attempt}
}
