package promise

import (
	"context"
	"errors"
	"fmt"

	"github.com/redisidem/redisidem/cmd/bench/internal/contender"
	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// tries is the number of times that a lease is let end for each order of the workers. A client may
// learn from the server that its lock is gone, but not always in time: the worst outcome counts.
const tries = 10

// expiries returns the worst of some outcomes of expiry.
func expiries(ctx context.Context, all []contender.Contender, expire func(context.Context) error, lateFirst bool) (result.Late, error) {
	worst := result.LateRefused
	for n := range tries {
		late, err := expiry(ctx, all, expire, lateFirst, n)
		switch {
		case err != nil:
			return "", err
		case late == result.LateStored || worst == result.LateRefused:
			worst = late
		}
	}
	return worst, nil
}

// expiry lets the lease of a worker end during its work. The next worker, on another replica, gets
// the request and works, too. lateFirst says which of the two ends first. A later replay shows
// whose answer is stored.
func expiry(ctx context.Context, all []contender.Contender, expire func(context.Context) error, lateFirst bool, n int) (result.Late, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r := request(fmt.Sprint("expiry ", lateFirst, n))
	late := begin(ctx, all[0], r, "late")
	defer late.end()
	if err := late.begun(ctx); err != nil {
		return "", err
	}
	if err := expire(ctx); err != nil {
		return "", err
	}
	holder := begin(ctx, all[1], r, "holder")
	defer holder.end()
	if err := holder.begun(ctx); err != nil {
		return "", err
	}
	first, second := late, holder
	if !lateFirst {
		first, second = holder, late
	}
	first.end()
	second.end()
	stored, err := insist(ctx, all[1], r, func(context.Context) ([]byte, error) {
		return nil, errors.New("the finished request ran again")
	})
	switch {
	case err != nil:
		return "", err
	case string(stored) == "late":
		return result.LateStored, nil
	case holder.err != nil:
		return "", fmt.Errorf("the holder of the lease failed: %w", holder.err)
	case late.err == nil:
		return result.LateUnaware, nil
	}
	return result.LateRefused, nil
}

// worker is one execution of a request, which goes on until it is ended.
type worker struct {
	running, release, done chan struct{}
	released               bool
	err                    error // of Do, once it is done
}

// begin executes a request with an answer in the background.
func begin(ctx context.Context, c contender.Contender, r contender.Request, answer string) *worker {
	w := &worker{running: make(chan struct{}), release: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		_, w.err = insist(ctx, c, r, func(context.Context) ([]byte, error) {
			close(w.running)
			<-w.release // whatever the context says: this worker does not notice
			return []byte(answer), nil
		})
	}()
	return w
}

// begun waits until the work has begun.
func (w *worker) begun(ctx context.Context) error {
	select {
	case <-w.running:
		return nil
	case <-w.done:
		return fmt.Errorf("the work did not begin: %w", w.err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end lets the work end and waits for the result. Later calls do nothing.
func (w *worker) end() {
	if !w.released {
		w.released = true
		close(w.release)
	}
	<-w.done
}
