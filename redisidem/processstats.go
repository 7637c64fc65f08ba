package redisidem

// ProcessStats are the numbers of this process at one moment. They are read without Redis.
type ProcessStats struct {
	// LeasesHeld is how many leases have not ended.
	LeasesHeld int
	// StagesHung is how many stages go on although their contexts ended long ago: see EventHung.
	StagesHung int
	// CommitsPending is how many commits without an answer are retried in the background, and
	// GiveBacksPending how many leases are given back there: see Config.CommitRetry.
	CommitsPending, GiveBacksPending int
	// Copies is about how many copies of finished records there are, CopyBytes how much memory they
	// take, and CopyHits and CopyMisses how many calls since New found a copy and how many did not.
	// They are 0 without Config.CacheBytes.
	Copies               int
	CopyBytes            uint64
	CopyHits, CopyMisses uint64
}

// ProcessStats returns the numbers of this process. It does not block, and is safe for concurrent
// use, also after Close.
func (s *Service) ProcessStats() ProcessStats {
	stats := ProcessStats{
		LeasesHeld: s.inFlight.held(), StagesHung: s.inFlight.hung(),
		CommitsPending: int(s.pending.Load()), GiveBacksPending: int(s.returning.Load()),
	}
	if s.cache != nil {
		lookups := s.cache.lookups.Snapshot()
		stats.Copies, stats.CopyBytes = s.cache.otter.EstimatedSize(), s.cache.otter.WeightedSize()
		stats.CopyHits, stats.CopyMisses = lookups.Hits, lookups.Misses
	}
	return stats
}
