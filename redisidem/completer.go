package redisidem

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/backoff"
	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Completer finishes keys whose clients do not come back. It scans for unfinished keys of its flows
// whose lease has lapsed and whose last run is older than the flow's RecoverAfter. It runs the flow
// from the key's recovery point. A key that fails is tried again after a growing pause. When it has
// used up the flow's MaxAttempts, it becomes a dead letter: see [Service.DeadLetters].
//
// Any number of processes may run a completer, and a Completer is safe for concurrent use. It does
// not disturb live workers, since it takes the lease on a key as every worker does.
//
// A stage that a completer runs finds the request in [Stage.Key] and the state of earlier stages in
// [Stage.State]. It has nothing else from its caller. Records must not hold credentials.
type Completer struct {
	cfg     CompleterConfig
	service *Service
	flows   map[string]*Flow         // by name/version, with earlier versions
	given   map[string]*Flow         // by name/version: the flow itself, or the one that it is earlier than
	newest  map[string]*Flow         // by name
	quiet   map[string]time.Duration // by name: the least of the versions
	paused  pausedFlows

	remembered atomic.Pointer[time.Time] // when the names of the flows were last written down
}

// NewCompleter makes a completer for at least one flow. Two versions of a flow are two flows. Those
// of [FlowConfig].Earlier are run with the flow that has them, and must not be given themselves.
// They are left out if they have no RecoverAfter. All other flows need one. A nil cfg means all
// defaults. It sends nothing.
//
// It returns an [*InvalidError] for a nil svc, and for flows that are missing, nil, repeated or
// without RecoverAfter. It also does so for a field of cfg that breaks its bound.
func NewCompleter(svc *Service, flows []*Flow, cfg *CompleterConfig) (*Completer, error) {
	if svc == nil {
		return nil, invalid("svc", "must not be nil")
	}
	if len(flows) == 0 {
		return nil, invalid("flows", "must not be empty")
	}
	c := &Completer{
		service: svc, flows: make(map[string]*Flow), given: make(map[string]*Flow), newest: make(map[string]*Flow), quiet: make(map[string]time.Duration),
	}
	if cfg != nil {
		c.cfg = *cfg
	}
	if err := c.cfg.complete(); err != nil {
		return nil, err
	}
	for i, f := range flows {
		field := fmt.Sprintf("flows[%d]", i)
		switch {
		case f == nil:
			return nil, invalid(field, "must not be nil")
		case !f.recoverable():
			return nil, invalid(field, "(%s) has no RecoverAfter", f)
		}
		if err := c.add(field, f, f); err != nil {
			return nil, err
		}
		for _, e := range f.earlier {
			if !e.flow.recoverable() {
				continue
			}
			if err := c.add(field, e.flow, f); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// add adds a flow that was given, or an earlier version of it.
func (c *Completer) add(field string, f, given *Flow) error {
	if c.flows[f.id] != nil {
		return invalid(field, "(%s) is there already", f)
	}
	c.flows[f.id], c.given[f.id] = f, given
	q := f.quiet(c.service.cfg.Retention)
	if least, ok := c.quiet[f.cfg.Name]; ok {
		q = min(q, least)
	}
	c.quiet[f.cfg.Name] = q
	if n := c.newest[f.cfg.Name]; n == nil || n.cfg.Version < f.cfg.Version {
		c.newest[f.cfg.Name] = f
	}
	return nil
}

// Run scans for keys and continues them until ctx ends or the service is closed. It then takes no
// more keys and gives running stages Drain to end. After that it cancels their contexts and waits
// for them. It returns ctx's error or [ErrClosed].
//
// Errors of keys and of Redis go to Config.Logger and Config.Observer, and are tried again. The
// keys of each flow name are worked on separately, so a flow whose stages hang does not delay the
// others.
func (c *Completer) Run(ctx context.Context) error {
	return c.with(ctx, func(ctx context.Context, all []*workers) error {
		var scans sync.WaitGroup
		defer scans.Wait()
		for {
			if err := c.takeTurns(ctx, all, &scans); err != nil {
				c.cannotScan(ctx, err)
			}
			scans.Go(func() {
				if err := c.keepPaused(ctx, all); err != nil {
					c.cannotScan(ctx, err)
				}
			})
			shortest := c.cfg.Interval * 3 / 4
			if !backoff.Wait(ctx, backoff.Between(shortest, shortest+c.cfg.Interval/2)) {
				return nil
			}
		}
	})
}

// cannotScan logs why a scan failed, unless ctx has ended.
func (c *Completer) cannotScan(ctx context.Context, err error) {
	if ctx.Err() == nil {
		c.service.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: completer cannot look for keys", attrErr(err))
	}
}

// takeTurns begins a scan for each flow whose turn it is, which is not paused, and whose last scan
// by this process has ended. While all scans run, it only asks for the pauses, so that a long scan
// stops. All flows are looked for together, and those with keys are scanned separately.
func (c *Completer) takeTurns(ctx context.Context, all []*workers, scans *sync.WaitGroup) error {
	var idle []*workers
	for _, w := range all {
		if !w.scanning.Load() && c.runnable(w.flow.cfg.Name) != nil {
			idle = append(idle, w)
		}
	}
	length := min(c.cfg.Interval*3/4, longestTurn)
	turn, mine, turnErr := c.turns(ctx, idle, length)
	if turnErr != nil {
		mine = idle // the master with the turns is away: that must not keep the others' keys waiting
	}
	if len(mine) == 0 || ctx.Err() != nil {
		return turnErr
	}
	found, err := c.look(ctx, mine)
	complete := turnErr == nil && err == nil
	err = errors.Join(turnErr, err)
	var resting []protocol.Rest
	rests := func(w *workers, first int64) (protocol.Rest, bool) {
		name := w.flow.cfg.Name
		return protocol.Rest{Flow: name, First: first}, complete && c.quiet[name] > length // otherwise the next turn scans anyway
	}
	for _, w := range mine {
		prefixes := found[w]
		if len(prefixes) == 0 {
			if r, ok := rests(w, protocol.Empty); ok {
				resting = append(resting, r)
			}
			continue
		}
		w.scanning.Store(true)
		scans.Go(func() {
			defer w.scanning.Store(false)
			first, err := w.scan(ctx, prefixes, c.cfg.Interval*3/4)
			if r, ok := rests(w, first); ok && err == nil && ctx.Err() == nil {
				err = c.rest(ctx, turn, r)
			}
			if err != nil {
				c.cannotScan(ctx, err)
			}
		})
	}
	if len(resting) > 0 && ctx.Err() == nil {
		err = errors.Join(err, c.rest(ctx, turn, resting...))
	}
	return err
}

// with calls do with workers for each flow name. It waits for do and the workers. The context of do
// ends with ctx and when the service is closed.
func (c *Completer) with(ctx context.Context, do func(context.Context, []*workers) error) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer context.AfterFunc(c.service.inFlight.ending, func() { end(ErrClosed) })()
	if c.service.inFlight.ending.Err() != nil {
		return ErrClosed
	}
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() {
		if backoff.Wait(work, max(c.cfg.Drain, 0)) {
			cancel(errStopped)
		}
	})()
	all := make([]*workers, 0, len(c.newest))
	for _, f := range c.newest {
		all = append(all, c.startWorkers(ctx, work, f))
	}
	err := do(ctx, all)
	for _, w := range all {
		w.stop()
	}
	switch {
	case errors.Is(context.Cause(ctx), ErrClosed):
		return ErrClosed
	case err != nil:
		return err
	}
	return ctx.Err()
}

// errStopped is the cause with which a completer that ends cancels its stages.
var errStopped = errors.New("redisidem: completer is stopped")

// SweepResult counts the keys of one [Completer.Sweep].
type SweepResult struct {
	// Due is how many keys the sweep received. Finished were completed, Failed returned an error,
	// and DeadLettered became dead letters. The others had another worker, were finished already or
	// wait for their clients.
	Due, Finished, Failed, DeadLettered int64
}

// Sweep scans for keys once, continues those that are due, and blocks until that is done. It is
// [Completer.Run] for tests and for programs with a scheduler of their own, and does not take turns
// with other processes. With MaxPerScope or MaxPerFlow it leaves keys to the other processes that
// have reached the bound. It ends as Run does when ctx ends or the service is closed.
//
// It returns [ErrUnavailable] if a server did not answer, and [ErrDamaged] if a shard's index is
// not a sorted set. In both cases the result covers the other shards. It returns [ErrClosed] if the
// service is closed. A server that did not answer for one shard is not asked for its others; in a
// cluster the other masters still are.
func (c *Completer) Sweep(ctx context.Context) (SweepResult, error) {
	var all SweepResult
	var errs error
	err := c.with(ctx, func(ctx context.Context, flows []*workers) error {
		errs = c.readPauses(ctx)
		errs = errors.Join(errs, c.keepPaused(ctx, flows))
		flows = slices.DeleteFunc(slices.Clone(flows), func(w *workers) bool { return c.runnable(w.flow.cfg.Name) == nil })
		found, err := c.look(ctx, flows)
		errs = errors.Join(errs, err)
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, w := range flows {
			if len(found[w]) == 0 {
				continue
			}
			wg.Go(func() {
				_, err := w.scan(ctx, found[w], 0)
				w.stop()
				mu.Lock()
				defer mu.Unlock()
				all.Due += w.due.Load()
				all.Finished += w.finished.Load()
				all.Failed += w.failed.Load()
				all.DeadLettered += w.deadLettered.Load()
				errs = errors.Join(errs, err)
			})
		}
		wg.Wait()
		return nil
	})
	if errors.Is(err, ErrClosed) || errs == nil && ctx.Err() == nil {
		return all, err
	}
	return all, errs
}
