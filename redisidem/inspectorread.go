package redisidem

import "context"

// AuditRead writes into the audit that the actor reads the values of a key: its params, and the
// stored response. A program that shows them to people calls it first, and shows nothing if it
// fails. The entry's act is "read". The key is not changed. It takes one round trip.
//
// It returns [ErrInvalid], [ErrUnavailable], [ErrClosed], and [ErrNotPermitted] if the Redis user
// may only read.
func (in *Inspector) AuditRead(ctx context.Context, key *KeyInfo, a Act) error {
	audit, err := key.audit(a, "read")
	if err != nil {
		return err
	}
	s := in.service
	_, err = s.ask(ctx, "audit", s.redis.NewAudit(key.id, audit))
	return err
}
