package redisidem

import "time"

// WithRetention returns a view of the service that keeps the records it makes for a time of its
// own, in place of Config.Retention. The two are one service: they share connections, leases,
// copies and events, and Close on either closes both. It is for routes whose answers are needed for
// a longer or a shorter time: make a view for each when the program starts. It costs little, so a
// single call can have a view, too. If callers of one key use different retentions, the longest one
// counts. The call sends nothing to Redis.
//
// A retention shorter than Config.Lease, or longer than 100 years, is an [*InvalidError].
func (s *Service) WithRetention(retention time.Duration) (*Service, error) {
	view := *s
	view.cfg.Retention = retention
	if err := view.cfg.validate(); err != nil {
		return nil, err
	}
	view.redis = s.redis.WithRetention(retention)
	return &view, nil
}
