package redisidem

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/uuid"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// OutboundKey returns an idempotency key for a call to another service, in the form of a UUID. It
// is the same for every run of this visit to the stage, on any machine. A later visit to the stage
// has another one. Calls to different operations in one stage need different names; an empty name
// is allowed.
//
// If a key is used again after its record has ended, its outbound keys depend on how the record
// ended:
//
//   - If Redis lost the record, or its retention is over, the outbound keys are the same. The work
//     may have been done, and the other service recognises the repetition. This does not hold
//     behind interim answers and the adoption by another version of the flow: each one is a
//     visit, and there may be another number of them.
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
	if generation := st.key.rareFields().generation; generation > 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(generation)) //nolint:gosec // it is counted from 0
	}
	sum := sha256.Sum256(b)
	u := uuid.UUID(sum[:16])
	u[6] = u[6]&0x0f | 0x80 // version 8: a form of one's own (RFC 9562, section 5.8)
	u[8] = u[8]&0x3f | 0x80
	return u.String()
}
