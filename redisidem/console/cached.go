package console

import (
	"context"
	"time"
)

// restRatio is how many times as long as a read took the result is kept at least.
const restRatio = 20

// readTime is how long a read may take at most.
const readTime = 5 * time.Minute

// cached keeps the result of a read that is costly. One caller at a time reads, and the others wait
// for its result. The read goes on if that caller leaves, so that callers who leave do not make
// others read again.
type cached[T any] struct {
	life time.Duration
	read func(context.Context) (T, error)

	turn  chan struct{} // held by the caller that uses the fields below
	value T
	until time.Time
}

func newCached[T any](life time.Duration, read func(context.Context) (T, error)) *cached[T] {
	return &cached[T]{life: life, read: read, turn: make(chan struct{}, 1)}
}

// get returns a result that is not older than life, or than restRatio times what reading it took.
// Errors are not kept.
func (c *cached[T]) get(ctx context.Context) (T, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
	if began := time.Now(); !began.Before(c.until) {
		reading, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTime)
		defer cancel()
		value, err := c.read(reading)
		if err != nil {
			return value, err
		}
		ended := time.Now()
		c.value, c.until = value, ended.Add(max(c.life, restRatio*ended.Sub(began)))
	}
	return c.value, nil
}
