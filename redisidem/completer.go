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
	// scanners is how many shards are asked at once, and armful how many keys are taken from one in
	// one go.
	scanners  = 8
	batchSize = 16
	// longestTurn is how long a process that has looked for a flow keeps others with a longer
	// Interval from looking, at most.
	longestTurn = 15 * time.Second
)

// CompleterConfig configures a [Completer]. The zero value of each field means its default, and a
// nil *CompleterConfig means all defaults.
type CompleterConfig struct {
	// Interval is the average pause between two scans for keys; each pause differs from it by up to
	// a quarter. A scan costs the server 1024 small scripts for each flow name, whatever the number
	// of keys. Processes take turns, so that many of them scan no more often than one: a turn lasts
	// three quarters of its owner's Interval, at most 15 s, and a process with a shorter turn does
	// not wait for a longer one. Must not be negative. Default: 5 s.
	Interval time.Duration

	// Concurrency is how many keys of each flow name are worked on at once. Flows do not share
	// workers. Each shard with due keys is asked for one batch of 16 before any is asked again. At
	// least 1. Default: 8.
	Concurrency int

	// Drain is how long the keys under way may go on after Run or Sweep was asked to end, or the
	// service was closed. After that the contexts of their stages are cancelled. Such a stage has
	// begun an attempt, which [Stage.Attempt] counts, but it has not failed: MaxAttempts does not
	// count it. Default: 15 s. Negative: the contexts are cancelled at once.
	Drain time.Duration
}

// Completer finishes keys whose clients never came back. It scans for unfinished keys of its flows
// whose lease has lapsed and whose last run is older than the flow's RecoverAfter, and runs the
// flow from where they stand. A key that fails is tried again after a growing pause. When it has
// used up the flow's MaxAttempts, it becomes a dead letter: see [Service.DeadLetters].
//
// Any number of processes may run a completer. A completer does not disturb a live worker, since it
// takes the lease on a key as every worker does.
//
// A stage that a completer runs finds the request in [Stage.Key] and the state of earlier stages in
// [Stage.State]. It has nothing else of its caller. Records must not hold credentials.
type Completer struct {
	cfg     CompleterConfig
	service *Service
	flows   map[string]*Flow // by name/version
	newest  map[string]*Flow // by name
}

// SweepResult is what a completer did in one look for keys.
type SweepResult struct {
	// Due is how many keys it was handed. Of them it carried on Finished to the end and Failed not;
	// DeadLettered became dead letters. The others were in other hands, finished already or waiting
	// for their clients.
	Due, Finished, Failed, DeadLettered int64
}

// NewCompleter makes a completer for at least one flow. Two versions of a flow are two flows. Each
// flow needs a RecoverAfter. A nil cfg means all defaults.
//
// It returns an [*InvalidError] for a nil svc, for flows that are missing, repeated or without
// RecoverAfter, and for a field of cfg that breaks its bound. It sends nothing.
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

// Run looks for keys and carries them on until ctx ends, or the service is closed. It then takes no
// more keys, gives those under way Drain to come to an end, cancels the contexts of the stages that
// are left, waits for them, and returns ctx's error or [ErrClosed]. What goes wrong with a key, or
// with Redis, is reported to Config.Logger and Config.Observer, and tried again.
//
// Each flow name is looked for by itself, so that a flow whose stages hang holds up no other.
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

// turn reports whether it is this process's turn to look for a flow. A turn is a Redis key that
// lives for three quarters of its owner's Interval: an owner that dies with it holds the others up
// for no longer, and one that takes longer gets help. A turn that ends later than one of this
// process's would is not waited for.
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

// Sweep looks for keys once, carries on those that are due when it comes to their shard, and waits
// until it is done with them. It is Run for programs that have a scheduler of their own, and for
// tests: it asks for no turn. When ctx ends or the service is closed, it ends as Run does.
//
// It returns [ErrUnavailable] when a server did not answer, and [ErrDamaged] when a shard's index
// is not a sorted set, both together with the result for the other shards. It returns [ErrClosed]
// when the service is closed. A server that did not answer for one shard is not asked for its
// others: in a cluster the other masters are.
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

// each calls do with the workers of each flow name at once, and waits for it and for them. The
// context that do gets ends with ctx, and when the service is closed.
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

// errStopped is the cause with which the stages of a completer that ends are cancelled.
var errStopped = errors.New("redisidem: completer is stopped")

// errGoexit says that a stage has ended its goroutine.
var errGoexit = errors.New("stage called runtime.Goexit")

// errNotOurs says that a record belongs to a flow of another name, or to none.
var errNotOurs = errors.New("redisidem: key belongs to no flow of that name")

// errPutOff reports that another worker has had the lease on a key since it was handed out: the key
// is not due any more.
var errPutOff = errors.New("redisidem: key is due later")

// resume takes the lease on a key and runs its flow, in the version that the key belongs to. A key
// that is finished already is taken out of the due index by the claim.
func (c *Completer) resume(ctx context.Context, id identity, j job) (key *Key, err error) {
	// A panic about one key, a stage's or the observer's, must not end the process that carries on
	// all the others.
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	sc := c.service.Scope("").Wait(0) // the record says whose it is
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
		// The flow goes round in circles, and would the next time.
		again, _, claimErr := sc.claim(ctx, claim{id: id, flow: f, completing: true})
		if again == nil {
			return key, errors.Join(err, claimErr)
		}
		return key, again.makeDeadLetter(ctx, err.Error())
	}
	return key, err
}
