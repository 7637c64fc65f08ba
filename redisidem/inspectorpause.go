package redisidem

import (
	"context"
	"regexp"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// The acts on flows, as the audit has them.
const (
	actPause        = "pause"
	actPauseClients = "pause with clients"
	actResume       = "resume"
)

// pausable is what can be paused.
var pausable = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}(/[1-9]\d{0,9})?$`)

// Pause pauses a flow in all processes: all its versions by the flow's name, or one version by
// name/version. It takes one round trip, is written into the audit in the same step, and lasts
// until [Inspector.Resume]. A flow that is paused already gets the new reason and the new value of
// clients. There can be 64 pauses.
//
// A [Completer] begins no run of a paused flow from its next turn on, which comes within 1¼ times
// its Interval. A run that has begun goes on to its end, through all stages. Keys that wait cost no
// attempt, do not become dead letters by waiting, and are kept from expiring as long as a completer
// of the flow runs. With clients, calls of [Scope.DoFlow] and [Scope.WorkFlow] return a
// [*PausedError] within a second if the flow has FlowConfig.Pausable. Finished keys are still
// answered.
//
// The pause is in Redis and is lost if Redis loses its data. It does not wait for replicas.
// Processes with an older version of this library do not know of pauses, and can remove them.
//
// It returns [ErrInvalid] for a name that no flow can have, for an act without actor or reason, and
// for one pause too many. It also returns [ErrDamaged], [ErrUnavailable], [ErrNotPermitted] and
// [ErrClosed].
func (in *Inspector) Pause(ctx context.Context, flow string, clients bool, a Act) error {
	what := actPause
	if clients {
		what = actPauseClients
	}
	r, err := in.actOnFlow(ctx, flow, a, what, func(audit *protocol.Audit) protocol.Call {
		return in.service.redis.NewPause(flow, clients, audit)
	})
	switch {
	case err != nil:
		return err
	case r.Status == protocol.StatusFull:
		return invalid("flow", "cannot be paused: there are %d pauses, which is the most", protocol.MaxPauses)
	case r.Status != protocol.StatusOK:
		return r.Unexpected()
	}
	return nil
}

// Resume ends a pause, given as it was made: by the flow's name or by name/version. Completers are
// woken. They continue a key within about two of their Intervals; a key that one of them met while
// its version was paused follows within a lease. It takes one round trip and is written into the
// audit.
//
// It returns [ErrNotPaused] if there is no such pause, and the errors of [Inspector.Pause].
func (in *Inspector) Resume(ctx context.Context, flow string, a Act) error {
	r, err := in.actOnFlow(ctx, flow, a, actResume, func(audit *protocol.Audit) protocol.Call {
		return in.service.redis.NewResume(flow, audit)
	})
	switch {
	case err != nil:
		return err
	case r.Status == protocol.StatusGone:
		return ErrNotPaused
	case r.Status != protocol.StatusOK:
		return r.Unexpected()
	}
	return nil
}

// actOnFlow checks an act and runs it.
func (in *Inspector) actOnFlow(
	ctx context.Context, flow string, a Act, what string, call func(*protocol.Audit) protocol.Call,
) (protocol.Reply, error) {
	if !pausable.MatchString(flow) {
		return protocol.Reply{}, invalid("flow", "must be the name of a flow, or name/version: %q", flow)
	}
	audit, err := a.audit(what)
	if err != nil {
		return protocol.Reply{}, err
	}
	return in.service.ask(ctx, what, call(audit))
}

// Pauses returns the pauses that are in force, in the order in which they were made. It takes one
// round trip. It returns [ErrDamaged], [ErrUnavailable] and [ErrClosed].
func (in *Inspector) Pauses(ctx context.Context) ([]Pause, error) {
	s := in.service
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.inFlight.leave()
	bounded, cancel := s.bounded(ctx)
	defer cancel()
	read, err := s.redis.Pauses(bounded)
	if err = explain(ctx, "pauses", err); err != nil {
		return nil, err
	}
	all := make([]Pause, 0, len(read))
	for _, p := range read {
		all = append(all, Pause(p))
	}
	return all, nil
}
