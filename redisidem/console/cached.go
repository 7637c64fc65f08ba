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
// others read again, until closed is closed.
type cached[T any] struct {
	life   time.Duration
	closed <-chan struct{}
	read   func(context.Context) (T, error)

	turn  chan struct{} // held by the caller that uses the fields below
	value T
	until time.Time
}

func newCached[T any](life time.Duration, closed <-chan struct{}, read func(context.Context) (T, error)) *cached[T] {
	return &cached[T]{life: life, closed: closed, read: read, turn: make(chan struct{}, 1)}
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
		reading, cancel := c.detach(ctx)
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

// detach returns the context of a read: it ends after readTime, and once c is closed. After that a
// caller reads for itself alone.
func (c *cached[T]) detach(ctx context.Context) (context.Context, context.CancelFunc) {
	select {
	case <-c.closed:
		return context.WithTimeout(ctx, readTime)
	default:
	}
	reading, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTime)
	go func() {
		select {
		case <-c.closed:
			cancel()
		case <-reading.Done():
		}
	}()
	return reading, cancel
}
