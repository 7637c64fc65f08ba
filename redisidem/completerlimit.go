package redisidem

import (
	"context"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// admit asks whether this process may work on a key, within CompleterConfig.MaxPerScope and
// MaxPerFlow. If so, the caller calls leave when it has worked on it. Without limits it asks
// nothing.
func (w *workers) admit(ctx context.Context, j *job) (leave func(), ok bool, err error) {
	cfg := &w.completer.cfg
	if cfg.MaxPerScope == 0 && cfg.MaxPerFlow == 0 {
		return func() {}, true, nil
	}
	s := w.completer.service
	a := protocol.Admission{
		Flow: w.flow.cfg.Name, Scope: protocol.ScopePart(j.member), PerScope: cfg.MaxPerScope, PerFlow: cfg.MaxPerFlow, For: s.cfg.Lease,
	}
	call := s.redis.NewAdmit(a)
	r, err := s.ask(ctx, "completer", call)
	switch {
	case err != nil:
		return nil, false, err
	case r.Status == protocol.StatusFull:
		w.queue.postpone(j, r.FullFlow(), cfg.Interval/4)
		return nil, false, nil
	case r.Status != protocol.StatusOK:
		return nil, false, r.Unexpected()
	}
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-renewing.Done():
				return
			case <-time.After(s.cfg.Lease / 3):
				// If it fails, the next time is soon enough; after that another process may take
				// the place, and there is one key more than the limit.
				_, _ = s.ask(renewing, "completer", call)
			}
		}
	}()
	return func() {
		stop()
		<-ended
		bounded, cancel := s.bounded(context.WithoutCancel(ctx))
		defer cancel()
		_ = s.redis.EndAdmission(bounded, a, call) // otherwise it ends by itself, after a Lease
	}, true, nil
}
