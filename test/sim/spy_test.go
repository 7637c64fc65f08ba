package sim

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// spy looks at the records behind the library's back, after each request that the server has got.
type spy struct {
	world *world

	mu      sync.Mutex
	records map[string]*sighting // by key
}

// sighting is what the spy remembers of a record.
type sighting struct {
	name string // of the record in Redis

	made, owner     string
	revision, fence int64
	granted         int64  // the largest fence that a lease of this key has had, in this record or an earlier one
	finished        string // what it looked like then

	claims  []int64 // the fences of all leases that were given
	claimed int     // how many of the present revision
	takes   int     // how often somebody took the lease away, or the record
}

func newSpy(w *world) *spy {
	s := &spy{world: w, records: make(map[string]*sighting)}
	for _, key := range w.keys {
		s.records[key] = &sighting{owner: "-"}
	}
	return s
}

// find looks for the name of a key's record, which ends with the key's ID.
func (s *spy) find(key string, seen *sighting) bool {
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

// look compares all records with what they were.
func (s *spy) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range s.world.keys {
		if seen := s.records[key]; s.find(key, seen) {
			s.compare(key, seen)
		}
	}
}

func (s *spy) compare(key string, seen *sighting) {
	server := s.world.server
	lock := seen.name + ":lock"
	if ttl := server.TTL(lock); server.Exists(lock) && (ttl <= 0 || ttl > lease) {
		s.world.violation("the lock of %s lives for %v", key, ttl)
	}
	control := server.HGet(seen.name, "control")
	if control == "" {
		if seen.made != "" {
			seen.made, seen.owner, seen.finished = "", "-", ""
			seen.revision, seen.claimed = 0, 0
			seen.takes++
			if !s.world.mayForget(key) {
				s.world.violation("the record of %s is gone", key)
			}
		}
		return
	}
	var schema, revision, fence, stage, attempts, length int64
	var owner, spent string
	if _, err := fmt.Sscan(control, &schema, &revision, &owner, &fence, &stage, &attempts, &length, &spent); err != nil {
		s.world.violation("control of %s is %q", key, control)
		return
	}
	ttl := server.TTL(seen.name)
	if ttl <= 0 {
		s.world.violation("the record of %s lives for ever", key)
	}
	made := server.HGet(seen.name, "created_at")
	if made != seen.made {
		seen.made, seen.finished = made, ""
		seen.revision, seen.claimed = 0, 0
		seen.owner, seen.fence = "-", 0
	}
	switch {
	case fence < seen.fence || owner != seen.owner && owner != "-" && fence <= seen.granted:
		s.world.violation("the fence of %s falls from %d to %d", key, max(seen.fence, seen.granted), fence)
	case revision != seen.revision && revision != seen.revision+1:
		s.world.violation("the revision of %s goes from %d to %d", key, seen.revision, revision)
	case revision == seen.revision+1:
		if ttl < retention-time.Second {
			s.world.violation("the record of %s lives for %v after a commit", key, ttl)
		}
		seen.claimed = 0
		if owner == seen.owner && owner != "-" {
			seen.claimed = 1 // the lease was kept
		}
	}
	if owner != seen.owner && owner != "-" {
		seen.claims = append(seen.claims, fence)
		seen.claimed++
		seen.granted = max(fence, seen.granted)
	}
	seen.owner, seen.revision, seen.fence = owner, revision, max(fence, seen.fence)
	if server.HGet(seen.name, "recovery_point") == redisidem.Finished {
		text := s.text(seen.name)
		if seen.finished != "" && text != seen.finished {
			s.world.violation("the finished record of %s has changed from %s to %s", key, seen.finished, text)
		}
		seen.finished = text
	}
}

// text is all of a record that must not change once it is finished.
func (s *spy) text(name string) string {
	var b strings.Builder
	for _, field := range []string{"control", "response_code", "response_headers", "response_body", "state", "recovery_point"} {
		fmt.Fprintf(&b, "%s: %q ", field, s.world.server.HGet(name, field))
	}
	return b.String()
}

// claimedAfter reports whether somebody got a lease with a larger fence, or took the key from its holder.
func (s *spy) claimedAfter(key string, fence int64) bool {
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

// claimedNow tells how often a lease was given on the present revision of a key.
func (s *spy) claimedNow(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.records[key].claimed
}

// take notes that an operator takes the key from its worker, or may.
func (s *spy) take(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[key].takes++
}
