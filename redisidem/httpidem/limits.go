package httpidem

import (
	"context"
	"sync"
	"time"
)

// DefaultLimitsWindow is the default of LimitsConfig.Window.
const DefaultLimitsWindow = 24 * time.Hour

// LimitsConfig tunes [Limits]. At least one of InFlight and Stored is to be set.
type LimitsConfig struct {
	// ResultInFlight is how many requests with keys a scope may have in flight in this process, waiting ones among them. Zero: any
	// number.
	InFlight int

	// Stored is how many records this process makes for a scope within Window. With n processes a scope can get n times as many.
	// Zero: any number.
	Stored int

	// Window should be the service's Retention: a record counts for at least so long, and at most a sixteenth longer. Default: 24 h.
	Window time.Duration
}

// Limits is a [Quota] that counts in this process. It takes memory for each scope that has requests in flight or records that
// count, and several middlewares may share one.
type Limits struct {
	cfg LimitsConfig

	mu     sync.Mutex
	scopes map[string]*usage
	sweep  int // the number of scopes at which those that use nothing are looked for
}

// slots are the parts of a window in which records are counted together. One more is kept, since the youngest is not over yet.
const slots = 16

// usage is what one scope uses.
type usage struct {
	inFlight int
	slot     int64 // the youngest, counted from 1970
	made     [slots + 1]int
}

// leastSweep keeps sweeps from being worth less than they cost.
const leastSweep = 1024

// NewLimits makes Limits. A field that breaks its bound is a [*redisidem.InvalidError].
func NewLimits(cfg LimitsConfig) (*Limits, error) {
	def(&cfg.Window, DefaultLimitsWindow)
	switch {
	case cfg.InFlight < 0:
		return nil, invalid("LimitsConfig.InFlight", "must not be negative: %d", cfg.InFlight)
	case cfg.Stored < 0:
		return nil, invalid("LimitsConfig.Stored", "must not be negative: %d", cfg.Stored)
	case cfg.InFlight == 0 && cfg.Stored == 0:
		return nil, invalid("LimitsConfig", "must set InFlight or Stored")
	case cfg.Window < slots*time.Millisecond:
		return nil, invalid("LimitsConfig.Window", "must be at least %v: %v", slots*time.Millisecond, cfg.Window)
	}
	return &Limits{cfg: cfg, scopes: make(map[string]*usage), sweep: leastSweep}, nil
}

// Admit implements [Quota].
func (l *Limits) Admit(_ context.Context, scope string) (done func(made bool), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	u := l.scopes[scope]
	if u == nil {
		l.sweepIfMany(now)
		u = &usage{slot: l.slotOf(now)}
		l.scopes[scope] = u
	}
	u.advance(l.slotOf(now))
	switch {
	case l.cfg.InFlight > 0 && u.inFlight >= l.cfg.InFlight:
		return nil, &QuotaError{What: "requests in flight", Limit: l.cfg.InFlight, RetryAfter: time.Second}
	// Each request in flight may make a record.
	case l.cfg.Stored > 0 && u.stored()+u.inFlight >= l.cfg.Stored:
		return nil, &QuotaError{What: "stored keys", Limit: l.cfg.Stored, RetryAfter: l.untilFewer(u, now)}
	}
	u.inFlight++
	return func(made bool) { l.release(scope, u, made) }, nil
}

func (l *Limits) release(scope string, u *usage, made bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u.inFlight--
	if made && l.cfg.Stored > 0 {
		u.advance(l.slotOf(time.Now()))
		u.made[0]++
	}
	if u.inFlight == 0 && u.stored() == 0 {
		delete(l.scopes, scope)
	}
}

// sweepIfMany forgets the scopes that use nothing any more, each time their number has doubled. The caller holds mu.
func (l *Limits) sweepIfMany(now time.Time) {
	if len(l.scopes) < l.sweep {
		return
	}
	for scope, u := range l.scopes {
		u.advance(l.slotOf(now))
		if u.inFlight == 0 && u.stored() == 0 {
			delete(l.scopes, scope)
		}
	}
	l.sweep = max(2*len(l.scopes), leastSweep)
}

func (l *Limits) slotOf(t time.Time) int64 { return t.UnixNano() / l.width() }

func (l *Limits) width() int64 { return int64(l.cfg.Window) / slots }

// untilFewer returns how long it takes until the oldest record does not count any more, or until it may turn out that what is in
// flight makes none.
func (l *Limits) untilFewer(u *usage, now time.Time) time.Duration {
	if u.stored() < l.cfg.Stored {
		return time.Second
	}
	oldest := slots
	for u.made[oldest] == 0 {
		oldest--
	}
	return time.Unix(0, (u.slot+int64(slots+1-oldest))*l.width()).Sub(now)
}

// advance moves on to a slot. A clock that was set back moves nothing.
func (u *usage) advance(slot int64) {
	for ; u.slot < slot; u.slot++ {
		if u.made == [slots + 1]int{} {
			u.slot = slot
			return
		}
		copy(u.made[1:], u.made[:slots])
		u.made[0] = 0
	}
}

func (u *usage) stored() (n int) {
	for _, made := range u.made {
		n += made
	}
	return n
}
