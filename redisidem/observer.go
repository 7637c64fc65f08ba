package redisidem

import (
	"context"
	"time"
)

// Observer receives an event for each change of a key: the hook for metrics, traces and logs. It is
// called in the caller's goroutine, concurrently from many, so it must be quick and must not call
// back into the service.
type Observer interface {
	Observe(ctx context.Context, e Event)
}

// EventKind says what happened.
type EventKind int

// What can happen to a key.
const (
	// EventClaimed: a lease was given. Duration is how long the caller waited for it.
	EventClaimed EventKind = iota + 1
	// EventCommitted: a result was stored. Duration is from the claim, or the kept commit before,
	// to the commit. Err is a NotKeptError if the work was done and its result could not be stored.
	EventCommitted
	// EventReplayed: a caller got the answer of an earlier call.
	EventReplayed
	// EventRefused: a call was refused. Err says why: ErrLocked, ErrFingerprintMismatch and others.
	EventRefused
	// EventRenewed: a lease got its full length again. Duration is that of the round trip.
	EventRenewed
	// EventLeaseLost: a lease is lost. Err is the cause of its cancelled context, or ErrFenced when
	// a commit was refused.
	EventLeaseLost
	// EventOutcomeUnknown: the outcome of a commit is unknown. Err says why. EventCommitted or
	// EventLeaseLost follows if it becomes known.
	EventOutcomeUnknown
	// EventAbandoned: a stage ended without a result. Duration is from the claim; Err is the
	// callback's error, nil after a panic.
	EventAbandoned
	// EventDeadLettered: a Completer gave a key up as a dead letter. Err says why.
	EventDeadLettered
)

// String returns the kind in lower case.
func (k EventKind) String() string {
	names := [...]string{
		EventClaimed: "claimed", EventCommitted: "committed", EventReplayed: "replayed", EventRefused: "refused",
		EventRenewed: "renewed", EventLeaseLost: "lease-lost", EventOutcomeUnknown: "outcome-unknown", EventAbandoned: "abandoned",
		EventDeadLettered: "dead-lettered",
	}
	if k <= 0 || int(k) >= len(names) {
		return "invalid"
	}
	return names[k]
}

// Event is one change of a key. No field holds a key's text, a scope or a body.
type Event struct {
	// Kind says what happened.
	Kind EventKind
	// Key is the key's ID, a digest. Never make it a metric's label: there is one for each key.
	Key string
	// RecoveryPoint is where the key stands after the event, and Revision how many commits it has.
	RecoveryPoint string
	Revision      int64
	// Fence is the lease's number, and Attempt the number of this run of the stage. Both are 0 for
	// an event without a lease.
	Fence   int64
	Attempt int
	// Duration is explained with each kind.
	Duration time.Duration
	// Err is explained with each kind. An application's error texts are its own: mind what they
	// hold before logging.
	Err error
}

func (s *Service) observe(ctx context.Context, e Event) {
	if s.cfg.Observer != nil {
		s.cfg.Observer.Observe(ctx, e)
	}
}
