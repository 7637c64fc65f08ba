package redisidem

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/backoff"
	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

const (
	// shareLasts is how long a share lasts without a renewal, and shareRenewal how old it is when
	// it is renewed.
	shareLasts   = 15 * time.Second
	shareRenewal = 5 * time.Second
	// refusalLasts is how long other requests of a scope are refused like one that found no place.
	// If its records have reached the limit, fullLasts is.
	refusalLasts = 50 * time.Millisecond
	fullLasts    = time.Second
	// awayLasts is how long a scope is counted by the process alone after a call that failed.
	// warnings is how often the log says so at most.
	awayLasts = time.Second
	warnings  = time.Minute
	// placeReturns is how long a place may be on its way back from another process.
	placeReturns = 5 * time.Millisecond
	// shareCalls is how many calls to one server a quota makes at once in the background.
	shareCalls = 16
	// windowParts is the number of parts of a window: records of the same part are counted
	// together. The script has the same number.
	windowParts = 16
)

// QuotaConfig configures a [Quota]. At least one of InFlight and Stored must be set. All processes
// of a namespace should have the same limits.
type QuotaConfig struct {
	// InFlight is how many requests a scope may have in flight at once, in all processes together.
	// Zero: no limit. Must not be negative.
	InFlight int

	// Stored is how many records a scope may make within Window, in all processes together. Zero:
	// no limit. Must not be negative.
	Stored int

	// Window is how long a record counts. It should be the longest retention of the records. At
	// least 16 ms. Default: the service's Retention.
	Window time.Duration
}

// Quota limits what each scope uses, in all processes with the same Redis and namespace together.
// It is an httpidem.Quota. Make one for each process with [NewQuota], and end it with
// [Quota.Close]. It is safe for concurrent use.
//
// A process holds a share of a scope's quota, and admits requests by it without a call to Redis.
// One round trip is needed for the first request of a scope in a process and when the share is used
// up. The share has spare places for further requests: a sixteenth of the limit for all processes
// together, and at least one each while there are some. A process without a spare place asks Redis
// for each request. Below a limit of 16 none has one.
// A scope in use costs one call in 5 s beside that. The share of a scope without a request for 5 s
// is given back, and costs nothing here or in Redis, except for the count of its records.
//
// The bounds, while Redis answers:
//
//   - Requests in flight are never more than the limit. The places that are held without a request
//     are no more than an eighth of it, so a scope is refused with at least seven eighths in use.
//     A place that is freed in one process is seen by another within 50 ms.
//   - Records within Window are never more than the limit. Each request in flight has a place,
//     since it may make a record, and no more than an eighth of the limit is held beside these. A
//     record counts for at least Window, and at most a sixteenth and 15 s longer.
//   - A process that is killed keeps its share for 15 s. Its places for records then count as used
//     for the Window, since each may have become a record.
//   - A process that is stopped for longer than 15 s loses its share in the same way, and takes a
//     new one before it admits a request. Its requests in flight are then more than the limit
//     allows, by no more than the number that it had.
//
// While Redis does not answer about a scope, a process goes on with its share of it. When that is
// used up or has lapsed, it admits what the limit allows to one process: n processes together then
// admit no more than n times the limit. One call for each scope in use, once in a second and
// Config.Timeout, finds out when Redis is back. Other scopes are not affected. Redis that has lost
// its data has forgotten the records, and so they no longer count.
type Quota struct {
	service *Service
	cfg     QuotaConfig

	mu     sync.Mutex // guards all below, and the fields of shares
	shares map[string]*scopeShare
	queue  []*scopeShare // that need a call in the background
	stats  QuotaStats
	warned time.Time // when the log last said that scopes are counted here only
	closed bool

	queued chan struct{}
	stop   context.CancelFunc
	ended  chan struct{}
}

// QuotaStats are the numbers of a [Quota] in this process.
type QuotaStats struct {
	// Scopes is how many scopes have a share here.
	Scopes int
	// InFlight and Stored are the highest use of a limit among these scopes, by all processes, as a
	// fraction of the limit. They are as old as the last call about the scope, up to 5 s.
	InFlight, Stored float64
	// Calls is how many calls to Redis were made, and Failed how many of these had no answer.
	Calls, Failed int64
	// Refused is how many requests were refused. Alone is how many were admitted by this process
	// alone, since Redis did not answer.
	Refused, Alone int64
}

// QuotaError reports that a scope has used up a quota. Its text never names the scope.
type QuotaError struct {
	// What names the quota, such as "requests in flight". Limit is its size.
	What  string
	Limit int
	// RetryAfter is how long the quota is expected to stay used up.
	RetryAfter time.Duration
}

func (e *QuotaError) Error() string {
	return "redisidem: a scope has used up its quota of " + e.What + " (" + strconv.Itoa(e.Limit) + ")"
}

// NewQuota makes a quota, and starts a goroutine that renews its shares until [Quota.Close]. It
// sends nothing to Redis. A field that breaks its bound is an [*InvalidError].
func NewQuota(service *Service, cfg QuotaConfig) (*Quota, error) {
	def(&cfg.Window, service.cfg.Retention)
	switch {
	case cfg.InFlight < 0:
		return nil, invalid("QuotaConfig.InFlight", "must not be negative: %d", cfg.InFlight)
	case cfg.Stored < 0:
		return nil, invalid("QuotaConfig.Stored", "must not be negative: %d", cfg.Stored)
	case cfg.InFlight == 0 && cfg.Stored == 0:
		return nil, invalid("QuotaConfig", "needs InFlight or Stored")
	}
	if err := checkWindow(cfg.Window); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	q := &Quota{
		service: service, cfg: cfg, shares: make(map[string]*scopeShare), queued: make(chan struct{}, 1), stop: stop, ended: make(chan struct{}),
	}
	go q.renew(ctx)
	return q, nil
}

// SetWindow replaces [QuotaConfig.Window], such as when records are retained for longer from now
// on. Records that Redis has counted keep their window. A window that breaks its bound is an
// [*InvalidError], and changes nothing. SetWindow sends nothing to Redis.
func (q *Quota) SetWindow(window time.Duration) error {
	if err := checkWindow(window); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cfg.Window = window
	for _, s := range q.shares {
		s.window = window
	}
	return nil
}

func checkWindow(window time.Duration) error {
	if window < windowParts*time.Millisecond {
		return invalid("QuotaConfig.Window", "must be at least %v: %v", windowParts*time.Millisecond, window)
	}
	return nil
}

// Admit asks for a place for a request of a scope. It calls Redis if the share of this process has
// no place left. A request then waits for the two calls of another one, if these are under way,
// and for two of its own: it blocks up to about four times Config.Timeout. The error is a
// [*QuotaError] if the scope has used up its quota, or that of ctx.
//
// If the error is nil, the caller calls done once, when the request ends. created reports whether
// the request has made a record.
func (q *Quota) Admit(ctx context.Context, scope string) (done func(created bool), err error) {
	q.mu.Lock()
	s := q.share(scope)
	if s.take(time.Now()) {
		q.queueIfUneven(s)
		q.mu.Unlock()
	} else {
		s.waiting++
		q.mu.Unlock()
		if err := q.ask(ctx, s); err != nil {
			return nil, err
		}
	}
	return func(created bool) {
		q.mu.Lock()
		defer q.mu.Unlock()
		s.inFlight--
		if created && q.cfg.Stored > 0 {
			s.made++
		}
		q.queueIfUneven(s)
	}, nil
}

// share returns the share of a scope. The caller holds mu.
func (q *Quota) share(scope string) *scopeShare {
	s := q.shares[scope]
	if s == nil {
		s = newShare(scope, &q.cfg)
		q.shares[scope] = s
	}
	return s
}

// ask takes a place for a request that is counted as waiting, and calls Redis for one if needed.
// Only one request of a scope calls at a time, for all that wait.
func (q *Quota) ask(ctx context.Context, s *scopeShare) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		q.mu.Lock()
		s.waiting--
		q.queueIfUneven(s)
		q.mu.Unlock()
		return ctx.Err()
	}
	defer func() { <-s.turn }()
	failed := false
	for calls := 0; ; calls++ {
		q.mu.Lock()
		err, decided := q.decide(s, calls, failed)
		if decided {
			s.waiting--
		}
		q.mu.Unlock()
		if decided {
			return err
		}
		if calls > 0 {
			backoff.Wait(ctx, placeReturns)
		}
		failed = q.call(context.WithoutCancel(ctx), s) != nil // it is for others, too
	}
}

// decide decides about a request that has led to a number of calls, unless another call is needed.
// failed is whether the last of these failed: the process then decides alone. The caller holds mu
// and the share's turn.
func (q *Quota) decide(s *scopeShare, calls int, failed bool) (err error, decided bool) { //nolint:revive // err belongs to the decision
	now := time.Now()
	if s.take(now) {
		return nil, true
	}
	alone := failed || q.closed || s.isAway(now, q.service.cfg.Timeout)
	switch {
	case alone && s.takeAlone():
		q.stats.Alone++
		return nil, true
	case alone, now.Before(s.refusedUntil):
	case calls == 0, calls == 1 && !s.isFull():
		return nil, false
	case s.isFull():
		s.refusedUntil = now.Add(fullLasts)
	default:
		s.refusedUntil = now.Add(refusalLasts)
	}
	q.stats.Refused++
	return s.refusal(now), true
}

// call reports a share to Redis, and takes over the places that the reply grants. It blocks up to
// Config.Timeout. The caller has the share's turn.
func (q *Quota) call(ctx context.Context, s *scopeShare) error {
	q.mu.Lock()
	sent := time.Now()
	report := s.report(sent)
	q.mu.Unlock()
	r, err := q.run(ctx, s, q.service.redis.NewShare(&report))
	q.mu.Lock()
	defer q.mu.Unlock()
	if err == nil {
		s.apply(&report, &r, sent)
	}
	if s.waiting < report.Waiting { // the places of requests that have left are spare
		q.queueIfUneven(s)
	}
	return err
}

// giveBack gives a share back, and forgets it unless it has been used meanwhile. A share with
// requests in flight is renewed instead. The caller has the share's turn.
func (q *Quota) giveBack(ctx context.Context, s *scopeShare) error {
	q.mu.Lock()
	if s.inFlight > 0 {
		if q.closed { // the last call keeps the places of these requests and no others
			s.requests.spare, s.records.spare = 0, 0
		}
		q.mu.Unlock()
		return q.call(ctx, s)
	}
	report := s.giveUp(time.Now())
	gone := s.isGone()
	q.mu.Unlock()
	if !gone {
		if _, err := q.run(ctx, s, q.service.redis.NewGiveBack(&report)); err != nil {
			return err // the next renewal tries again
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	s.until, s.confirmed, s.records.held = time.Time{}, report.Made, 0
	if s.isUnused() && s.isGone() {
		delete(q.shares, s.scope)
	}
	return nil
}

// run sends a call about a share.
func (q *Quota) run(ctx context.Context, s *scopeShare, call protocol.Call) (shared protocol.Shared, err error) {
	r, err := q.service.ask(ctx, "quota", call)
	if err == nil && r.Status != protocol.StatusOK {
		err = r.Unexpected()
	}
	if err == nil {
		shared, err = r.Shared()
	}
	if q.note(s, err, time.Now()) {
		q.service.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: the quota of a scope counts in this process only", attrErr(err))
	}
	return shared, err
}

// note notes the result of a call about a share. It reports whether the log should have it.
func (q *Quota) note(s *scopeShare, err error, now time.Time) (warn bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.Calls++
	if err == nil {
		s.away = time.Time{}
		return false
	}
	q.stats.Failed++
	warn = s.away.IsZero() && !q.closed && now.Sub(q.warned) >= warnings
	if warn {
		q.warned = now
	}
	s.away = now.Add(awayLasts)
	return warn
}

// Stats returns the numbers of this process. It sends nothing, and looks at each scope with a
// share.
func (q *Quota) Stats() QuotaStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	stats := q.stats
	stats.Scopes = len(q.shares)
	for _, s := range q.shares {
		stats.InFlight = max(stats.InFlight, s.requests.use(s.working))
		stats.Stored = max(stats.Stored, s.records.use(s.counted))
	}
	return stats
}
