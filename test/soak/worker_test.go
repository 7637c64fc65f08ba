//go:build unix

package soak

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/history"
	"github.com/redisidem/redisidem/test/internal/workload"
)

// worker is a worker with its own service and client, like another process.
type worker struct {
	*workload.Worker
	client *redis.Client
	svc    *redisidem.Service
	sc     *redisidem.Scope
}

// newWorker creates the worker of a name.
func newWorker(s *soak, name, addr string, cfg redisidem.Config) *worker {
	p := &worker{
		Worker: workload.New(name, recoverAfter, s.ledger.tell),
		client: redis.NewClient(&redis.Options{
			Addr: addr, ContextTimeoutEnabled: true, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1, PoolSize: 16,
		}),
	}
	p.Stay = s.stay
	cfg.Lease, cfg.Timeout, cfg.Retention, cfg.Owner, cfg.Observer = lease, timeout, retention, name, p
	var err error
	if p.svc, err = redisidem.New(p.client, &cfg); err != nil {
		s.t.Fatal(err)
	}
	p.sc = p.svc.Scope("soak")
	return p
}

// leave closes the worker.
func (p *worker) leave(ctx context.Context) error {
	err := p.svc.Close(ctx)
	if err1 := p.client.Close(); err == nil {
		err = err1
	}
	return err
}

// work uses keys until ctx ends, except during quiet phases.
func (p *worker) work(ctx context.Context, s *soak, r *rand.Rand) {
	for ctx.Err() == nil {
		s.gate.RLock()
		sc := p.sc
		if r.IntN(3) == 0 {
			sc = sc.Wait(time.Duration(r.Int64N(int64(2 * lease))))
		}
		use := workload.Use{Key: s.someKey(r), Dwell: dwell(r), Fails: r.IntN(12) == 0, Other: r.IntN(2) == 0}
		_ = p.Do(context.Background(), sc, use)
		s.gate.RUnlock()
		pause(ctx, time.Duration(r.Int64N(int64(10*time.Millisecond))))
	}
}

// complete lets a completer sweep until ctx ends, except during quiet phases.
func (p *worker) complete(ctx context.Context, s *soak) {
	for ctx.Err() == nil {
		s.gate.RLock()
		look, end := context.WithTimeout(context.Background(), time.Second)
		_, _ = p.Completer(p.svc).Sweep(look)
		end()
		s.gate.RUnlock()
		pause(ctx, time.Second)
	}
}

// dwell draws how long a callback takes. Most take an instant, and some take so long that the lease
// is renewed.
func dwell(r *rand.Rand) time.Duration {
	switch r.IntN(30) {
	case 0:
		return lease + time.Duration(r.Int64N(int64(lease)))
	case 1, 2, 3:
		return time.Duration(r.Int64N(int64(lease)))
	}
	return time.Duration(r.Int64N(int64(5 * time.Millisecond)))
}

// stay waits for the duration of a callback, at most until a quiet phase begins. Half of the
// callbacks whose lease was lost ignore that. They return a result when other workers may have the
// key.
func (s *soak) stay(ctx context.Context, dwell time.Duration, e history.Event) {
	defer s.ledger.enter(ctx, e)()
	hurry := *s.hurry.Load()
	timer := time.NewTimer(dwell)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-hurry:
	case <-ctx.Done():
		if e.Fence%2 == 0 {
			return
		}
		timer.Reset(lease)
		select {
		case <-timer.C:
		case <-hurry:
		}
	}
}
