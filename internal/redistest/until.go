package redistest

import (
	"fmt"
	"time"
)

// patience is the maximum time until a server is ready. It is long because tests share their
// machine.
const patience = 60 * time.Second

// until calls ready until it returns nil, and rests between the calls. After limit it returns the
// last error of ready.
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
