package redisidem

// refusedOften reports whether one more refusal at this revision reaches the bound. Without a bound
// the record would never expire, because each refusal prolongs it.
func (f *Flow) refusedOften(r refusals, revision int64) bool {
	looks := int64(1)
	if r.revision == revision {
		looks += r.looks
	}
	return looks >= int64(f.cfg.MaxAttempts)
}

// limit returns how many attempts at this revision a completer allows.
func (f *Flow) limit(r requeue, revision int64) int {
	if r.revision == revision {
		return f.cfg.MaxAttempts + int(r.attempts)
	}
	return f.cfg.MaxAttempts
}
