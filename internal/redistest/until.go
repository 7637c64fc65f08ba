package redistest

import (
	"fmt"
	"time"
)

// patience is how long a server may take to get ready. It is long because tests share their
// machine.
const patience = 60 * time.Second

// until calls ready, with pauses between the calls, until it returns nil. When the time is over,
// until returns ready's last error.
func until(limit, rest time.Duration, ready func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %w", limit, err)
		}
		time.Sleep(rest)
	}
}
