package redisidem

import (
	"context"
	"time"
)

// longestTurn bounds how long a process that has scanned for a flow keeps processes with a longer
// Interval from scanning.
const longestTurn = 15 * time.Second

// turn reports whether it is this process's turn to scan for a flow. A turn is a Redis key that
// expires, so an owner that dies or takes longer does not hold the others up. A turn that ends
// later than one of this process would is not waited for.
func (c *Completer) turn(ctx context.Context, f *Flow, length time.Duration) (bool, error) {
	s := c.service
	if err := s.inFlight.enter(); err != nil {
		return false, err
	}
	defer s.inFlight.leave()
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	mine, err := s.redis.TakeTurn(ctx, f.cfg.Name, max(length, time.Millisecond))
	return mine, explain(ctx, "completer", err)
}
