package redisidem

import (
	"context"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Cancel stops the flow of a key, for instance because a customer withdraws. The committed stages
// are compensated, and the key finishes with the answer of [FlowConfig].FailWith, whose cause is
// [ErrCanceled]. A call with the key does that, or a [Completer] if the flow has a RecoverAfter: at
// once if the key is free. If a worker has the lease, its context is cancelled within a renewal, a
// third of Config.Lease, with ErrCanceled as the cause, and its commit is refused. A call can begin
// the compensations when the stage has returned, and a completer when its lease would have lapsed.
//
// If a worker's stage has a Reconcile, and that finds the work done, the outcome is committed after
// all, and undone like those before it. If that commit is the point of no return, or finishes the
// key, the flow goes on as if it had not been canceled.
//
// Cancel does not wait for that. It can be repeated: a key that is canceled stays canceled. It
// takes two round trips, and another one to wake completers.
//
// It returns [ErrTooLate] and changes nothing if the key is finished, its flow has failed already,
// or it is behind the flow's point of no return ([FlowStage].NoReturn). It returns [ErrNotFound],
// and [ErrInvalid] for a key that belongs to no flow: [Scope.Update] gives such a key an answer. It
// also returns [ErrDamaged] and [ErrUnavailable]; after ErrUnavailable a try may still arrive.
func (sc *Scope) Cancel(ctx context.Context, value string) error {
	id, err := sc.identify(value)
	if err != nil {
		return err
	}
	return sc.service.cancel(ctx, id, protocol.Seen{}, "", nil)
}

// cancel cancels a key of the flow, as name/version; "" if the flow is unknown. The audit is nil
// for a program's own call, which has seen nothing.
func (s *Service) cancel(ctx context.Context, id identity, seen protocol.Seen, flow string, audit *protocol.Audit) error {
	for range 3 { // the record may be another one the second time
		r, err := s.ask(ctx, "cancel", s.redis.NewCancel(id, seen, flow).Audited(id, audit))
		if err != nil {
			return err
		}
		switch r.Status {
		case protocol.StatusOK:
			if name := protocol.FlowName(flow); name != "" {
				s.wakeCompleters(context.WithoutCancel(ctx), name)
			}
			return nil
		case protocol.StatusDone, protocol.StatusLate:
			return ErrTooLate
		case protocol.StatusOther:
			stored, err := r.Text()
			if err == nil {
				err = checkFlow(stored)
			}
			switch {
			case err != nil:
				return err
			case stored == "":
				return invalid("key", "belongs to no flow")
			}
			flow = stored
		default:
			return s.refusal(id, r)
		}
	}
	return ErrStale
}
