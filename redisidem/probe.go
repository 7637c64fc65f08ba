package redisidem

import "context"

// Probe writes a record of its own and returns nil once Redis has acknowledged it. It finds a Redis
// that answers and refuses writes: because its memory is full, its disk fails, it has become a
// replica, or it lacks replicas. Use it for readiness probes. On a cluster it writes to one master,
// chosen at random. It takes one round trip, and no observer receives an event. The record takes
// about 300 bytes and expires after Config.Lease. Probe is safe for concurrent use.
//
// It returns [ErrUnavailable], whose text has the answer of Redis, [ErrNotDurable] if fewer
// replicas than Config.Durability acknowledged, and [ErrClosed] after Close.
func (s *Service) Probe(ctx context.Context) error {
	_, err := s.probeScope("redisidem/probe").Create(ctx, Request{Method: "PROBE", Path: "/"})
	return err
}

// probeScope returns a scope for keys of the library's own. They expire after a lease, and no
// observer receives their events.
func (s *Service) probeScope(name string) *Scope {
	cfg := s.cfg
	cfg.Observer, cfg.Retention = nil, cfg.Lease
	probe := &Service{
		cfg: cfg, client: s.client, redis: s.redis.WithRetention(cfg.Retention), inFlight: s.inFlight, listener: s.listener,
		flights: s.flights, timeouts: s.timeouts, pending: s.pending, returning: s.returning,
		maxBackground: s.maxBackground,
	}
	return probe.Scope(name).Wait(0)
}
