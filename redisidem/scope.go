package redisidem

import (
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Scope gives access to the keys of one tenant, user or API client. Two scopes never share a
// record. Make one with [Service.Scope], which is cheap. It is immutable and safe for concurrent
// use.
type Scope struct {
	service *Service
	name    string
	hash    protocol.ScopeHash // of the name
	wait    time.Duration
}

// Scope returns the scope with that name. Take the name from the authenticated caller, never from
// the request: a client that can choose it can read the responses of others. The call sends nothing
// to Redis. If the name is empty or longer than Config.MaxKeyBytes, every method that reads or
// changes a key returns an [*InvalidError].
func (s *Service) Scope(name string) *Scope {
	return &Scope{service: s, name: name, hash: protocol.HashScope(name), wait: s.cfg.Wait}
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

// ID returns the name of a key in events and logs, which is also the last part of its Redis key: a
// digest of scope and value. The key need not exist, and any value is accepted. The call sends
// nothing to Redis.
func (sc *Scope) ID(value string) string {
	return sc.placeOf(value).Digest
}

// placeOf returns the place of a key's record. Any value is accepted.
func (sc *Scope) placeOf(value string) identity {
	return protocol.Identify(sc.service.cfg.Namespace, sc.name, value, sc.hash.DigestOf(sc.name, value))
}
