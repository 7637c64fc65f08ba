package redisidem

import (
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/backoff"
	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// recoverAfter returns RecoverAfter with jitter, so that keys abandoned together do not become due
// together. It is bounded by half of the retention. abandon.lua and claim.lua double the delay with
// each attempt, up to 64 times and the same bound.
func (f *Flow) recoverAfter(retention time.Duration) time.Duration {
	d := f.cfg.RecoverAfter
	return max(min(backoff.Between(d, d+d/4), retention/2), time.Millisecond)
}

// longestPause returns how long abandon.lua and claim.lua leave a key alone at most, if its record
// lives long enough.
func (f *Flow) longestPause() time.Duration {
	const doubled = 64
	if f.cfg.RecoverAfter > maxDuration/(2*doubled) {
		return maxDuration
	}
	return doubled * (f.cfg.RecoverAfter + f.cfg.RecoverAfter/4)
}

// recovery returns when a completer may continue a key. It is zero if the flow is nil or not
// recoverable.
func (f *Flow) recovery(retention time.Duration) protocol.Recovery {
	if !f.recoverable() {
		return protocol.Recovery{}
	}
	return protocol.Recovery{Flow: f.cfg.Name, After: f.recoverAfter(retention), Deadline: f.cfg.Deadline}
}

// recovery returns when a completer may continue the key if its lease ends now. The key is in the
// due index of f, or f is nil.
func (l *Lease) recovery(f *Flow) protocol.Recovery {
	r := f.recovery(l.scope.service.cfg.Retention)
	if r.Deadline > 0 {
		r.Left = f.deadlineIn(l.Key(), l.began)
	}
	return r
}

// longestRest bounds how long a flow is not scanned because a scan found nothing due. Within it the
// flow is scanned again, whatever the scan found: a key can be due earlier than this process
// expects if another one has a shorter RecoverAfter, or if a failover brings back an older index.
const longestRest = 30 * time.Second

// quiet returns how long it takes at least until a key is due that was not in the due index yet.
func (f *Flow) quiet(retention time.Duration) time.Duration {
	q := min(f.cfg.RecoverAfter, f.cfg.InterimFor, retention/2, longestRest)
	if f.cfg.Deadline > 0 {
		q = min(q, f.cfg.Deadline)
	}
	return max(q, time.Millisecond)
}
