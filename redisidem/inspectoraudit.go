package redisidem

import (
	"context"
	"slices"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// AuditEntry is what one act did.
type AuditEntry struct {
	// At is the server's time.
	At time.Time
	// Act is what was to be done: "unlock", "requeue", "resolve", "delete", "read", "pause",
	// "pause with clients" or "resume". That of a purge has more words behind "purge: ".
	Act string
	// KeyID is the ID of the key. For a purge it is the ID of the scope's purges: see
	// [Inspector.Purge]. For a pause or a resume it is the flow, as name or name/version.
	KeyID string
	// Actor and Reason are those of the [Act].
	Actor, Reason string
	// Outcome is "done", or why the act was refused: "not found", "finished", "locked", "stale",
	// "damaged", "not dead" and "too many".
	Outcome string
}

// OfFlow reports whether the act was on a flow, so that KeyID is no key's ID.
func (e AuditEntry) OfFlow() bool {
	return e.Act == actPause || e.Act == actPauseClients || e.Act == actResume
}

// outcomes are the words for the replies of the scripts of acts.
var outcomes = map[protocol.Status]string{
	protocol.StatusOK: "done", protocol.StatusGone: "not found", protocol.StatusDone: "finished", protocol.StatusBusy: "locked",
	protocol.StatusMoved: "stale", protocol.StatusOther: "stale", protocol.StatusDamaged: "damaged", protocol.StatusAlive: "not dead",
	protocol.StatusFull: "too many",
}

// Audit returns the entries of acts between two times of the server, both inclusive and to the
// millisecond, in the order of time. The zero time is no bound. Each of the 1024 shards keeps about
// 256 entries, and no shard keeps any for longer than 400 days after its last. All entries are in
// memory at once. It takes a few round trips; in a cluster it is a command for each shard.
//
// It returns [ErrUnavailable], [ErrClosed] and, if something else has the Redis key of a shard's
// audit, [ErrDamaged].
func (in *Inspector) Audit(ctx context.Context, from, to time.Time) ([]AuditEntry, error) {
	s := in.service
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.inFlight.leave()
	read, err := s.redis.AuditEntries(ctx, from, to)
	if err = explain(ctx, "audit", err); err != nil {
		return nil, err
	}
	entries := make([]AuditEntry, 0, len(read))
	for _, e := range read {
		outcome, known := outcomes[e.Status]
		if !known {
			outcome = string(e.Status)
		}
		entries = append(entries, AuditEntry{e.At, e.Act, e.Digest, e.Actor, e.Reason, outcome})
	}
	slices.SortStableFunc(entries, func(a, b AuditEntry) int { return a.At.Compare(b.At) })
	return entries, nil
}
