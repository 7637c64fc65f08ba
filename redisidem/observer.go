package redisidem

import (
	"context"
	"time"
)

// Observer receives an event for each change of a key, for metrics, traces and logs. The service
// calls it synchronously and concurrently from many goroutines. It must be quick and must not call
// back into the service. If it panics, the service logs the panic with Config.Logger and goes on as
// if it had returned: a defect in metrics must not end a program or a lease. [Tracer] extends it
// with spans, [Observers] joins several, and [LogObserver] writes events with slog.
type Observer interface {
	Observe(ctx context.Context, e Event)
}

// EventKind is the kind of an [Event].
type EventKind int

// The kinds of events.
const (
	// EventClaimed means that a lease was granted. Duration is how long the caller waited for it.
	EventClaimed EventKind = iota + 1
	// EventCommitted means that a result was stored. Duration is the time from the claim, or from
	// the previous commit under the same lease. Err is a NotKeptError if the work was done but its
	// result could not be stored.
	EventCommitted
	// EventReplayed means that a caller got the answer of an earlier call.
	EventReplayed
	// EventRefused means that a call was refused. Err is the reason, such as ErrLocked or
	// ErrFingerprintMismatch.
	EventRefused
	// EventRenewed means that a lease got its full length again. Duration is that of the round
	// trip.
	EventRenewed
	// EventLeaseLost means that a lease was lost. Err is the cause of its cancelled context, or
	// ErrFenced if a commit was refused.
	EventLeaseLost
	// EventOutcomeUnknown means that the outcome of a commit is unknown. Err is the reason.
	// EventCommitted follows if the background retries find that it is stored, and
	// EventCommitDropped if they end otherwise.
	EventOutcomeUnknown
	// EventAbandoned means that a stage ended without a result. Duration is the time from the
	// claim. Err is the callback's error, or nil after a panic.
	EventAbandoned
	// EventDeadLettered means that a Completer made a key a dead letter. Err is the reason.
	EventDeadLettered
	// EventCommitDropped means that a commit without an answer was given up: it was refused, or its
	// fate is still unknown and it is not repeated any more. Err is the reason. If it is
	// ErrOutcomeUnknown, the result may be stored, and a retry of the request finds out.
	EventCommitDropped
	// EventFailed means that a flow was failed, or moved to its last stage, and not by the outcome
	// of a stage. It follows EventCommitted. Stage is where that happened. Err is the cause, and
	// matches ErrDeadline, ErrCanceled or ErrExhausted. The compensations follow.
	EventFailed
	// EventHung means that a stage still runs one Lease after its context has ended, because its
	// Timeout or MaxHold was over or its lease was lost. A program must end a stage with its
	// context. Duration is the time since the stage began. Err is the reason.
	EventHung
)

// String returns the kind in lower case, or "invalid" for any other value.
func (k EventKind) String() string {
	names := [...]string{
		EventClaimed: "claimed", EventCommitted: "committed", EventReplayed: "replayed", EventRefused: "refused",
		EventRenewed: "renewed", EventLeaseLost: "lease-lost", EventOutcomeUnknown: "outcome-unknown", EventAbandoned: "abandoned",
		EventDeadLettered: "dead-lettered", EventCommitDropped: "commit-dropped", EventFailed: "failed", EventHung: "hung",
	}
	if k <= 0 || int(k) >= len(names) {
		return "invalid"
	}
	return names[k]
}

// Event is one change of a key. Its fields never contain a key's text or a body.
type Event struct {
	// Kind is the kind of the event.
	Kind EventKind
	// Key is the key's ID, a digest. Never use it as a metric's label: each key has another one.
	Key string
	// Flow is the flow that works on the key, as name/version; empty without one. Of a refusal it
	// is the flow that was to work on the key.
	Flow string
	// Scope is the key's scope, of EventDeadLettered, EventFailed and EventHung, and empty
	// otherwise: an alert needs to know whose key it is. It may name a customer, and there may be
	// many of them.
	Scope string
	// Stage is the recovery point at which the work began that the event is about. It is empty for
	// an event without a lease.
	Stage string
	// RecoveryPoint is the key's recovery point after the event. Revision is the number of its
	// commits.
	RecoveryPoint string
	Revision      int64
	// Fence is the lease's number, and Attempt the number of this run of the stage. Both are 0 for
	// an event without a lease.
	Fence   int64
	Attempt int
	// FromCopy reports that EventReplayed is a replay from a copy in this process, for which Redis
	// was not asked: see Config.CacheBytes.
	FromCopy bool
	// Duration is described at the kinds that define it.
	Duration time.Duration
	// Err is described at the kinds that define it. It may contain the application's own error
	// text: check that before you log it. [Reason] turns it into a word for metrics.
	Err error
}

func (s *Service) observe(ctx context.Context, e Event) {
	if s.cfg.Observer == nil {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			s.logPanic(ctx, v, "event", e.Kind.String())
		}
	}()
	s.cfg.Observer.Observe(ctx, e)
}
