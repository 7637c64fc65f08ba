package console

import (
	"context"
	"sync"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// activitySeconds is over how many seconds an [Activity] counts.
const activitySeconds = 60

// eventKinds is one more than the highest kind of an event.
const eventKinds = int(redisidem.EventHung) + 1

// Activity counts the events of a service in this process, for [Config.Activity]. Pass it as the
// service's observer, or as one of several to [redisidem.Observers]:
//
//	activity := console.NewActivity()
//	svc, err := redisidem.Open(ctx, url, &redisidem.Config{Observer: activity})
//
// It keeps the last minute, second by second, in some 20 kB. It is safe for concurrent use.
type Activity struct {
	mu      sync.Mutex
	began   int64 // the second in which it was made
	seconds [activitySeconds + 1]activitySecond
}

// activitySecond is the events of one second.
type activitySecond struct {
	unix   int64
	events [eventKinds]eventCount
}

// eventCount is the events of one kind.
type eventCount struct {
	n            int64
	sum, longest time.Duration
}

// NewActivity returns an Activity without events.
func NewActivity() *Activity { return &Activity{began: time.Now().Unix()} }

// Observe implements [redisidem.Observer]. It does not block.
func (a *Activity) Observe(_ context.Context, e redisidem.Event) {
	if e.Kind <= 0 || int(e.Kind) >= eventKinds {
		return
	}
	now := time.Now().Unix()
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.seconds[now%int64(len(a.seconds))]
	if s.unix != now {
		*s = activitySecond{unix: now}
	}
	c := &s.events[e.Kind]
	c.n++
	c.sum += e.Duration
	c.longest = max(c.longest, e.Duration)
}

// activityView is what the overview shows of an Activity.
type activityView struct {
	Events []eventRate
	Trend  trend // of leases
	Span   time.Duration
}

// eventRate is how often a kind of event happened, and how long it took.
type eventRate struct {
	Kind      redisidem.EventKind
	Count     int64
	PerSecond float64
	Mean      time.Duration // 0 without a duration
	Longest   time.Duration
}

// usualKinds are shown although there was no such event.
var usualKinds = map[redisidem.EventKind]bool{
	redisidem.EventClaimed: true, redisidem.EventCommitted: true, redisidem.EventReplayed: true, redisidem.EventRefused: true,
}

// view returns the events of the last seconds that are over. It returns nil before the first is.
func (a *Activity) view() *activityView {
	now := time.Now().Unix()
	a.mu.Lock()
	defer a.mu.Unlock()
	seconds := min(now-a.began, activitySeconds)
	if seconds < 1 {
		return nil
	}
	var sums [eventKinds]eventCount
	leases := make([]int64, seconds)
	for i := range leases {
		unix := now - seconds + int64(i)
		s := &a.seconds[unix%int64(len(a.seconds))]
		if s.unix != unix {
			continue
		}
		leases[i] = s.events[redisidem.EventClaimed].n
		for kind, c := range s.events {
			sum := &sums[kind]
			sum.n += c.n
			sum.sum += c.sum
			sum.longest = max(sum.longest, c.longest)
		}
	}
	v := &activityView{Trend: newTrend("Leases per second", "in-flight", leases), Span: time.Duration(seconds) * time.Second}
	for i, c := range sums {
		kind := redisidem.EventKind(i)
		if c.n == 0 && !usualKinds[kind] {
			continue
		}
		r := eventRate{Kind: kind, Count: c.n, PerSecond: float64(c.n) / float64(seconds), Longest: c.longest}
		if c.n > 0 {
			r.Mean = c.sum / time.Duration(c.n)
		}
		v.Events = append(v.Events, r)
	}
	return v
}
