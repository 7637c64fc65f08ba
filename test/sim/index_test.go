package sim

import "strings"

// placed checks that workers can find an unfinished key of a flow. The key has a lease whose lock
// still exists, or it is due or a dead letter, but not both. The caller holds mu.
func (s *observer) placed(key string, seen *observation) {
	server := s.world.server
	id := s.world.ids[key]
	shard := strings.TrimSuffix(seen.name, id)
	in := func(index string) bool {
		_, err := server.ZScore(shard+index+":orders", id)
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
		s.world.tell(func(t *tally) { t.Buried++ })
	}
	seen.letter = letter
}
