package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// LimitsConfig configures [Limits]. At least one of InFlight and Stored must be set.
type LimitsConfig struct {
	// InFlight is how many requests with keys a scope may have in flight in this process, including
	// waiting requests. Zero: no limit.
	InFlight int

	// Stored is how many records this process creates for a scope within Window. With n processes a
	// scope can have n times as many. Zero: no limit.
	Stored int

	// Window should be the service's Retention. A record counts for at least Window, and at most a
	// sixteenth longer. Default: 24 h.
	Window time.Duration
}

// Limits is an [httpidem.Quota] that counts in this process. It needs memory for each scope that
// has requests in flight or records that count. Several routes may share one. It is safe for
// concurrent use.
type Limits struct {
	cfg LimitsConfig

	mu      sync.Mutex
	scopes  map[string]*usage
	sweepAt int // the number of scopes at which unused ones are removed
}

// windowParts is the number of parts of a window. Records of the same part are counted together.
// One more part is kept, since the youngest has not ended yet.
const windowParts = 16

// usage is the usage of one scope.
type usage struct {
	inFlight int
	part     int64 // the youngest part of the window, counted from 1970
	created  [windowParts + 1]int
}

// minSweep is the number of scopes below which a sweep is not worth its cost.
const minSweep = 1024

// NewLimits returns Limits. A field that is out of its bounds is an error that names the field and
// the bound.
func NewLimits(cfg LimitsConfig) (*Limits, error) {
	cfg.Window = cmp.Or(cfg.Window, 24*time.Hour)
	switch {
	case cfg.InFlight < 0:
		return nil, fmt.Errorf("--scope-in-flight must not be negative: %d", cfg.InFlight)
	case cfg.Stored < 0:
		return nil, fmt.Errorf("--scope-keys must not be negative: %d", cfg.Stored)
	case cfg.InFlight == 0 && cfg.Stored == 0:
		return nil, errors.New("limits: the configuration needs InFlight or Stored")
	case cfg.Window < windowParts*time.Millisecond:
		return nil, fmt.Errorf("limits: Window must be at least %v: %v", windowParts*time.Millisecond, cfg.Window)
	}
	return &Limits{cfg: cfg, scopes: make(map[string]*usage), sweepAt: minSweep}, nil
}

// Admit implements [httpidem.Quota].
func (l *Limits) Admit(_ context.Context, scope string) (done func(created bool), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	u := l.scopes[scope]
	if u == nil {
		l.sweepIfMany(now)
		u = &usage{part: l.partOf(now)}
		l.scopes[scope] = u
	}
	u.advance(l.partOf(now))
	switch {
	case l.cfg.InFlight > 0 && u.inFlight >= l.cfg.InFlight:
		return nil, &httpidem.QuotaError{What: "requests in flight", Limit: l.cfg.InFlight, RetryAfter: time.Second}
	// Each request in flight may make a record.
	case l.cfg.Stored > 0 && u.stored()+u.inFlight >= l.cfg.Stored:
		return nil, &httpidem.QuotaError{What: "stored keys", Limit: l.cfg.Stored, RetryAfter: l.untilRoom(u, now)}
	}
	u.inFlight++
	return func(created bool) { l.release(scope, u, created) }, nil
}

func (l *Limits) release(scope string, u *usage, created bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u.inFlight--
	if created && l.cfg.Stored > 0 {
		u.advance(l.partOf(time.Now()))
		u.created[0]++
	}
	if u.isZero() {
		delete(l.scopes, scope)
	}
}

// sweepIfMany removes unused scopes each time the number of scopes has doubled. The caller holds
// mu.
func (l *Limits) sweepIfMany(now time.Time) {
	if len(l.scopes) < l.sweepAt {
		return
	}
	for scope, u := range l.scopes {
		u.advance(l.partOf(now))
		if u.isZero() {
			delete(l.scopes, scope)
		}
	}
	l.sweepAt = max(2*len(l.scopes), minSweep)
}

func (l *Limits) partOf(t time.Time) int64 { return t.UnixNano() / l.partWidth() }

func (l *Limits) partWidth() int64 { return int64(l.cfg.Window) / windowParts }

// untilRoom returns the time until the oldest record stops counting. If requests in flight use up
// the limit, it returns a second, since each of them may end without a record.
func (l *Limits) untilRoom(u *usage, now time.Time) time.Duration {
	if u.stored() < l.cfg.Stored {
		return time.Second
	}
	oldest := windowParts
	for u.created[oldest] == 0 {
		oldest--
	}
	return time.Unix(0, (u.part+int64(windowParts+1-oldest))*l.partWidth()).Sub(now)
}

// advance moves the window to a later part. It does nothing if the clock was set back.
func (u *usage) advance(part int64) {
	for ; u.part < part; u.part++ {
		if u.created == [windowParts + 1]int{} {
			u.part = part
			return
		}
		copy(u.created[1:], u.created[:windowParts])
		u.created[0] = 0
	}
}

func (u *usage) isZero() bool { return u.inFlight == 0 && u.stored() == 0 }

func (u *usage) stored() (n int) {
	for _, created := range u.created {
		n += created
	}
	return n
}
