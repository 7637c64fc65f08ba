package redisidem

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/lua"
)

// The defaults of [Completer].
const (
	DefaultInterval    = 5 * time.Second
	DefaultConcurrency = 8
)

const (
	// scouts is how many shards are asked at once, and armful how many keys are taken from one in one go.
	scouts = 8
	armful = 16
)

// Completer finishes keys whose clients never came back. It looks for keys of its flows that are not finished, whose lease
// has lapsed and whose last run is older than the flow's RecoverAfter, and runs the flow from where they stand. What fails
// comes again, ever later, until it has used up the flow's MaxAttempts and becomes a dead letter: see [Service.DeadLetters].
//
// Any number of processes may run one. None gets into the way of a live worker, since each takes the lease as anybody else
// does.
//
// What a key needs must be in its record: a stage run by a completer finds the request in [Stage.Key], and whatever earlier
// stages left in their state. A record must not hold its caller's credentials.
type Completer struct {
	// Interval is the pause between two looks for keys, give or take a quarter. Default: 5 s. A look costs the server 1024
	// small scripts for each flow name, whatever the number of keys. The processes take turns, so that many of them look no
	// more often than one.
	Interval time.Duration
	// Concurrency is how many keys are carried on at once. Default: 8.
	Concurrency int

	service *Service
	flows   map[string]*Flow // by name/version
	newest  map[string]*Flow // by name
}

// Swept is what a completer did in one look for keys.
type Swept struct {
	// Due is how many keys it was handed. Of them it carried on Finished to the end and Failed not; Buried became dead
	// letters. The others were in other hands, finished already or waiting for their clients.
	Due, Finished, Failed, Buried int64
}

// NewCompleter makes a completer of at least one flow; the same flow in several versions is several flows. Each must have a
// RecoverAfter. Set its fields before it is used.
func NewCompleter(svc *Service, flows ...*Flow) (*Completer, error) {
	if svc == nil {
		return nil, invalid("svc", "must not be nil")
	}
	if len(flows) == 0 {
		return nil, invalid("flows", "must not be empty")
	}
	c := &Completer{service: svc, flows: make(map[string]*Flow), newest: make(map[string]*Flow)}
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

// Run looks for keys and carries them on until ctx ends, or the service is closed; it then cancels the contexts of the stages
// it runs, waits for them, and returns ctx's error or [ErrClosed]. What goes wrong with a key, or with Redis, is told to
// Config.Logger and Config.Observer, and tried again.
func (c *Completer) Run(ctx context.Context) error {
	w, err := c.hire(ctx)
	if err != nil {
		return err
	}
	defer w.dismiss()
	interval := c.Interval
	def(&interval, DefaultInterval)
	for {
		flows, err := c.turns(ctx, interval*3/4)
		if err == nil {
			err = w.look(ctx, flows)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrClosed):
			return err
		case err != nil:
			c.service.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: completer cannot look for keys", attrErr(err))
		}
		timer := time.NewTimer(interval*3/4 + below(interval/2+1))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// turns returns the flows whose turn to be looked for is this process's. A turn is a Redis key that lives until the next one: who
// dies with it holds the others up for no longer, and who takes longer gets help.
func (c *Completer) turns(ctx context.Context, length time.Duration) (mine []*Flow, err error) {
	s := c.service
	if err := s.life.enter(); err != nil {
		return nil, err
	}
	defer s.life.leave()
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	for _, f := range c.newest {
		turn := redis.SetArgs{Mode: "NX", TTL: max(length, time.Millisecond)}
		err := repeat(ctx, func(ctx context.Context) error {
			return s.client.SetArgs(ctx, s.cfg.Namespace+":turn:"+f.cfg.Name, s.cfg.Owner, turn).Err()
		})
		switch {
		case err == nil:
			mine = append(mine, f)
		case !errors.Is(err, redis.Nil):
			return nil, explain(ctx, "completer", err)
		}
	}
	return mine, nil
}

// Sweep looks for keys once, carries on those that are due, and waits until it is done with them. It is Run for those who
// have a scheduler of their own, and for tests: it asks for no turn.
//
// It returns [ErrUnavailable] when a server did not answer, and [ErrDamaged] when a shard's index is none, both together with what
// it did elsewhere, and [ErrClosed]. A server that did not answer for one shard is not asked for its others: in a cluster the other
// masters are.
func (c *Completer) Sweep(ctx context.Context) (Swept, error) {
	w, err := c.hire(ctx)
	if err != nil {
		return Swept{}, err
	}
	err = w.look(ctx, slices.Collect(maps.Values(c.newest)))
	w.dismiss()
	return Swept{w.due.Load(), w.finished.Load(), w.failed.Load(), w.buried.Load()}, err
}

// crew are the workers of one Run or Sweep.
type crew struct {
	completer *Completer
	jobs      chan job
	wg        sync.WaitGroup

	due, finished, failed, buried atomic.Int64
}

// job is a key that is due.
type job struct {
	flow           *Flow // the newest of its name
	prefix, member string
	handed         string // when it is due again, as the due index says it, unless somebody has the lease meanwhile
}

// hire starts the workers.
func (c *Completer) hire(ctx context.Context) (*crew, error) {
	concurrency := c.Concurrency
	def(&concurrency, DefaultConcurrency)
	switch {
	case concurrency < 1:
		return nil, invalid("Completer.Concurrency", "must be at least 1: %d", concurrency)
	case c.Interval < 0:
		return nil, invalid("Completer.Interval", "must not be negative: %v", c.Interval)
	}
	w := &crew{completer: c, jobs: make(chan job)}
	for range concurrency {
		w.wg.Go(func() {
			for j := range w.jobs {
				// In a goroutine of its own, which a stage may end.
				var one sync.WaitGroup
				one.Go(func() { w.do(ctx, j) })
				one.Wait()
			}
		})
	}
	return w, nil
}

// dismiss waits for the workers to end.
func (w *crew) dismiss() {
	close(w.jobs)
	w.wg.Wait()
}

// look asks all shards for what is due of some flows, and returns when the workers have taken the last of it. A shard that cannot
// be asked keeps nobody from the others; but a server that did not answer for one is not asked for its others, so that it costs the
// time of one question.
func (w *crew) look(ctx context.Context, flows []*Flow) error {
	if len(flows) == 0 {
		return nil
	}
	// Two completers that begin together do not meet in each shard.
	first := below(shards)
	var next atomic.Int64
	var silent sync.Map // servers that did not answer
	errs := make([]error, scouts)
	var wg sync.WaitGroup
	for i := range scouts {
		wg.Go(func() {
			for n := next.Add(1) - 1; n < shards && ctx.Err() == nil; n = next.Add(1) - 1 {
				if _, ok := silent.Load(anyMaster); ok {
					return
				}
				prefix := shardPrefix(w.completer.service.cfg.Namespace, (first+int(n))%shards)
				server := w.completer.service.master(ctx, prefix)
				for _, f := range flows {
					if _, ok := silent.Load(server); ok {
						break
					}
					err := w.scout(ctx, prefix, f)
					errs[i] = errors.Join(errs[i], err)
					switch {
					case errors.Is(err, ErrClosed):
						return
					case errors.Is(err, ErrUnavailable):
						silent.Store(server, true)
					}
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// scout asks one shard for the keys of one flow that are due.
func (w *crew) scout(ctx context.Context, prefix string, f *Flow) error {
	s := w.completer.service
	// What is handed out is out of the other completers' sight until a worker has had time to claim it.
	aside := max(s.cfg.Lease, 2*s.cfg.Timeout)
	for {
		c := newCall(lua.Due, newToken(), 3, prefix+"due:"+f.cfg.Name)
		c.add(armful, aside.Milliseconds(), (s.cfg.Lease + s.cfg.Retention).Milliseconds())
		r, err := s.ask(ctx, "completer", c)
		if err != nil {
			return err
		}
		if r.status != statusOK {
			return r.unexpected(lua.Due)
		}
		for _, member := range r.rest {
			select {
			case w.jobs <- job{f, prefix, member, r.number(0)}:
				w.due.Add(1)
			case <-ctx.Done():
				return nil // they come back by themselves
			}
		}
		if len(r.rest) < armful {
			return nil
		}
	}
}

// do carries a key on.
func (w *crew) do(ctx context.Context, j job) {
	s := w.completer.service
	id, ok := placed(j.prefix, j.member)
	if !ok {
		s.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: due index holds what is no key", slog.String("member", j.member))
		return
	}
	key, err := (*Key)(nil), errGoexit
	defer func() { w.count(ctx, id, key, err) }()
	key, err = w.completer.resume(ctx, id, j)
}

// count tells what became of a key.
func (w *crew) count(ctx context.Context, id identity, key *Key, err error) {
	switch {
	case errors.Is(err, errBuried):
		w.buried.Add(1)
	case err == nil:
		if key != nil && key.own {
			w.finished.Add(1)
		}
	case errors.Is(err, ErrLocked), errors.Is(err, ErrNotFound), errors.Is(err, errNotOurs),
		errors.Is(err, errPutOff):
		// A worker has it or had it meanwhile, or its retention is over, or it is another record of that name.
	default:
		w.failed.Add(1)
		w.completer.service.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: key not carried on", attrKey(id), attrErr(err))
	}
}

// errGoexit says that a stage has ended its goroutine.
var errGoexit = errors.New("stage called runtime.Goexit")

// errNotOurs says that a record belongs to a flow of another name, or to none.
var errNotOurs = errors.New("redisidem: key belongs to no flow of that name")

// errPutOff says that somebody had the lease on a key since it was handed out: it is not due any more.
var errPutOff = errors.New("redisidem: key is due later")

// errBuried says that a key became a dead letter.
var errBuried = errors.New("redisidem: dead letter")

// resume takes the lease on a key and runs its flow, in the version that the key belongs to. A key that is finished already is
// taken out of the due index by the claim.
func (c *Completer) resume(ctx context.Context, id identity, j job) (key *Key, err error) {
	// A panic about one key, a stage's or the observer's, must not end the process that carries on all the others.
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
	if lease == nil {
		return key, err
	}
	if why := lease.hopeless(); why != "" {
		return nil, lease.giveKeyUp(ctx, why)
	}
	key, err = lease.runFlow(ctx)
	if errors.Is(err, ErrNoProgress) {
		// The flow goes round in circles, and would the next time.
		again, _, claimErr := sc.claim(ctx, claim{id: id, flow: f, completing: true})
		if again == nil {
			return key, errors.Join(err, claimErr)
		}
		return key, again.giveKeyUp(ctx, err.Error())
	}
	return key, err
}

// hopeless tells why a completer gives the key up, "" if it does not.
func (l *Lease) hopeless() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.key
	if made := l.attempt - 1; made >= l.flow.limit(k.requeued, k.Revision) {
		return fmt.Sprintf("%d attempts", made)
	}
	// Each claim prolongs the record, and nobody would ever see the end of it.
	cfg := &l.scope.service.cfg
	bound := cfg.Retention + cfg.Lease + l.flow.cfg.InterimFor
	since := latest(k.CreatedAt, k.requeued.at)
	if age := k.LockedAt.Sub(since); k.hasInterim && age > bound {
		return fmt.Sprintf("interim answers for %v", age)
	}
	// Attempts that count have more time between them than others, but none has more than the record has to live.
	if age := k.LockedAt.Sub(latest(since, k.UpdatedAt)); age/time.Duration(l.attempt) > bound {
		return fmt.Sprintf("nothing done for %v", age)
	}
	return ""
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// limit is how many attempts of the stage at this revision a completer makes.
func (f *Flow) limit(r requeue, revision int64) int {
	if r.revision == revision {
		return f.cfg.MaxAttempts + int(r.attempts)
	}
	return f.cfg.MaxAttempts
}

// hopeless reports whether the completer's claim with this reply, whose record cannot be read, was one too many: each prolongs the
// record, so that it would never end.
func (f *Flow) hopeless(r reply) bool {
	attempt, err := parseCount("attempts of this revision", r.number(2))
	if err != nil {
		return false
	}
	var c control
	var q requeue
	for pairs := r.rest; len(pairs) > 1; pairs = pairs[2:] {
		switch pairs[0] { // what of these cannot be read does not count
		case fieldControl:
			c, _ = decodeControl(pairs[1])
		case fieldRequeued:
			q, _ = decodeRequeue(pairs[1])
		}
	}
	return int(attempt) > f.limit(q, c.revision)
}

// giveKeyUp makes the key a dead letter, and ends the lease.
func (l *Lease) giveKeyUp(ctx context.Context, why string) error {
	return buriedOr(l.bury(ctx, fmt.Sprintf("stage %q of %s: %s", l.Key().RecoveryPoint, l.flow, why)))
}

// buryUnread makes a key a dead letter whose record this process cannot read, as why says.
func (s *Service) buryUnread(ctx context.Context, c claim, token string, why error) error {
	buried, err := s.abandon(ctx, c.id, token, c.flow, "", c.flow.id+": the record cannot be read")
	if buried {
		s.observe(ctx, Event{Kind: Buried, Key: c.id.digest, Err: why})
	}
	return buriedOr(buried, explain(context.WithoutCancel(ctx), "abandon", err))
}

// buriedOr returns what became of a key that was to be given up.
func buriedOr(buried bool, err error) error {
	switch {
	case err != nil:
		return err
	case !buried:
		return errPutOff // the lease was gone
	}
	return errBuried
}
