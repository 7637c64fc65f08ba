package redisidem

import (
	"context"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Retrieve returns the key as it stands. One round trip. It asks the master, but unlike the calls
// that write, its answer may be lost again in a failover whatever Config.Durability says.
//
// It returns [ErrNotFound], [ErrInvalid], [ErrDamaged] and [ErrUnavailable].
func (sc *Scope) Retrieve(ctx context.Context, value string) (*Key, error) {
	id, err := sc.identify(value)
	if err != nil {
		return nil, err
	}
	return sc.service.retrieve(ctx, id)
}

func (s *Service) retrieve(ctx context.Context, id identity) (*Key, error) {
	pairs, locked, err := s.fields(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.decodeRead(id, pairs, locked)
}

// decodeRead decodes a record that was read with its lock.
func (s *Service) decodeRead(id identity, pairs []string, locked bool) (*Key, error) {
	key, err := decodeRecord(id, s.valueCodec, pairs)
	if err == nil && locked {
		rare := key.rareFields()
		key.LockedAt, key.LockedBy = rare.leasedAt, rare.leasedBy
	}
	return key, err
}

// retrievePlaced is retrieve for a record of which only the place is known.
func (s *Service) retrievePlaced(ctx context.Context, prefix, member string) (*Key, error) {
	id, ok := protocol.IdentityIn(prefix, member)
	if !ok {
		return nil, damaged("%q is not the digest of a key", member)
	}
	pairs, locked, err := s.fields(ctx, id)
	if err != nil {
		return nil, err
	}
	if id, err = adopt(id, pairs, s.cfg.Namespace); err != nil {
		return nil, err
	}
	return s.decodeRead(id, pairs, locked)
}

// fields reads a record as field, value, ..., and whether a worker has its lock.
func (s *Service) fields(ctx context.Context, id identity) (pairs []string, locked bool, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, false, err
	}
	defer s.inFlight.leave()
	bounded, cancel := s.bounded(ctx)
	defer cancel()

	pairs, locked, err = s.redis.Record(bounded, id)
	if err = explain(ctx, "retrieve", err); err != nil {
		return nil, false, err
	}
	if len(pairs) == 0 || isTombstone(pairs) {
		return nil, false, ErrNotFound
	}
	return pairs, locked, nil
}

// adopt completes the identity of a record of which only the place was known.
func adopt(id identity, pairs []string, namespace string) (identity, error) {
	var r protocol.Request
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i] == fieldRequest {
			r, _ = protocol.ParseRequest(pairs[i+1])
		}
	}
	full := protocol.Identify(namespace, r.Scope, r.Value, protocol.DigestOf(r.Scope, r.Value))
	if full.Record != id.Record {
		return id, damaged("the record is another key's")
	}
	return full, nil
}
