// Package promise shows on the server under test what each contender keeps of the promise that a
// request runs once. It needs a moment for each, and measures no speed.
package promise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/contender"
	"github.com/redisidem/redisidem/cmd/bench/internal/result"
	"github.com/redisidem/redisidem/cmd/bench/internal/target"
)

const (
	// replicas is the number of processes that a contender behaves as: each has a client and all
	// other state of its own.
	replicas = 2
	// callers is the number of concurrent callers of each replica.
	callers = 8
	// patience bounds each step of a check.
	patience = 10 * time.Second
	// pause is the time that a refused caller waits before it tries again.
	pause = time.Millisecond
)

// Check shows what a kind of contender keeps. A contender that fails has its error in place of a
// result. Check removes its keys. It returns an error if that fails or ctx ends.
func Check(ctx context.Context, server *target.Server, kind contender.Kind) (p result.Promise, err error) {
	p = result.Promise{Contender: kind.Name, Title: kind.Title, Own: kind.Own, Callers: replicas * callers}
	prefix := "promise" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36) + "-"
	defer func() {
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		err = errors.Join(err, server.Empty(detached, prefix))
	}()
	if failed := check(ctx, server, kind, prefix, &p); failed != nil {
		p.Error, p.Skipped = failed.Error(), errors.Is(failed, target.ErrNoAddr) || errors.Is(failed, contender.ErrUnable)
	}
	if ctx.Err() != nil {
		return p, context.Cause(ctx)
	}
	return p, nil
}

func check(ctx context.Context, server *target.Server, kind contender.Kind, prefix string, p *result.Promise) (err error) {
	var all []contender.Contender
	defer func() {
		for _, c := range all {
			err = errors.Join(err, c.Close())
		}
	}()
	for range replicas {
		c, err := kind.Open(ctx, server.Link(callers), prefix+kind.Name)
		if err != nil {
			return err
		}
		all = append(all, c)
	}
	if p.Runs, p.Answers, err = race(ctx, all); err != nil {
		return fmt.Errorf("one request at once: %w", err)
	}
	expire := func(ctx context.Context) error { return server.Expire(ctx, prefix) }
	if p.LateFirst, err = expiries(ctx, all, expire, true); err != nil {
		return fmt.Errorf("expired lease, late worker first: %w", err)
	}
	if p.LateLast, err = expiries(ctx, all, expire, false); err != nil {
		return fmt.Errorf("expired lease, late worker last: %w", err)
	}
	return nil
}

func request(key string) contender.Request {
	return contender.Request{Key: key, Method: "POST", Path: "/orders", Params: []byte(`{"cart":1}`)}
}

// insist repeats a request that is refused because it is in flight, until there is another result
// or the patience is over.
func insist(ctx context.Context, c contender.Contender, r contender.Request, work contender.Work) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		answer, _, err := c.Do(ctx, r, work)
		if !errors.Is(err, contender.ErrInFlight) {
			return answer, err
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, fmt.Errorf("the request stays in flight: %w", err)
		}
	}
}

// sleep waits for d. It returns the context's error if ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
