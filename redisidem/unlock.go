package redisidem

import (
	"context"
	"errors"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Unlock takes the lease on a key away from its worker, as a last resort for a worker that hangs.
// Its commit will be refused with [ErrFenced], but what it does outside Redis goes on until it
// learns of the loss, and in a flow it may begin the callback that a deadline calls for: be sure
// that it is dead, or that a second run does no harm. For a finished key, and for one whose lease
// is free, it returns nil. One round trip.
//
// It returns [ErrNotFound], [ErrInvalid], [ErrDamaged] and [ErrUnavailable].
func (sc *Scope) Unlock(ctx context.Context, value string) error {
	id, err := sc.identify(value)
	if err != nil {
		return err
	}
	err = sc.service.unlock(ctx, id, "", nil)
	if errors.Is(err, ErrNotLocked) || errors.Is(err, ErrFinished) {
		return nil
	}
	return err
}

// unlock takes the lease on a key away: the one with that fence, or any for "". The audit is nil
// for a program's own call. It returns ErrNotLocked or ErrFinished if there was no lease.
func (s *Service) unlock(ctx context.Context, id identity, fence string, audit *protocol.Audit) error {
	r, err := s.ask(ctx, "unlock", s.redis.NewUnlock(id, fence).Audited(id, audit))
	if err != nil {
		return err
	}
	switch r.Status {
	case protocol.StatusOK:
		return nil
	case protocol.StatusFree:
		return ErrNotLocked
	default:
		return s.refusal(id, r)
	}
}
