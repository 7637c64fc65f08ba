package sim

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// moved looks whether a commit has moved a key to the last stage of its flow because its attempts
// were used up. No callback made this commit, so the observer adds it to the history. The caller
// holds mu, and the observation is the one before the commit.
func (s *observer) moved(key string, seen *observation) {
	w := s.world
	if w.server.HGet(seen.name, "recovery_point") != apology {
		return
	}
	e, ok := s.entry(key, seen, seen.revision)
	if !ok || !slices.Contains(points, e.stage) {
		return // the last stage itself, or an adoption
	}
	if seen.stage <= int64(w.plan.patience) {
		w.violation("%s is moved to its last stage at attempt %d", key, seen.stage)
	}
	before := ""
	var made int64
	if _, err := fmt.Sscan(seen.made, &made); err != nil {
		w.violation("%s was made at %q", key, seen.made)
	}
	last, _ := s.entry(key, seen, seen.revision-1)
	g := seen.grants[len(seen.grants)-1]
	w.mu.Lock()
	defer w.mu.Unlock()
	if seen.revision > 0 {
		r := w.results[last.place]
		if r == nil {
			w.violated("%s is moved to its last stage behind %+v, which no worker committed", key, last)
			return
		}
		before = r.before + r.value + ","
	}
	r := &result{
		place: e.place, key: key, value: fmt.Sprintf("x%s.%d.%d", key, e.fence, e.revision), made: made, before: before,
		stateless: true, exhausted: true, called: g.tick, at: g.at,
	}
	w.results[r.place], w.byValue[r.value] = r, r
	w.ticks++
	w.operations = append(w.operations, porcupine.Operation{ // the claim has read the key
		Input: question{key: key, verb: read, view: view{made, before}}, Call: g.tick, Return: w.ticks,
	})
	w.write("%s is moved from %s to its last stage with %s", key, e.stage, r.value)
}

// entry is an entry of a record's journal.
type entry struct {
	place
	stage string
}

// entry reads the journal of a key.
func (s *observer) entry(key string, seen *observation, revision int64) (e entry, ok bool) {
	var at, attempt int64
	var token, owner string
	text := s.world.server.HGet(seen.name, fmt.Sprintf("j:%d", revision))
	if _, err := fmt.Sscan(text, &at, &token, &e.fence, &attempt, &owner, &e.stage); err != nil {
		return e, false
	}
	e.revision, e.id = revision, s.world.ids[key]
	if attempt == 0 {
		e.id, e.fence = e.id+" by "+owner, 0
	}
	return e, true
}

// keyOf returns the key of a record's name.
func (w *world) keyOf(record string) string {
	for key, id := range w.ids {
		if strings.HasSuffix(record, id) {
			return key
		}
	}
	return ""
}
