package redisidem

import "github.com/redisidem/redisidem/redisidem/internal/protocol"

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

// identityOf checks that a key is of this scope and returns its identity.
func (sc *Scope) identityOf(key *Key) (identity, error) {
	if key == nil {
		return identity{}, invalid("key", "must not be nil")
	}
	if key.Scope != sc.name {
		return identity{}, invalid("key", "is of another scope")
	}
	return sc.identify(key.Value)
}
