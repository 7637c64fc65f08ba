package scenario

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/contender"
	"github.com/redisidem/redisidem/cmd/bench/internal/load"
)

// inFlight is the number of requests that are held in flight.
const inFlight = 32

var refused = Scenario{
	Name: "refused", Title: "Refused duplicate",
	About:   "Each operation repeats one of 32 requests that another caller is executing, and is refused at once.",
	Kinds:   []string{"redislock", "redisidem-auto", "redisidem", "redislock-auto", "redsync", "rueidislock", "floor"},
	Callers: 64,
	Prepare: func(ctx context.Context, s Subject) (load.Operation, func() error, error) {
		release := make(chan struct{})
		var holders sync.WaitGroup
		errs := make(chan error, inFlight)
		for i := range uint64(inFlight) {
			running := make(chan struct{})
			failed := make(chan struct{})
			holders.Go(func() {
				_, _, err := s.Contender.Do(ctx, request("held", 0, i), func(context.Context) ([]byte, error) {
					close(running)
					<-release
					return []byte("held"), nil
				})
				if err != nil {
					errs <- err
					close(failed)
				}
			})
			select {
			case <-running:
			case <-failed:
			}
		}
		end := sync.OnceValue(func() error {
			close(release)
			holders.Wait()
			close(errs)
			return <-errs
		})
		return func(ctx context.Context, caller int, n uint64) (time.Duration, error) {
			_, _, err := s.Contender.Do(ctx, request("held", 0, mix(caller, n)%inFlight), mustNotRun)
			switch {
			case errors.Is(err, contender.ErrInFlight):
				return 0, nil
			case err == nil:
				return 0, errors.New("a duplicate was not refused")
			}
			return 0, err
		}, end, nil
	},
}

// pause is the time that a refused caller waits before it tries again.
const pause = time.Millisecond

var hot = Scenario{
	Name: "hot", Title: "Hot key",
	About: "All callers bring the same requests in the same order. One executes each for 2 ms; the others wait for its response, " +
		"or are refused and ask again every millisecond. Who has the response goes on to the next key.",
	Kinds:   []string{"redislock", "redisidem-wait", "redisidem", "redislock-auto", "gofiber"},
	Callers: 64,
	Prepare: func(_ context.Context, s Subject) (load.Operation, func() error, error) {
		var executed sync.Map
		op := func(ctx context.Context, _ int, n uint64) (time.Duration, error) {
			r := request("hot", 0, n)
			for {
				got, _, err := s.Contender.Do(ctx, r, func(ctx context.Context) ([]byte, error) {
					if _, twice := executed.LoadOrStore(r.Key, true); twice {
						return nil, fmt.Errorf("%s is executed twice", r.Key)
					}
					return response(r, s.Body), sleep(ctx, 2*time.Millisecond)
				})
				switch {
				case errors.Is(err, contender.ErrInFlight):
					if err := sleep(ctx, pause); err != nil {
						return 0, err
					}
					continue
				case err != nil:
					return 0, err
				case !isResponse(got, r, s.Body):
					return 0, errForeign
				}
				return 0, nil
			}
		}
		return op, nothing, nil
	},
}

var handOver = Scenario{
	Name: "handover", Title: "Hand-over to a waiter",
	About: "One caller executes a request while another one waits for it. The latency is from the executor's answer to the " +
		"waiter's; who cannot wait asks every millisecond. Costs are of both, over the 20 ms that an execution takes.",
	Kinds:   []string{"redislock", "redisidem-wait"},
	Callers: 1, Timed: true,
	Prepare: func(_ context.Context, s Subject) (load.Operation, func() error, error) {
		return func(ctx context.Context, caller int, n uint64) (time.Duration, error) {
			return handOverOnce(ctx, s, request("handover", caller, n))
		}, nothing, nil
	},
}

func handOverOnce(ctx context.Context, s Subject, r contender.Request) (time.Duration, error) {
	running, release := make(chan struct{}), make(chan struct{})
	var answered time.Time
	executed := make(chan error, 1)
	go func() {
		var once sync.Once
		_, _, err := s.Contender.Do(ctx, r, func(context.Context) ([]byte, error) {
			once.Do(func() { close(running) })
			<-release
			return response(r, s.Body), nil
		})
		answered = time.Now()
		executed <- err
	}()
	select {
	case <-running:
	case err := <-executed:
		return 0, fmt.Errorf("the executor was refused: %w", err)
	}
	waited := make(chan error, 1)
	var got time.Time
	go func() {
		for {
			response, _, err := s.Contender.Do(ctx, r, mustNotRun)
			got = time.Now()
			if errors.Is(err, contender.ErrInFlight) {
				if err = sleep(ctx, pause); err == nil {
					continue
				}
			}
			if err == nil && !isResponse(response, r, s.Body) {
				err = errForeign
			}
			waited <- err
			return
		}
	}()
	// Wait until the caller is registered as a waiter.
	err := sleep(ctx, 20*time.Millisecond)
	close(release)
	err = errors.Join(err, <-executed, <-waited)
	return max(got.Sub(answered), time.Microsecond), err
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
