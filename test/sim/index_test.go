package sim

import "strings"

// placed checks that workers can find an unfinished key of a flow. The key has a lease whose lock
// still exists, or it is due or a dead letter, but not both. The caller holds mu.
func (s *observer) placed(key string, seen *observation) {
	server := s.world.server
	id := s.world.ids[key]
	shard := strings.TrimSuffix(seen.name, id)
	in := func(index string) bool {
		_, err := server.ZScore(shard+index+":"+flowOf(key), id)
		return err == nil
	}
	due, dead, letter := in("due"), in("dead"), server.HGet(seen.name, "dead_letter") != ""
	switch {
	case server.HGet(seen.name, "flow") == "", server.HGet(seen.name, "recovery_point") == "finished":
	case due && dead || letter != dead:
		s.world.violation("%s is due: %v, among the dead letters: %v, a dead letter: %v", key, due, dead, letter)
	case !due && !dead && !server.Exists(seen.name+":lock") && !s.world.lost.Load():
		s.world.violation("%s is not finished and no worker will come to it", key)
	}
	if letter && !seen.letter {
		s.letter(key, seen)
		s.world.tell(func(t *tally) { t.Buried++ })
	}
	seen.letter = letter
}

// letter checks that a key became a dead letter because its attempts are used up, and that its flow
// could not be failed or moved to its last stage. The caller holds mu.
func (s *observer) letter(key string, seen *observation) {
	w := s.world
	point := w.server.HGet(seen.name, "recovery_point")
	switch {
	case w.plan.changes: // a version that no completer has makes a dead letter, too
	case int(seen.stage) < w.plan.patience:
		w.violation("%s is a dead letter at %s after %d attempts", key, point, seen.stage)
	case !w.plan.exhausts && !w.plan.apologizes, point == apology, isCompensating(point), s.isReturnless(key, seen):
	case int(seen.stage) < 2*w.plan.patience:
		w.violation("%s is a dead letter at %s after %d attempts, and its flow goes on then", key, point, seen.stage)
	}
}

// isReturnless reports whether the key is behind its point of no return. The caller holds mu.
func (s *observer) isReturnless(key string, seen *observation) bool {
	for revision := range seen.revision {
		if e, ok := s.entry(key, seen, revision); ok {
			s.world.mu.Lock()
			r := s.world.results[e.place]
			s.world.mu.Unlock()
			if r != nil && r.returnless {
				return true
			}
		}
	}
	return false
}
