package redisidem

// SetMaxBackground replaces the number of calls of one kind that are retried at the same time.
func (s *Service) SetMaxBackground(n int64) { s.maxBackground = n }
