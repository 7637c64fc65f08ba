package redisidem

import (
	"context"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Delete removes a key whose lease is free, for instance because stored data must be erased. The
// next request with its value runs the work again. Other processes drop their copies
// (Config.CacheBytes) at once, or within Config.CacheLife if the notification is lost. It takes one
// round trip.
//
// The key must be as the caller has read it: [ErrStale] means that the record has advanced since. A
// key that has only Value and Scope is removed whatever its record holds, even if that is damaged.
// A missing record is not an error, so a delete can be repeated.
//
// Delete does not undo anything. It removes a flow's key whatever the flow has committed, without
// asking for [Outcome.Undo] or [Outcome.Leave], and no completer finds the key again. To undo the
// flow's work, first end the key with [Scope.Update] and [Outcome.Undo]. Delete it when it is
// finished.
//
// A tombstone takes the record's place for Config.Retention. It is a counter under the digest of
// scope and value. It takes about 200 bytes, and contains nothing of the request or the response.
// Records made within that time have new outbound keys ([Stage.OutboundKey]), so that other
// services do not replay their answers to the deleted record's calls. A record that Redis lost is
// made again with the same outbound keys.
//
// It returns [ErrLocked] while a worker has the lease, [ErrInvalid], [ErrDamaged] and
// [ErrUnavailable]. A try without an answer may reach the server after the call has returned. It
// then removes the key only if the record is still as the caller has read it and its lease is free.
func (sc *Scope) Delete(ctx context.Context, key *Key) error {
	id, err := sc.identityOf(key)
	if err != nil {
		return err
	}
	return sc.service.delete(ctx, id, key.asSeen(), key.Flow, nil)
}

// delete removes a key. The audit is nil for a program's own call.
func (s *Service) delete(ctx context.Context, id identity, seen protocol.Seen, flow string, audit *protocol.Audit) error {
	r, err := s.ask(ctx, "delete", s.redis.NewDelete(id, seen, flow).Audited(id, audit))
	if err != nil {
		return err
	}
	if r.Status != protocol.StatusOK && r.Status != protocol.StatusGone {
		return s.refusal(id, r)
	}
	if s.cache != nil {
		s.cache.forget(id.Record)
	}
	return nil
}
