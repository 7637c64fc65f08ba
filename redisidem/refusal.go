package redisidem

import "github.com/redisidem/redisidem/redisidem/internal/protocol"

// locked is the error for a BUSY reply.
func locked(r protocol.Reply) error {
	left, expires, err := r.LockLife()
	switch {
	case err != nil:
		return fromProtocol(err)
	case !expires:
		return &LockedError{RetryAfter: lastPoll} // the lock has lost its expiry, so that its end is unknown
	}
	return &LockedError{RetryAfter: left}
}

// refusal is the error for a status that says no.
func refusal(r protocol.Reply) error {
	switch r.Status {
	case protocol.StatusGone:
		return ErrNotFound
	case protocol.StatusDone:
		return ErrFinished
	case protocol.StatusMoved, protocol.StatusOther:
		return ErrStale
	case protocol.StatusMismatch:
		return ErrFingerprintMismatch
	case protocol.StatusStale:
		return ErrLeaseLost
	case protocol.StatusBusy:
		return locked(r)
	case protocol.StatusAlive:
		return ErrNotFound
	default:
		return r.Unexpected()
	}
}
