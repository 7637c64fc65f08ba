package sim

import (
	"slices"
	"time"
)

// grant is a lease on one revision of a key, as the server has granted it.
type grant struct {
	control
	kept  bool // by the commit of the previous revision
	again bool // its token had an earlier lease that has ended; a late duplicate of the claim got this one
	at    time.Time
	tick  int64 // the same as a tick

	begun, idle bool // a callback has begun under it; the callback had nothing to do
	uncounted   bool // it was given back, and its run of the stage does not count
	unbegun     bool // nor does it count among all attempts at the key
}

// control is the part of a record that describes its lease.
type control struct {
	revision, fence, stage, attempts int64
	owner                            string
}

// claimant is the worker that sent a token, and the time of the first claim.
type claimant struct {
	network *network
	sent    time.Time
	doubled bool // a copy of an answered claim is still in flight, and the worker does not check for it
}

// claims records that a worker claims with a token.
func (s *observer) claims(w *network, token string, f fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	by := s.claimants[token]
	if by == nil {
		by = &claimant{network: w, sent: time.Now()}
		s.claimants[token] = by
	}
	by.doubled = by.doubled || f == doubled
}

// follow records the changes of a key's leases. The caller holds mu.
func (s *observer) follow(key string, seen *observation, now control) {
	before := seen.control
	switch {
	case now.owner != "-" && (now.owner != before.owner || now.fence != before.fence || now.revision != before.revision):
		g := &grant{control: now, at: time.Now(), tick: s.world.tick(), kept: now.owner == before.owner && now.fence == before.fence}
		g.again = slices.Contains(seen.ended, g.owner)
		for i, old := range seen.grants {
			g.again = g.again || !g.kept && old.owner == g.owner
			last := i == len(seen.grants)-1
			if last && old.revision == g.revision && !old.begun && !old.uncounted && !s.excused(key, old) {
				s.world.violation("the lease of fence %d on %s counts, although no callback can have begun under it", old.fence, key)
			}
		}
		seen.grants = append(seen.grants, g)
	case now.owner == "-" && before.owner != "-" && now.fence == before.fence && now.revision == before.revision:
		g := seen.grants[len(seen.grants)-1]
		g.uncounted, g.unbegun = now.stage < g.stage, now.attempts < g.attempts
		want := g.control
		if !g.begun || g.idle {
			want.stage--
		}
		if !g.begun && !g.kept {
			want.attempts--
			s.world.tell(func(t *tally) { t.GivenBack++ })
		}
		// If a duplicate got the lease, a duplicate of an older give-back may give it back.
		if !g.again && (now.stage != want.stage || now.attempts != want.attempts) {
			s.world.violation("the lease of fence %d on %s is given back with %d runs of the stage and %d attempts, not %d and %d",
				g.fence, key, now.stage, now.attempts, want.stage, want.attempts)
		}
	}
}

// excused reports whether there is a reason why a lease without a callback was not given back in
// time. Faults kept the give-back from the server for as long as it was tried. Or the claim arrived
// after the worker had stopped checking for it. Or an operator was faster. A worker that shuts down
// also stops checking.
func (s *observer) excused(key string, g *grant) bool {
	w := s.world
	w.mu.Lock()
	revoked := w.revoked[key]
	w.mu.Unlock()
	by := s.claimants[g.owner]
	tried := by.sent.Add(2*timeout + commitRetry)
	if now := time.Now(); now.Before(tried) {
		tried = now
	}
	return revoked || by.doubled || g.again || g.at.Sub(by.sent) > lease || by.network.retiredBefore(g.at) || by.network.struckSince(tried)
}

// begins records that a callback begins under a lease. It returns the expected numbers of the run
// of the stage and of the attempt at the key. All leases count under which a callback has begun, or
// may have begun.
func (s *observer) begins(key string, fence, revision int64) (run, attempts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	run = 1
	for _, g := range s.records[key].grants {
		switch mine := g.fence == fence && g.revision == revision; {
		case mine:
			g.begun = true
		case g.revision == revision && !g.uncounted:
			run++
		}
		if !g.kept && !g.unbegun {
			attempts++
		}
	}
	return run, attempts
}

// idles records that a callback found nothing to do.
func (s *observer) idles(key string, fence, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.records[key].grants {
		if g.fence == fence && g.revision == revision {
			g.idle = true
		}
	}
}

// leases returns how many leases a revision of a key has had.
func (s *observer) leases(key string, revision int64) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.records[key].grants {
		if g.revision == revision {
			n++
		}
	}
	return n
}
