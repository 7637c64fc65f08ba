package redisidem

import (
	"context"
	"log/slog"

	"github.com/redisidem/redisidem/redisidem/internal/backoff"
	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// admit asks whether this process may work on a key, within CompleterConfig.MaxPerScope and
// MaxPerFlow. If so, the caller calls leave when it has worked on it. Without limits it asks
// nothing. A limit that cannot be looked up does not stop the work: the leases still keep the key
// to one worker.
func (w *workers) admit(ctx context.Context, j *job) (leave func(), ok bool) {
	cfg := &w.completer.cfg
	if cfg.MaxPerScope == 0 && cfg.MaxPerFlow == 0 {
		return func() {}, true
	}
	s := w.completer.service
	if s.inFlight.enter() != nil {
		return nil, false // the service is closed, and the key becomes due again
	}
	a := protocol.Admission{
		Flow: w.flow.cfg.Name, Scope: protocol.ScopePart(j.member), PerScope: cfg.MaxPerScope, PerFlow: cfg.MaxPerFlow, For: s.cfg.Lease,
	}
	call := s.redis.NewAdmit(a)
	ask := func(ctx context.Context) (protocol.Reply, error) {
		bounded, cancel := s.bounded(ctx)
		defer cancel()
		return s.redis.Run(bounded, call)
	}
	r, err := ask(ctx)
	if err == nil && r.Status == protocol.StatusFull {
		s.inFlight.leave()
		w.queue.postpone(j, r.FullFlow(), cfg.Interval/4)
		return nil, false
	}
	if err == nil && r.Status != protocol.StatusOK {
		err = fromProtocol(r.Unexpected())
	}
	if err != nil && ctx.Err() == nil {
		s.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: completer works without its limits", slog.String("flow", a.Flow), attrErr(err))
	}
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for backoff.Wait(renewing, s.cfg.Lease/3) {
			// If it fails, the next time is soon enough. After that another process may take the
			// place, and there is one key more than the limit.
			_, _ = ask(renewing)
		}
	}()
	return func() {
		stop()
		<-ended
		bounded, cancel := s.bounded(context.WithoutCancel(ctx))
		defer cancel()
		_ = s.redis.EndAdmission(bounded, a, call) // otherwise it ends by itself, after a Lease
		s.inFlight.leave()
	}, true
}
