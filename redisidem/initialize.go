package redisidem

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// createdKeyBytes is the length of the keys that Create makes: a UUID as text.
const createdKeyBytes = 36

// Create makes a key with a fresh random value, a version 4 UUID, for a request that brought no
// key. It takes one round trip.
//
// It returns [ErrInvalid] for a request that cannot be stored, and [ErrUnavailable]. With
// Config.Durability it returns [ErrNotDurable] together with the key.
func (sc *Scope) Create(ctx context.Context, req Request) (*Key, error) {
	value, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	return sc.InitializeRequest(ctx, value.String(), req)
}

// InitializeRequest returns the key that a request brought, and creates it if it does not exist. It
// takes one round trip, or none for a replay from a copy (Config.CacheBytes).
//
// An empty value makes a fresh key, as [Scope.Create] does. Send its Value back to the client. Such
// a key does not protect the client if this answer is lost; only a key of the client's own does.
//
// It returns [ErrFingerprintMismatch] if the key was first used with another request. It also
// returns [ErrInvalid], [ErrDamaged] and [ErrUnavailable]. With Config.Durability it returns
// [ErrNotDurable] together with the key.
func (sc *Scope) InitializeRequest(ctx context.Context, value string, req Request) (*Key, error) {
	if value == "" {
		return sc.Create(ctx, req)
	}
	key, id, encoded, err := sc.cached(ctx, value, req)
	if key != nil || err != nil {
		return key, err
	}
	key, err = sc.create(ctx, id, &encoded)
	err = sc.service.tryOlderFingerprints(&encoded, id, err, func(_ int, older *encodedRequest) (err error) {
		key, err = sc.create(ctx, id, older)
		return err
	})
	return key, err
}

// create asks Redis for the key of a request, which Redis creates if it does not exist.
func (sc *Scope) create(ctx context.Context, id identity, encoded *encodedRequest) (*Key, error) {
	s := sc.service
	sent := time.Now()
	record := encoded.record()
	record.Origin = s.origin(ctx)
	r, err := s.ask(ctx, "initialize request", s.redis.NewCreate(id, encoded.fingerprint, record, encoded.needsParams()))
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
		return newKey(id, *encoded, created), s.checkAcks(r)
	case protocol.StatusFound:
		key, err = s.found(id, encoded, r, sent)
	case protocol.StatusMismatch:
		return nil, ErrFingerprintMismatch
	default:
		return nil, r.Unexpected()
	}
	if key != nil && key.Finished() {
		s.observe(ctx, Event{Kind: EventReplayed, Key: id.Digest, Flow: key.Flow, Revision: key.Revision, RecoveryPoint: Finished})
	}
	return key, err
}

// found makes a key from a reply about an existing record. request is the request that asked for it
// at the time sent, or nil. It returns the key even if too few replicas are known to have it.
func (s *Service) found(id identity, request *encodedRequest, r protocol.Reply, sent time.Time) (*Key, error) {
	key, err := decodeRecord(id, s.valueCodec, r.Texts)
	if err != nil {
		return nil, err
	}
	if request != nil && request.bound {
		key.Params = request.params
		key.original = key.view()
	}
	if err := s.checkAcks(r); err != nil {
		return key, err
	}
	if s.cache != nil && key.Finished() {
		life, expires, err := r.RecordLife()
		if err != nil {
			return nil, fromProtocol(err)
		}
		if !expires {
			life = s.cfg.Retention // the record has lost its expiry
		}
		s.listener.listen()
		s.cache.put(id.Name, key, sent, life)
	}
	return key, nil
}
