package redisidem

import "context"

// ScopeUse is the use of a scope's quota by all processes with a [Quota] on it.
type ScopeUse struct {
	// Processes is how many processes have a share of the quota. The limits are those that they
	// have, 0 for none.
	Processes int
	// InFlight is how many requests were in flight at the last call of each process, up to 5 s ago.
	// InFlightHeld is how many places for requests the processes hold, for these and for further
	// ones.
	InFlight, InFlightHeld, InFlightLimit int
	// Stored is how many records count, without those of the last 5 s. StoredHeld is how many
	// places for records the processes hold; each request in flight has one.
	Stored, StoredHeld, StoredLimit int
}

// ScopeUse returns the use of a scope's quota. It takes one round trip, and a scope without a use
// is not an error.
//
// It returns [ErrUnavailable], [ErrDamaged], [ErrNotPermitted] and [ErrClosed].
func (in *Inspector) ScopeUse(ctx context.Context, scope string) (ScopeUse, error) {
	s := in.service
	if err := s.enter(ctx); err != nil {
		return ScopeUse{}, err
	}
	defer s.inFlight.leave()
	bounded, cancel := s.bounded(ctx)
	defer cancel()
	use, err := s.redis.ScopeUse(bounded, scope)
	return ScopeUse(use), explain(ctx, "scope use", err)
}
