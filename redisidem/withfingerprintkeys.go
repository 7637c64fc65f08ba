package redisidem

// WithFingerprintKeys returns a view of the service that makes fingerprints with other secrets, in
// place of Config.FingerprintKeys. It is for a program that changes its secrets while it runs:
// calls on an earlier view end with its secrets. The two are one service: they share connections,
// leases, copies and events, and Close on either closes both. Nil means plain digests. It sends
// nothing to Redis.
func (s *Service) WithFingerprintKeys(keys *FingerprintKeys) *Service {
	view := *s
	view.cfg.FingerprintKeys = keys
	return &view
}
