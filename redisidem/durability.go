package redisidem

import (
	"fmt"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// NotDurableError reports that fewer replicas than asked for have acknowledged a write. The master
// has it. It matches [ErrNotDurable].
type NotDurableError struct {
	// Acknowledged is the number of replicas that confirmed the write in time.
	Acknowledged int
	// Wanted is Config.Durability.
	Wanted int
}

func (e *NotDurableError) Error() string {
	return fmt.Sprintf("redisidem: %d of %d replicas acknowledged", e.Acknowledged, e.Wanted)
}

// Is reports whether target is [ErrNotDurable].
func (e *NotDurableError) Is(target error) bool { return target == ErrNotDurable }

// checkAcks reports whether enough replicas acknowledged the writes behind a reply.
func (s *Service) checkAcks(r protocol.Reply) error {
	if r.Acks < s.cfg.Durability {
		return &NotDurableError{Acknowledged: r.Acks, Wanted: s.cfg.Durability}
	}
	return nil
}
