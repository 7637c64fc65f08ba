package redisidem

import (
	"context"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Scope gives access to the keys of one tenant, user or API client. Two scopes never share a
// record. Make one with [Service.Scope], which is cheap. It is immutable and safe for concurrent
// use.
type Scope struct {
	service *Service
	name    string
	wait    time.Duration
}

// Scope returns the scope with that name. Take the name from the authenticated caller, never from
// the request: a client that can choose it can read the responses of others. It sends nothing. If
// the name is empty or longer than Config.MaxKeyBytes, every method of the scope that needs it
// returns an [*InvalidError].
func (s *Service) Scope(name string) *Scope {
	return &Scope{service: s, name: name, wait: s.cfg.Wait}
}

// Wait returns a scope whose calls wait up to budget for a key that another worker has, in place of
// Config.Wait. With a zero or negative budget they return a [*LockedError] at once.
func (sc *Scope) Wait(budget time.Duration) *Scope {
	view := *sc
	view.wait = budget
	return &view
}

// Name returns the scope's name.
func (sc *Scope) Name() string { return sc.name }

// ID returns the name of a key in events, logs and Redis: a digest of scope and value. The key need
// not exist, and any value is accepted. It sends nothing.
func (sc *Scope) ID(value string) string {
	return protocol.Identify(sc.service.cfg.Namespace, sc.name, value, protocol.DigestOf(sc.name, value)).Digest
}

// identify checks a key's text and returns the place of its record. A key is any 1 to
// Config.MaxKeyBytes bytes, compared byte by byte, without case folding or trimming. Invalid UTF-8,
// braces, colons, NUL and line breaks are allowed, because only a digest reaches Redis's key space.
func (sc *Scope) identify(value string) (identity, error) {
	if err := sc.validate(value); err != nil {
		return identity{}, err
	}
	return protocol.Identify(sc.service.cfg.Namespace, sc.name, value, protocol.DigestOf(sc.name, value)), nil
}

func (sc *Scope) validate(value string) error {
	limit := sc.service.cfg.MaxKeyBytes
	switch {
	case sc.name == "":
		return invalid("scope", "must not be empty")
	case len(sc.name) > limit:
		return invalid("scope", "is %d bytes long, more than MaxKeyBytes (%d)", len(sc.name), limit)
	case value == "":
		return invalid("key", "must not be empty")
	case len(value) > limit:
		return invalid("key", "is %d bytes long, more than MaxKeyBytes (%d)", len(value), limit)
	}
	return nil
}

// cached looks for the answer to a request among the copies of finished records. Without one, it
// returns the key's identity and the encoded request, for a request to Redis.
func (sc *Scope) cached(ctx context.Context, value string, req Request) (*Key, identity, encodedRequest, error) {
	s := sc.service
	if err := sc.validate(value); err != nil {
		return nil, identity{}, encodedRequest{}, err
	}
	encoded, err := req.encode(s.cfg.MaxValueBytes, s.cfg.FingerprintKeys.primary())
	if err != nil {
		return nil, identity{}, encodedRequest{}, err
	}
	sum := protocol.DigestOf(sc.name, value)
	if s.cache != nil {
		if key := s.cache.get(protocol.Name(sum[:len(protocol.Name{})]), sc.name, value, &encoded.print); key != nil {
			if s.cfg.Observer != nil {
				s.observe(ctx, Event{Kind: EventReplayed, Key: key.ID(), Revision: key.Revision, RecoveryPoint: Finished})
			}
			return key, identity{}, encodedRequest{}, nil
		}
	}
	id := protocol.Identify(s.cfg.Namespace, sc.name, value, sum)
	if s.cfg.FingerprintKeys.older() == nil {
		encoded.given = nil
	}
	err = encoded.keep(s.valueCodec, id)
	return nil, id, encoded, err
}

// ask runs a script for a caller. Config.Timeout bounds it, it is refused after Close, and it
// returns the errors of the public API.
func (s *Service) ask(ctx context.Context, op string, c protocol.Call) (protocol.Reply, error) {
	if err := s.enter(ctx); err != nil {
		return protocol.Reply{}, err
	}
	defer s.inFlight.leave()
	bounded, cancel := s.bounded(ctx)
	defer cancel()
	r, err := s.redis.Run(bounded, c)
	return r, explain(ctx, op, err)
}

// own checks that a key is of this scope and returns its identity.
func (sc *Scope) own(key *Key) (identity, error) {
	if key == nil {
		return identity{}, invalid("key", "must not be nil")
	}
	if key.Scope != sc.name {
		return identity{}, invalid("key", "is of another scope")
	}
	return sc.identify(key.Value)
}
