package redisidem

import (
	"fmt"
	"time"
)

// refusedOften reports whether one more refusal at this revision reaches the bound. Without a bound
// the record would never expire, because each refusal prolongs it.
func (f *Flow) refusedOften(r refusals, revision int64) bool {
	looks := int64(1)
	if r.revision == revision {
		looks += r.looks
	}
	return looks >= int64(f.cfg.MaxAttempts)
}

// deadLetterReason returns why a completer makes the key a dead letter, or "" if it does not. The
// time in which the flow was paused does not count: resumed is when that last ended.
func (l *Lease) deadLetterReason(resumed time.Time) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.key
	made, limit := l.attempt-1, l.flow.limit(k.requeued, k.Revision)
	if made >= limit && !l.exhaust(k, made, limit) {
		return k.requeued.count(made, k.Revision)
	}
	if l.failCause(k) != nil {
		return "" // the flow is failed, and only the attempts bound that
	}
	// Without a bound the record would never expire, because each claim prolongs it.
	cfg := &l.scope.service.cfg
	bound := cfg.Retention + cfg.Lease + l.flow.cfg.InterimFor
	since := latest(latest(k.CreatedAt, k.requeued.at), resumed)
	if age := k.LockedAt.Sub(since); k.hasInterim && age > max(bound, l.flow.cfg.Deadline) {
		return fmt.Sprintf("interim answers for %v", age)
	}
	// Pauses between counted attempts grow up to longestPause. That is more than this retention for
	// some records that were made with another one. The bound is for the average per attempt.
	bound = max(bound, l.flow.longestPause())
	if age := k.LockedAt.Sub(latest(since, k.UpdatedAt)); age/time.Duration(l.attempt) > bound {
		return fmt.Sprintf("nothing done for %v", age)
	}
	return ""
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// limit returns how many attempts at this revision a completer allows.
func (f *Flow) limit(r requeue, revision int64) int {
	if r.revision == revision {
		return f.cfg.MaxAttempts + int(r.attempts)
	}
	return f.cfg.MaxAttempts
}

// count says how many attempts were made at a revision, and since when it counts them.
func (r requeue) count(made int, revision int64) string {
	if r.revision != revision || r.at.Unix() <= 0 {
		return fmt.Sprintf("%d attempts", made)
	}
	return fmt.Sprintf("%d attempts since it was requeued", int64(made)-r.attempts)
}
