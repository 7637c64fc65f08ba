package redisidem

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/backoff"
)

// The defaults of [CompleterConfig].
const (
	DefaultInterval    = 5 * time.Second
	DefaultConcurrency = 8
	DefaultDrain       = 15 * time.Second
)

const (
	// scanners is how many shards are asked at once. batchSize is how many keys are taken from a
	// shard in one request.
	scanners  = 8
	batchSize = 16
	// longestTurn bounds how long a process that has scanned for a flow keeps processes with a
	// longer Interval from scanning.
	longestTurn = 15 * time.Second
)

// CompleterConfig configures a [Completer]. The zero value of each field means its default, and so
// does a nil *CompleterConfig.
type CompleterConfig struct {
	// Interval is the average pause between two scans for keys. Each pause differs from it by up to
	// a quarter. Must not be negative. Default: 5 s.
	//
	// A scan costs the server 1024 small scripts for each flow name, whatever the number of keys.
	// Processes take turns, so many of them scan no more often than one. A turn lasts three
	// quarters of its owner's Interval, at most 15 s. A process with a shorter turn does not wait
	// for a longer one.
	Interval time.Duration

	// Concurrency is how many keys of each flow name are worked on at once. Flows do not share
	// workers. Each shard with due keys is asked for one batch of 16 before any shard is asked
	// again. At least 1. Default: 8.
	Concurrency int

	// Drain is how long running stages may continue after Run or Sweep was asked to end, or the
	// service was closed. Their contexts are cancelled then. [Stage.Attempt] counts such an
	// attempt, but MaxAttempts does not, because the stage has not failed. Default: 15 s. Negative:
	// the contexts are cancelled at once.
	Drain time.Duration
}

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
	flows   map[string]*Flow // by name/version
	newest  map[string]*Flow // by name
}

// SweepResult counts the keys of one [Completer.Sweep].
type SweepResult struct {
	// Due is how many keys the sweep received. Finished were completed, Failed returned an error,
	// and DeadLettered became dead letters. The others had another worker, were finished already or
	// wait for their clients.
	Due, Finished, Failed, DeadLettered int64
}

// NewCompleter makes a completer for at least one flow. Two versions of a flow are two flows. Each
// flow needs a RecoverAfter. A nil cfg means all defaults. It sends nothing.
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
	c := &Completer{service: svc, flows: make(map[string]*Flow), newest: make(map[string]*Flow)}
	if cfg != nil {
		c.cfg = *cfg
	}
	def(&c.cfg.Interval, DefaultInterval)
	def(&c.cfg.Concurrency, DefaultConcurrency)
	def(&c.cfg.Drain, DefaultDrain)
	switch {
	case c.cfg.Interval < 0:
		return nil, invalid("CompleterConfig.Interval", "must not be negative: %v", c.cfg.Interval)
	case c.cfg.Concurrency < 1:
		return nil, invalid("CompleterConfig.Concurrency", "must be at least 1: %d", c.cfg.Concurrency)
	}
	for i, f := range flows {
		field := fmt.Sprintf("flows[%d]", i)
		switch {
		case f == nil:
			return nil, invalid(field, "must not be nil")
		case !f.recoverable():
			return nil, invalid(field, "(%s) has no RecoverAfter", f)
		case c.flows[f.id] != nil:
			return nil, invalid(field, "(%s) is there already", f)
		}
		c.flows[f.id] = f
		if n := c.newest[f.cfg.Name]; n == nil || n.cfg.Version < f.cfg.Version {
			c.newest[f.cfg.Name] = f
		}
	}
	return c, nil
}

// Run scans for keys and continues them until ctx ends or the service is closed. It then takes no
// more keys and gives running stages Drain to end. After that it cancels their contexts and waits
// for them. It returns ctx's error or [ErrClosed].
//
// Errors of keys and of Redis go to Config.Logger and Config.Observer, and are tried again. Each
// flow name is scanned separately, so a flow whose stages hang does not delay the others.
func (c *Completer) Run(ctx context.Context) error {
	return c.each(ctx, func(ctx context.Context, w *workers) error {
		interval := c.cfg.Interval
		for {
			mine, err := c.turn(ctx, w.flow, min(interval*3/4, longestTurn))
			if err == nil && mine {
				err = w.scan(ctx)
			}
			switch {
			case ctx.Err() != nil:
				return nil
			case err != nil:
				c.service.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: completer cannot look for keys", attrErr(err))
			}
			if !backoff.Wait(ctx, backoff.Between(interval*3/4, interval*3/4+interval/2)) {
				return nil
			}
		}
	})
}

// turn reports whether it is this process's turn to scan for a flow. A turn is a Redis key that
// expires, so an owner that dies or takes longer does not hold the others up. A turn that ends
// later than one of this process would is not waited for.
func (c *Completer) turn(ctx context.Context, f *Flow, length time.Duration) (bool, error) {
	s := c.service
	if err := s.inFlight.enter(); err != nil {
		return false, err
	}
	defer s.inFlight.leave()
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	mine, err := s.redis.TakeTurn(ctx, f.cfg.Name, max(length, time.Millisecond))
	return mine, explain(ctx, "completer", err)
}

// Sweep scans for keys once, continues those that are due, and blocks until that is done. It is
// [Completer.Run] for tests and for programs with a scheduler of their own, and does not take turns
// with other processes. It ends as Run does when ctx ends or the service is closed.
//
// It returns [ErrUnavailable] if a server did not answer, and [ErrDamaged] if a shard's index is
// not a sorted set. In both cases the result covers the other shards. It returns [ErrClosed] if the
// service is closed. A server that did not answer for one shard is not asked for its others; in a
// cluster the other masters still are.
func (c *Completer) Sweep(ctx context.Context) (SweepResult, error) {
	var mu sync.Mutex
	var all SweepResult
	var errs error
	err := c.each(ctx, func(ctx context.Context, w *workers) error {
		err := w.scan(ctx)
		w.stop()
		mu.Lock()
		defer mu.Unlock()
		all.Due += w.due.Load()
		all.Finished += w.finished.Load()
		all.Failed += w.failed.Load()
		all.DeadLettered += w.deadLettered.Load()
		errs = errors.Join(errs, err)
		return nil
	})
	if errors.Is(err, ErrClosed) || errs == nil && ctx.Err() == nil {
		return all, err
	}
	return all, errs
}

// each calls do once for each flow name, concurrently, with workers for it. It waits for the calls
// and the workers. The context of do ends with ctx and when the service is closed.
func (c *Completer) each(ctx context.Context, do func(context.Context, *workers) error) error {
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
	var wg sync.WaitGroup
	errs := make(chan error, len(c.newest))
	for _, f := range c.newest {
		wg.Go(func() {
			w := c.startWorkers(ctx, work, f)
			errs <- do(ctx, w)
			w.stop()
		})
	}
	wg.Wait()
	close(errs)
	if errors.Is(context.Cause(ctx), ErrClosed) {
		return ErrClosed
	}
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// errStopped is the cause with which a completer that ends cancels its stages.
var errStopped = errors.New("redisidem: completer is stopped")

// errGoexit reports that a stage ended its goroutine.
var errGoexit = errors.New("stage called runtime.Goexit")

// errNotOurs reports that a record belongs to a flow of another name, or to no flow.
var errNotOurs = errors.New("redisidem: key belongs to no flow of that name")

// errPutOff reports that another worker had the lease after the index handed the key out, so the
// key is not due any more.
var errPutOff = errors.New("redisidem: key is due later")

// resume takes the lease on a key and runs its flow in the version that the key belongs to. For a
// finished key, the claim removes it from the due index.
func (c *Completer) resume(ctx context.Context, id identity, j job) (key *Key, err error) {
	// A panic of one key's stage or of the observer must not end the process that works on all
	// others.
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	sc := c.service.Scope("").Wait(0) // the scope is in the record
	f := j.flow
	lease, key, err := sc.claim(ctx, claim{id: id, flow: f, completing: true, handed: j.handed})
	var other *FlowError
	if errors.As(err, &other) {
		switch name, _, _ := strings.Cut(other.Stored, "/"); {
		case name != f.cfg.Name:
			return nil, errNotOurs
		case c.flows[other.Stored] != nil:
			f = c.flows[other.Stored]
			lease, key, err = sc.claim(ctx, claim{id: id, flow: f, completing: true, handed: j.handed})
		}
	}
	if errors.Is(err, ErrOtherFlow) || errors.Is(err, ErrUnknownRecoveryPoint) {
		return nil, c.refuse(ctx, sc, claim{id: id, flow: j.flow, completing: true, handed: j.handed, unable: true}, err)
	}
	if lease == nil {
		return key, err
	}
	if why := lease.deadLetterReason(); why != "" {
		return nil, lease.makeDeadLetter(ctx, why)
	}
	key, err = lease.runFlow(ctx)
	if errors.Is(err, ErrNoProgress) && !ofStage(err) {
		// The flow would go round in circles the next time, too.
		again, _, claimErr := sc.claim(ctx, claim{id: id, flow: f, completing: true})
		if again == nil {
			return key, errors.Join(err, claimErr)
		}
		return key, again.makeDeadLetter(ctx, err.Error())
	}
	return key, err
}
