package redisidem

import (
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// scopeShare is the share that a process has of the quota of a scope. The quota's mu guards all
// below turn.
type scopeShare struct {
	scope  string
	window time.Duration
	turn   chan struct{} // full while a call is under way, and while its caller decides

	id       string
	calls    int64
	inFlight int
	waiting  int
	requests places
	records  places
	// made is how many records were made under the share, and confirmed how many of these Redis has
	// counted.
	made, confirmed int64
	until           time.Time // when the share lapses, by this process's clock
	renewal         time.Time // when it is renewed
	refusedUntil    time.Time
	away            time.Time // until when the process counts alone; zero while Redis answers
	used            bool      // since the last renewal
	queued          bool      // for a call in the background

	// The use by all processes at the last call, and when fewer records count.
	working, counted int
	fewer            time.Time
}

// places are the places of a share for requests in flight, or for records.
type places struct {
	limit int // of the scope; 0 for none
	held  int
	spare int  // how many more than its requests need the process should hold
	short bool // whether fewer were granted
}

func newShare(scope string, cfg *QuotaConfig) *scopeShare {
	return &scopeShare{
		scope: scope, window: cfg.Window, id: protocol.NewToken(), turn: make(chan struct{}, 1),
		requests: places{limit: cfg.InFlight}, records: places{limit: cfg.Stored},
	}
}

// making is how many places for records are in use: by requests that may make one, and by records
// that Redis has not counted yet.
func (s *scopeShare) making() int { return s.inFlight + int(s.made-s.confirmed) }

// take takes a place for a request. It reports false if there is no place.
func (s *scopeShare) take(now time.Time) bool {
	if !now.Before(s.until) || !s.requests.room(s.inFlight) || !s.records.room(s.making()) {
		return false
	}
	s.enter()
	return true
}

// takeAlone takes a place as if the scope used no other process.
func (s *scopeShare) takeAlone() bool {
	if s.requests.limit > 0 && s.inFlight >= s.requests.limit || s.records.limit > 0 && s.making() >= s.records.limit {
		return false
	}
	s.enter()
	return true
}

func (s *scopeShare) enter() {
	s.inFlight++
	s.used = true
}

// isFull reports whether all records that the limit allows have been made.
func (s *scopeShare) isFull() bool { return s.records.limit > 0 && s.counted >= s.records.limit }

// isAway reports whether Redis did not answer lately about the scope, so that the process counts
// alone. One caller in a timeout of a call and awayLasts gets false, and finds out.
func (s *scopeShare) isAway(now time.Time, timeout time.Duration) bool {
	switch {
	case s.away.IsZero():
		return false
	case now.Before(s.away):
		return true
	}
	s.away = now.Add(timeout + awayLasts)
	return false
}

// refusal returns the error for a request without a place.
func (s *scopeShare) refusal(now time.Time) *QuotaError {
	switch {
	case s.isFull():
		return &QuotaError{What: "stored keys", Limit: s.records.limit, RetryAfter: max(s.fewer.Sub(now), 0)}
	case s.requests.room(s.inFlight):
		return &QuotaError{What: "stored keys", Limit: s.records.limit, RetryAfter: time.Second} // a request may make none
	}
	return &QuotaError{What: "requests in flight", Limit: s.requests.limit, RetryAfter: time.Second}
}

// report returns what the next call reports, and gives up the places that it does not keep.
func (s *scopeShare) report(now time.Time) protocol.Share {
	if !now.Before(s.until) && !s.until.IsZero() { // its places are no longer this process's
		// Redis counts each place as a record, unless it still has the share.
		s.confirmed = min(s.confirmed+int64(s.records.held), s.made)
		s.requests.held, s.records.held, s.until = 0, 0, time.Time{}
	}
	s.calls++
	s.used = false
	s.renewal = now.Add(shareRenewal)
	s.requests.keep(s.inFlight)
	s.records.keep(s.making())
	return protocol.Share{
		Scope: s.scope, ID: s.id, Call: s.calls, Lasts: shareLasts, InFlight: s.inFlight, Waiting: s.waiting,
		Requests: protocol.Places{Limit: s.requests.limit, Kept: s.requests.held},
		Records:  protocol.Places{Limit: s.records.limit, Kept: max(s.records.held-int(s.made-s.confirmed), 0)},
		Made:     s.made, Confirmed: s.confirmed, Window: s.window,
	}
}

// apply takes over what a reply grants.
func (s *scopeShare) apply(report *protocol.Share, r *protocol.Shared, sent time.Time) {
	wanted := report.InFlight + report.Waiting
	s.confirmed = report.Made
	s.requests.grant(r.Requests, r.SpareRequests, wanted)
	s.records.grant(r.Records, r.SpareRecords, wanted)
	s.until = sent.Add(shareLasts)
	s.working, s.counted, s.fewer = r.InFlight, r.Made, time.Now().Add(r.Until)
}

// giveUp gives up all places, and returns what the call that gives the share back reports.
func (s *scopeShare) giveUp(now time.Time) protocol.Share {
	report := s.report(now)
	// Redis has counted the records after this call, or counts their places when the share lapses.
	s.requests.held, s.records.held = 0, min(s.records.held, int(s.made-s.confirmed))
	return report
}

// isGone reports whether Redis knows of no place and of each record.
func (s *scopeShare) isGone() bool { return s.until.IsZero() && s.made == s.confirmed }

// isUneven reports whether the share has many places without a use, or few that are left. Requests
// that wait are about to use one.
func (s *scopeShare) isUneven() bool {
	return s.requests.uneven(s.inFlight+s.waiting) || s.records.uneven(s.making()+s.waiting)
}

// isUnused reports whether the share can be given back.
func (s *scopeShare) isUnused() bool { return s.inFlight == 0 && s.waiting == 0 && !s.used }

func (p *places) room(used int) bool { return p.limit == 0 || used < p.held }

// keep gives up places without a use.
func (p *places) keep(used int) { p.held = min(p.held, used+2*p.spare) }

func (p *places) grant(held, spare, wanted int) {
	p.held, p.spare, p.short = held, spare, held < wanted+spare
}

func (p *places) uneven(used int) bool {
	idle := p.held - used
	return p.limit > 0 && (idle > 2*p.spare || !p.short && p.spare >= 4 && idle <= p.spare/4)
}

// use returns a use as a fraction of the limit.
func (p *places) use(n int) float64 {
	if p.limit == 0 {
		return 0
	}
	return float64(n) / float64(p.limit)
}
