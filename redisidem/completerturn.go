package redisidem

import (
	"context"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// longestTurn bounds how long a process that has scanned for a flow keeps processes with a longer
// Interval from scanning.
const longestTurn = 15 * time.Second

// turns takes the turns of this process to scan for flows. A turn ends after length, so that an
// owner that dies or takes longer does not hold the others up. A turn that ends later than one of
// this process would is not waited for. A flow gets no turn while its last scan, in whichever
// process, shows that none of its keys can be due.
func (c *Completer) turns(ctx context.Context, flows []*workers, length time.Duration) (t protocol.Turn, mine []*workers, err error) {
	s := c.service
	if err := s.inFlight.enter(); err != nil {
		return t, nil, err
	}
	defer s.inFlight.leave()
	bounded, cancel := s.bounded(ctx)
	defer cancel()
	asked := make([]protocol.Quiet, len(flows))
	byName := make(map[string]*workers, len(flows))
	for i, w := range flows {
		name := w.flow.cfg.Name
		asked[i], byName[name] = protocol.Quiet{Flow: name, For: c.quiet[name]}, w
	}
	t, err = s.redis.TakeTurns(bounded, asked, max(length, time.Millisecond))
	if err == nil {
		c.paused.learn(t.Paused)
	}
	for _, name := range t.Flows {
		if w := byName[name]; w != nil && c.runnable(name) != nil {
			mine = append(mine, w)
		}
	}
	return t, mine, explain(ctx, "completer", err)
}

// rest lets all processes know the results of scans.
func (c *Completer) rest(ctx context.Context, t protocol.Turn, flows ...protocol.Rest) error {
	r, err := c.service.ask(ctx, "completer", c.service.redis.NewRest(t, flows...))
	if err == nil && r.Status != protocol.StatusOK {
		err = r.Unexpected()
	}
	return err
}

// wakeInBackground is wakeCompleters for a caller that does not wait for it.
func (s *Service) wakeInBackground(ctx context.Context, flow string) {
	s.inFlight.add()
	go func() {
		defer s.inFlight.leave()
		s.wakeCompleters(context.WithoutCancel(ctx), flow)
	}()
}

// wakeCompleters makes completers scan a flow although its last scan found nothing due. If that
// fails, they scan after longestRest.
func (s *Service) wakeCompleters(ctx context.Context, flow string) {
	if s.inFlight.enter() != nil {
		return
	}
	defer s.inFlight.leave()
	bounded, cancel := s.bounded(ctx)
	defer cancel()
	_ = s.redis.Wake(bounded, flow)
}
