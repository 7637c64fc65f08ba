package redisidem

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Scope is a Service's view for the keys of one tenant, user or API client: two scopes never share a record. It is cheap
// to make and safe for concurrent use.
type Scope struct {
	service *Service
	name    string
	wait    time.Duration
}

// Scope returns the view for the keys of the named tenant, user or API client. Take the name from the authenticated
// caller, never from the request: whoever can choose it can read another's responses. An empty or over-long name is
// refused by every method of the view with an [*InvalidError].
func (s *Service) Scope(name string) *Scope {
	return &Scope{service: s, name: name, wait: s.cfg.Wait}
}

// Wait returns a view whose calls wait up to budget for a key that another worker has, instead of what Config.Wait says.
// Zero and negative budgets refuse at once.
func (sc *Scope) Wait(budget time.Duration) *Scope {
	view := *sc
	view.wait = budget
	return &view
}

// Name returns the scope's name.
func (sc *Scope) Name() string { return sc.name }

// ID returns the name under which events, logs and Redis know the key of that value, whether or not there is one: a digest of
// scope and value. It sends nothing and refuses nothing.
func (sc *Scope) ID(value string) string {
	return protocol.Identify(sc.service.cfg.Namespace, sc.name, value, protocol.DigestOf(sc.name, value)).Digest
}

// identify checks a key's text and derives where its record is. A key is any 1 to Config.MaxKeyBytes bytes, compared
// byte by byte: no case folding, no trimming, and bytes that are no UTF-8, braces, colons, NUL or line breaks are bytes
// like any other, since only a digest of them reaches Redis's key space.
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

// cached looks for the answer to a request among the copies of finished records. When there is none, it returns where
// the key lives and what the request is, for those who ask Redis.
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

// createdKeyBytes is the length of the keys that Create makes.
const createdKeyBytes = 36

// Create makes a key with a fresh random value (a version 4 UUID) for a request that brought none, and returns it. One
// round trip.
//
// It returns [ErrInvalid] for a request that cannot be stored, and [ErrUnavailable].
func (sc *Scope) Create(ctx context.Context, req Request) (*Key, error) {
	value, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	return sc.InitializeRequest(ctx, value.String(), req)
}

// InitializeRequest returns the key that a request brought, which it makes when there is none yet. An empty value makes
// a fresh key, as [Scope.Create] does; its Value goes back to the client, but only one that the client chose itself
// protects it when the answer gets lost. One round trip.
//
// It returns [ErrFingerprintMismatch] when the key was first used with another request, [ErrInvalid], [ErrDamaged],
// [ErrUnavailable], and with Config.Durability [ErrNotDurable] together with the key.
func (sc *Scope) InitializeRequest(ctx context.Context, value string, req Request) (*Key, error) {
	if value == "" {
		return sc.Create(ctx, req)
	}
	key, id, encoded, err := sc.cached(ctx, value, req)
	if key != nil || err != nil {
		return key, err
	}
	key, err = sc.create(ctx, id, &encoded)
	for _, older := range sc.service.cfg.FingerprintKeys.older() {
		if !errors.Is(err, ErrFingerprintMismatch) {
			break
		}
		other, sealed := encoded.keyedWith(older, sc.service.valueCodec, id)
		if sealed != nil {
			return nil, sealed
		}
		key, err = sc.create(ctx, id, other)
	}
	return key, err
}

// create asks Redis for the key of a request.
func (sc *Scope) create(ctx context.Context, id identity, encoded *encodedRequest) (*Key, error) {
	s := sc.service
	sent := time.Now()
	r, err := s.ask(ctx, "initialize request", s.redis.NewCreate(id, encoded.fingerprint, encoded.record(), encoded.needsParams()))
	if err != nil {
		return nil, err
	}
	var key *Key
	switch r.Status {
	case protocol.StatusCreated:
		created, err := r.Created()
		if err != nil {
			return nil, fromProtocol(err)
		}
		return newKey(id, *encoded, created), s.settled(r)
	case protocol.StatusFound:
		key, err = s.found(id, encoded, r, sent)
	case protocol.StatusMismatch:
		return nil, ErrFingerprintMismatch
	default:
		return nil, r.Unexpected()
	}
	if key != nil && key.Finished() {
		s.observe(ctx, Event{Kind: EventReplayed, Key: id.Digest, Revision: key.Revision, RecoveryPoint: Finished})
	}
	return key, err
}

// found makes a key of a reply about a record that was there, which was asked for at sent by a request, or nil. It returns the
// key even when too few replicas are known to have it.
func (s *Service) found(id identity, request *encodedRequest, r protocol.Reply, sent time.Time) (*Key, error) {
	key, err := decodeRecord(id, s.valueCodec, r.Texts)
	if err != nil {
		return nil, err
	}
	if request != nil && request.bound {
		key.Params = request.params
		key.made = key.view()
	}
	if err := s.settled(r); err != nil {
		return key, err
	}
	if s.cache != nil && key.Finished() {
		life, expires, err := r.RecordLife()
		if err != nil {
			return nil, fromProtocol(err)
		}
		if !expires {
			life = s.cfg.Retention // somebody has taken the expiry
		}
		s.listener.listen()
		s.cache.put(id.Name, key, sent, life)
	}
	return key, nil
}

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

// ask runs a script for a caller: bounded by Config.Timeout, refused after Close, and with errors as callers know them.
func (s *Service) ask(ctx context.Context, op string, c protocol.Call) (protocol.Reply, error) {
	if err := s.enter(ctx); err != nil {
		return protocol.Reply{}, err
	}
	defer s.life.leave()
	bounded, cancel := s.bounded(ctx)
	defer cancel()
	r, err := s.redis.Run(bounded, c)
	return r, explain(ctx, op, err)
}
