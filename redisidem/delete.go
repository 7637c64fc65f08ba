package redisidem

import (
	"context"

	"github.com/redisidem/redisidem/lua"
)

// Delete removes a key whose lease is free, for instance because stored data must be erased. The
// next request with its value runs the work again. Other processes drop their copies
// (Config.CacheBytes) at once, or within Config.CacheLife if the notification is lost. One round
// trip.
//
// The key is the one that the caller has read: [ErrStale] means that the record has advanced since.
// A key that has only Value and Scope is removed whatever its record holds, even if that is
// damaged. A record that does not exist is not an error, because a repeated delete finds none.
//
// Delete undoes nothing. It removes a flow's key whatever the flow has committed, does not ask for
// [Outcome.Undo] or [Outcome.Leave], and no completer sees the key again. To undo the flow's work,
// end the key with [Scope.Update] and [Outcome.Undo] first, and delete it when it is finished.
//
// A tombstone takes the record's place for Config.Retention. It is a counter under the digest of
// scope and value, takes about 200 bytes, and holds nothing of the request or the response. Records
// that are made within that time have new outbound keys ([Stage.OutboundKey]), so that no other
// service replays what it did for the deleted one. A record that Redis lost is made again with the
// same outbound keys.
//
// It returns [ErrLocked] while a worker has the lease, [ErrInvalid], [ErrDamaged] and
// [ErrUnavailable]. A request without an answer may reach the server after the call has returned.
// It then removes the key only if the record is still as the caller has read it and its lease is
// free.
func (sc *Scope) Delete(ctx context.Context, key *Key) error {
	id, err := sc.own(key)
	if err != nil {
		return err
	}
	s := sc.service
	c := newCall(lua.Delete, newToken(), 4, append([]string{id.record, id.lock}, id.indexes(key.Flow)...)...)
	c.add(seenRevision(key), created(key), s.deletions, s.retention)
	r, err := s.ask(ctx, "delete", c)
	if err != nil {
		return err
	}
	if r.status != statusOK && r.status != statusGone {
		return r.refusal(lua.Delete)
	}
	if s.cache != nil {
		s.cache.forget(id.record)
	}
	return nil
}

// seenRevision tells how far the record was that the caller has read. Empty for a key that was not read.
func seenRevision(key *Key) any {
	if key.CreatedAt.IsZero() {
		return ""
	}
	return key.Revision
}

// created tells which record of its name the caller has read: it may have been deleted and made again since. Empty for a key
// that was not read.
func created(key *Key) any {
	if key.CreatedAt.IsZero() {
		return ""
	}
	return key.CreatedAt.UnixMicro()
}
