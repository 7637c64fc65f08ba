package redisidem

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Retrieve returns the key as it stands. One round trip. It asks the master, but unlike the calls that write, its answer
// may be lost again in a failover whatever Config.Durability says.
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
	pairs, err := s.fields(ctx, id)
	if err != nil {
		return nil, err
	}
	return decodeRecord(id, s.valueCodec, pairs)
}

// retrievePlaced is retrieve for a record of which only the place is known.
func (s *Service) retrievePlaced(ctx context.Context, prefix, member string) (*Key, error) {
	id, ok := placed(prefix, member)
	if !ok {
		return nil, damaged("%q is no key's digest", member)
	}
	pairs, err := s.fields(ctx, id)
	if err != nil {
		return nil, err
	}
	if id, err = adopt(id, pairs, s.cfg.Namespace); err != nil {
		return nil, err
	}
	return decodeRecord(id, s.valueCodec, pairs)
}

// fields reads a record as field, value, ...
func (s *Service) fields(ctx context.Context, id identity) ([]string, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.life.leave()
	bounded, cancel := s.bounded(ctx)
	defer cancel()

	var pairs []string
	err := repeat(bounded, func(ctx context.Context) error {
		// A map would lose nothing, but the scripts' replies are lists, and one decoder is enough.
		cmd := redis.NewMapStringStringCmd(ctx, "hgetall", id.record)
		if _, err := s.send(ctx, false, id.record, []redis.Cmder{cmd}); err != nil {
			return err
		}
		pairs = pairs[:0]
		for field, value := range cmd.Val() {
			pairs = append(pairs, field, value)
		}
		return nil
	})
	if err = explain(ctx, "retrieve", wrongType(err)); err != nil {
		return nil, err
	}
	if len(pairs) == 0 || isTombstone(pairs) {
		return nil, ErrNotFound
	}
	return pairs, nil
}
