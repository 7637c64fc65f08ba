package redisidem

import (
	"context"
	"time"
)

// Observer is told what happens to keys: the hook for metrics, traces and logs. It is called in the
// caller's goroutine, concurrently from many, so it must be quick and must not call back into the
// service.
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
	// EventRefused: a caller was turned away. Err says why: ErrLocked, ErrFingerprintMismatch and
	// the like.
	EventRefused
	// EventRenewed: a lease got its full length again. Duration is that of the round trip.
	EventRenewed
	// EventLeaseLost: a lease is gone; Err is the cause its context was cancelled with, or
	// ErrFenced when a commit was refused.
	EventLeaseLost
	// EventOutcomeUnknown: nobody knows whether a commit was stored. Err says why. Committed or
	// Lost follows, if it becomes known.
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

// Event is what an [Observer] is told. No field holds a key's text, a scope or a body.
type Event struct {
	// Kind says what happened.
	Kind EventKind
	// Key is the key's ID, a digest. Never make it a metric's label: there is one for each key.
	Key string
	// RecoveryPoint is where the key stands after the event, and Revision how many commits it has.
	RecoveryPoint string
	Revision      int64
	// Fence is the lease's number and Attempt tells which run of this stage it is, if a lease is
	// concerned.
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
