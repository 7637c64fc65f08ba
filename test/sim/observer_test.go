package sim

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// observer reads the records without the library, after each request that the server has received.
type observer struct {
	world *world

	mu      sync.Mutex
	records map[string]*observation // by key

	claimants map[string]*claimant // by token
}

// observation is the observer's memory of a record.
type observation struct {
	name string // of the record in Redis

	made, origin string
	control
	granted  int64  // the largest fence of any lease on this key, in this record or an earlier one
	finished string // its text when it was finished
	letter   bool   // it is a dead letter

	claims []int64  // the fences of all leases that were granted
	grants []*grant // the leases of the present record, by revision
	takes  int      // how often the lease or the record was taken away
	ended  []string // the tokens of the leases of earlier records
}

func newObserver(w *world) *observer {
	s := &observer{world: w, records: make(map[string]*observation), claimants: make(map[string]*claimant)}
	for _, key := range w.keys {
		s.records[key] = &observation{control: unclaimed}
	}
	return s
}

// find finds the name of a key's record, which ends with the key's ID.
func (s *observer) find(key string, seen *observation) bool {
	if seen.name != "" {
		return true
	}
	for _, name := range s.world.server.Keys() {
		if strings.HasSuffix(name, ":"+s.world.ids[key]) {
			seen.name = name
			return true
		}
	}
	return false
}

// look compares all records with their previous content.
func (s *observer) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range s.world.keys {
		if seen := s.records[key]; s.find(key, seen) {
			s.compare(key, seen)
		}
	}
}

func (s *observer) compare(key string, seen *observation) {
	server := s.world.server
	lock := seen.name + ":lock"
	if ttl := server.TTL(lock); server.Exists(lock) && (ttl <= 0 || ttl > lease) {
		s.world.violation("the lock of %s lives for %v", key, ttl)
	}
	text := server.HGet(seen.name, "control")
	if text == "" {
		if seen.made != "" {
			seen.begin("")
			seen.takes++
			if !s.world.mayForget(key) {
				s.world.violation("the record of %s is gone", key)
			}
		}
		return
	}
	var schema, length int64
	var now control
	var spent, made string
	_, err := fmt.Sscan(text, &schema, &now.revision, &now.owner, &now.fence, &now.stage, &now.attempts, &length, &spent, &made)
	if err != nil {
		s.world.violation("control of %s is %q", key, text)
		return
	}
	if now.owner == "~" { // the stage is snoozed
		now.owner = "-"
		if now.revision != seen.revision {
			s.world.tell(func(t *tally) { t.Snoozed++ })
		}
	}
	ttl := server.TTL(seen.name)
	if ttl <= 0 {
		s.world.violation("the record of %s lives for ever", key)
	}
	origin := server.HGet(seen.name, "origin")
	if made != seen.made {
		seen.begin(made)
		seen.origin = origin
	}
	if origin != seen.origin {
		s.world.violation("the origin of %s changes from %q to %q", key, seen.origin, origin)
	}
	switch {
	case now.fence < seen.fence || now.owner != seen.owner && now.owner != "-" && now.fence <= seen.granted:
		s.world.violation("the fence of %s falls from %d to %d", key, max(seen.fence, seen.granted), now.fence)
	case now.revision != seen.revision && now.revision != seen.revision+1:
		s.world.violation("the revision of %s goes from %d to %d", key, seen.revision, now.revision)
	case now.revision == seen.revision+1 && ttl < retention-time.Second:
		s.world.violation("the record of %s lives for %v after a commit", key, ttl)
	}
	if now.owner != seen.owner && now.owner != "-" {
		seen.claims = append(seen.claims, now.fence)
		seen.granted = max(now.fence, seen.granted)
	}
	if now.revision == seen.revision+1 {
		s.moved(key, seen)
	}
	s.follow(key, seen, now)
	seen.control = now
	s.placed(key, seen)
	if server.HGet(seen.name, "recovery_point") == redisidem.Finished {
		text := s.text(seen.name)
		if seen.finished != "" && text != seen.finished {
			s.world.violation("the finished record of %s has changed from %s to %s", key, seen.finished, text)
		}
		seen.finished = text
	}
}

// unclaimed is the control field of a record without a claim.
var unclaimed = control{owner: "-"}

// begin forgets the observations of an earlier record.
func (seen *observation) begin(made string) {
	for _, g := range seen.grants {
		seen.ended = append(seen.ended, g.owner)
	}
	seen.made, seen.finished, seen.letter = made, "", false
	seen.control, seen.grants = unclaimed, nil
}

// text returns the parts of a record that must not change once it is finished.
func (s *observer) text(name string) string {
	var b strings.Builder
	for _, field := range []string{"control", "response_code", "response_headers", "response_body", "state", "recovery_point"} {
		fmt.Fprintf(&b, "%s: %q ", field, s.world.server.HGet(name, field))
	}
	return b.String()
}

// claimedAfter reports whether a worker got a lease with a larger fence, or an operator took the
// key from its worker.
func (s *observer) claimedAfter(key string, fence int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.records[key]
	for _, f := range seen.claims {
		if f > fence {
			return true
		}
	}
	return seen.takes > 0
}

// take records that an operator takes the key from its worker, or may take it.
func (s *observer) take(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[key].takes++
}
