package redisidem

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Service keeps idempotency keys in one Redis. Make one with [New] or [Open], and one per process
// is enough: it is safe for concurrent use. Work on keys goes through a [Scope].
type Service struct {
	cfg        Config
	client     redis.UniversalClient
	owned      bool // the client is closed with the service
	redis      *protocol.Client
	inFlight   *inFlight
	flights    *flights
	listener   *listener
	cache      *cache // nil without CacheBytes
	pauses     *pauses
	valueCodec valueCodec
	tracer     Tracer // nil if Config.Observer is not one
	timeouts   *sharedTimeouts
	pending    *atomic.Int64 // commits that are tried again in the background
	returning  *atomic.Int64 // leases that are given back in the background

	maxBackground int64 // bounds pending and returning, each
}

// New makes a Service on a client of the caller's, who closes it after the Service. It sends
// nothing.
//
// The client must be a *redis.Client (a failover client is one) or a *redis.ClusterClient with
// ContextTimeoutEnabled: on others New returns [ErrUnsafeClient], with the line to change. New does
// not look at the server: call [Service.Check] before production, above all since a server with an
// evicting maxmemory-policy forgets keys, and work runs twice. [Open] does both.
//
// A nil cfg means all defaults. A field that breaks its bound is an [*InvalidError].
func New(client redis.UniversalClient, cfg *Config) (*Service, error) {
	if err := checkClient(client); err != nil {
		return nil, err
	}
	s := &Service{
		cfg: cfg.withDefaults(), client: client, inFlight: newInFlight(), flights: &flights{}, pauses: newPauses(),
		pending: &atomic.Int64{}, returning: &atomic.Int64{}, maxBackground: maxBackground,
	}
	if err := s.cfg.validate(); err != nil {
		return nil, err
	}
	s.timeouts = &sharedTimeouts{after: s.cfg.Timeout}
	var err error
	if s.redis, err = protocol.New(&protocol.Options{
		Redis: client, Namespace: s.cfg.Namespace, Timeout: s.cfg.Timeout, Lease: s.cfg.Lease, Retention: s.cfg.Retention,
		DeadLetters: s.cfg.DeadLetterRetention,
		Owner:       s.cfg.Owner, Durability: s.cfg.Durability, AutoPipeline: s.cfg.AutoPipeline, RecordLife: s.cfg.CacheBytes > 0,
	}); errors.Is(err, protocol.ErrNoPipeline) {
		return nil, invalid("Config.AutoPipeline", "needs a client that can do it, not a %T", client)
	} else if err != nil {
		return nil, err
	}
	s.tracer, _ = s.cfg.Observer.(Tracer)
	s.valueCodec = valueCodec{codec: s.cfg.Codec, limit: s.cfg.MaxValueBytes}
	s.listener = newListener(client, s.cfg.Namespace)
	s.listener.freed = s.flights.wake
	s.listener.missed = func() {}
	if s.cfg.CacheBytes > 0 {
		// A reply cannot be under way for longer than the operation that asked for it.
		c, err := newCache(s.cfg.CacheBytes, s.cfg.CacheLife, 2*s.cfg.Timeout)
		if err != nil {
			return nil, err
		}
		s.cache = c
		s.listener.deletions, s.listener.deleted, s.listener.missed = protocol.DeletedChannel(s.cfg.Namespace), c.forget, c.purge
	}
	return s, nil
}

// Config returns the configuration in force, defaults filled in.
func (s *Service) Config() Config { return s.cfg }

// enter counts an operation until inFlight.leave. It is refused once the service is closing, except
// inside of a stage, which Close waits for and which may need other keys to come to its end.
func (s *Service) enter(ctx context.Context) error {
	if outer, _ := ctx.Value(leaseContext{}).(*Lease); outer != nil && outer.scope.service.inFlight == s.inFlight && outer.holds() {
		s.inFlight.add()
		return nil
	}
	return s.inFlight.enter()
}

// bounded returns a context for one operation on Redis: it ends with the caller's, and after
// Config.Timeout at the latest.
func (s *Service) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Done() == nil {
		return timeoutContext{ctx, s.timeouts.begin()}, func() {}
	}
	return context.WithTimeout(ctx, s.cfg.Timeout)
}

// detached is bounded without the caller's cancellation: what a lease has begun must be ended
// although its caller left.
func (s *Service) detached(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Done() != nil {
		ctx = context.WithoutCancel(ctx)
	}
	return s.bounded(ctx)
}

// ask runs a script for a caller. Config.Timeout bounds it, it is refused after Close, and it
// returns the errors of the public API.
func (s *Service) ask(ctx context.Context, op string, c protocol.Call) (protocol.Reply, error) {
	if err := s.enter(ctx); err != nil {
		return protocol.Reply{}, err
	}
	defer s.inFlight.leave()
	bounded, cancel := s.bounded(ctx)
	defer cancel()
	r, err := s.redis.Run(bounded, c)
	return r, explain(ctx, op, err)
}
