package redisidem

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// AuditEntry is what one act did.
type AuditEntry struct {
	// At is the server's time.
	At time.Time
	// Act is what was to be done: "unlock", "cancel", "requeue", "resolve", "delete", "read",
	// "pause", "pause with clients" or "resume". That of a purge or a reindex has more words behind
	// "purge: " or "reindex: ".
	Act string
	// KeyID is the ID of the key. That of a purge stands for the scope, and that of a reindex for
	// the flow: see [Inspector.Purge] and [Inspector.Reindex]. For a pause or a resume it is the
	// flow, as name or name/version.
	KeyID string
	// Actor and Reason are those of the [Act].
	Actor, Reason string
	// Outcome is "done", or why the act was refused: "not found", "finished", "locked", "not
	// locked", "stale", "damaged", "not dead", "too late" and "too many".
	Outcome string
}

// OfFlow reports whether the act was on a flow. KeyID is then the flow, and not the ID of a key.
func (e AuditEntry) OfFlow() bool {
	return e.Act == actPause || e.Act == actPauseClients || e.Act == actResume
}

// outcomes are the words for the replies of the scripts of acts.
var outcomes = map[protocol.Status]string{
	protocol.StatusOK: "done", protocol.StatusGone: "not found", protocol.StatusDone: "finished", protocol.StatusBusy: "locked",
	protocol.StatusMoved: "stale", protocol.StatusOther: "stale", protocol.StatusDamaged: "damaged", protocol.StatusAlive: "not dead",
	protocol.StatusFree: "not locked", protocol.StatusLate: "too late", protocol.StatusFull: "too many",
}

// Audit returns the entries of acts between two times of the server, both inclusive and to the
// millisecond, in the order of time. The zero time is no bound. Each of the 1024 shards keeps about
// 256 entries, and no shard keeps any for longer than 400 days after its last. All entries are in
// memory at once. It takes a few round trips; in a cluster it is a command for each shard.
//
// It returns [ErrUnavailable] and [ErrClosed]. If something else has the Redis key of a shard's
// audit, it returns [ErrDamaged] with the name of that Redis key, and the entries of all others.
func (in *Inspector) Audit(ctx context.Context, from, to time.Time) ([]AuditEntry, error) {
	s := in.service
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.inFlight.leave()
	read, err := s.redis.AuditEntries(ctx, from, to)
	if err = explain(ctx, "audit", err); err != nil && !errors.Is(err, ErrDamaged) {
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
	return entries, err
}

// errLeft reports that the caller has left the loop over an act on many keys.
var errLeft = errors.New("redisidem: the loop was left")

// goOn returns errLeft if the caller has left the loop.
func goOn(on bool) error {
	if !on {
		return errLeft
	}
	return nil
}

// recordMany runs an act on many keys. It writes an entry into the audit before it, and one after
// it with the counts that it returns. The act can write others about its progress. All are under
// the ID of the key with this scope and value, which stands for all of them.
func (in *Inspector) recordMany(
	ctx context.Context, what, scope, value string, a Act, run func(progress func(text string) error) (counts string, err error),
) error {
	audit, err := a.audit(what)
	if err != nil {
		return err
	}
	s := in.service
	id := protocol.Identify(s.cfg.Namespace, scope, value, protocol.DigestOf(scope, value))
	record := func(ctx context.Context, text string) error {
		audit.Act = what + ": " + text
		_, err := s.ask(ctx, "audit", s.redis.NewAudit(id, audit))
		return err
	}
	if err := record(ctx, "began"); err != nil {
		return err
	}
	counts, err := run(func(text string) error { return record(ctx, text) })
	how := "ended"
	if err != nil {
		how = "stopped"
	}
	// The act is over although its caller may have left.
	return errors.Join(err, record(context.WithoutCancel(ctx), how+", "+counts))
}
