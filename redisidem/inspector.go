package redisidem

import (
	"context"
	"fmt"
	"strings"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Inspector is the operator's view of all keys of a service: which are stuck, why, and what was
// done about them. Its reads change nothing, and a Redis user that may only read is enough for
// them. Its acts are written into an audit: see [Act]. It is safe for concurrent use.
//
// A key is named by its ID, as in events, logs and Redis, or by its scope and value. Bodies and
// other values are read by [Inspector.Get] and [Inspector.Find] only.
type Inspector struct{ service *Service }

// NewInspector makes an Inspector of a service's keys. It sends nothing.
func NewInspector(service *Service) *Inspector { return &Inspector{service} }

// Get returns the key with that value in a scope. It takes two round trips at most.
//
// It returns [ErrNotFound], [ErrInvalid], [ErrUnavailable] and [ErrClosed]. A record that cannot be
// read is not an error: see [KeyInfo].
func (in *Inspector) Get(ctx context.Context, scope, value string) (*KeyInfo, error) {
	id, err := in.service.Scope(scope).identify(value)
	if err != nil {
		return nil, err
	}
	return in.get(ctx, id)
}

// Find returns the key with that ID. The ID does not name the key's shard, so all 1024 are asked.
// One server needs two round trips if there is no such key, and else about 15. A cluster needs a
// command for each shard.
//
// It returns [ErrNotFound] if the namespace has no such key, [ErrInvalid] if the text is not an ID,
// [ErrUnavailable] and [ErrClosed].
func (in *Inspector) Find(ctx context.Context, id string) (*KeyInfo, error) {
	const length = len(protocol.Name{}) * 4 / 3 // in base64
	if _, ok := protocol.NameOf(id); !ok || len(id) != length {
		return nil, invalid("id", "must be a key's ID, which has %d characters: %q", length, id)
	}
	s := in.service
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	place, found, err := s.redis.Find(ctx, id)
	s.inFlight.leave()
	if err = explain(ctx, "find", err); err != nil {
		return nil, err
	}
	if !found {
		return nil, ErrNotFound
	}
	return in.get(ctx, place)
}

// Exist reports for each record whether Redis has it, in the order of the arguments. A record is
// named by its Redis key, [Key.Record]. A program that keeps data of its own for each key asks it
// before it removes old data. A deleted key has no record. It takes one round trip to each server.
//
// It returns [ErrInvalid] for a name that is not that of a record in the service's namespace,
// [ErrUnavailable] and [ErrClosed].
func (in *Inspector) Exist(ctx context.Context, records ...string) ([]bool, error) {
	s := in.service
	ids := make([]identity, len(records))
	for i, record := range records {
		prefix, digest, ok := protocol.SplitRecord(record)
		if !ok || !strings.HasPrefix(prefix, s.cfg.Namespace+":{") {
			return nil, invalid(fmt.Sprintf("records[%d]", i), "must be the Redis key of a record in the namespace %q: %q", s.cfg.Namespace, record)
		}
		ids[i], _ = protocol.IdentityIn(prefix, digest)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.inFlight.leave()
	read, err := s.redis.Peek(ctx, ids, fieldControl, fieldPoint, fieldFingerprint, fieldRequest)
	if err = explain(ctx, "exist", err); err != nil {
		return nil, err
	}
	exist := make([]bool, len(ids))
	for i, values := range read { // nil for a Redis key of another type; a tombstone has none of the fields
		exist[i] = values == nil || strings.Join(values, "") != ""
	}
	return exist, nil
}

// get reads a key with its values and its journal.
func (in *Inspector) get(ctx context.Context, id identity) (*KeyInfo, error) {
	all, err := in.inspect(ctx, []identity{id})
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, ErrNotFound
	}
	return all[0], nil
}

// inspect reads keys, and leaves out those without a record. If no fields are named, it reads whole
// records.
func (in *Inspector) inspect(ctx context.Context, ids []identity, fields ...string) ([]*KeyInfo, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	s := in.service
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.inFlight.leave()
	read, err := s.redis.Inspect(ctx, ids, fields...)
	if err = explain(ctx, "inspect", err); err != nil {
		return nil, err
	}
	infos := make([]*KeyInfo, 0, len(ids))
	for i, id := range ids {
		v := read[i]
		if v.Err == nil && (len(v.Pairs) == 0 || isTombstone(v.Pairs)) {
			continue
		}
		info := s.describe(id, v)
		if len(fields) == 0 && info.State != KeyUnreadable {
			info.Key, info.Err = s.decodeRead(info.id, v.Pairs, v.Locked)
		}
		infos = append(infos, info)
	}
	err = in.lookUpDue(ctx, infos)
	return infos, explain(ctx, "inspect", err)
}

// lookUpDue sets Due of the keys that a completer may continue. An interrupted key with a Due
// becomes KeyIdle.
func (in *Inspector) lookUpDue(ctx context.Context, infos []*KeyInfo) error {
	var ids []identity
	var flows []string
	var of []*KeyInfo
	for _, info := range infos {
		switch info.State {
		case KeyIdle, KeyInterim, KeyInterrupted, KeyAbandoned:
			if info.Flow != "" {
				ids, flows, of = append(ids, info.id), append(flows, info.Flow), append(of, info)
			}
		default:
		}
	}
	due, err := in.service.redis.DueAt(ctx, ids, flows)
	if err != nil {
		if protocol.IsDamaged(err) {
			return nil // one of the indexes is damaged: Due of all these keys stays unset
		}
		return err
	}
	for i, info := range of {
		info.Due = due[i]
		if info.State == KeyInterrupted && !info.Due.IsZero() {
			info.State = KeyIdle
		}
	}
	return nil
}

// errNotInspected refuses a KeyInfo that this package has not made.
var errNotInspected = invalid("key", "must be one that an Inspector returned")
