package redisidem

import "context"

// abandonAfterPanic gives the lease back if a callback has not returned: after a panic or
// runtime.Goexit. It does not recover, so both go on with their own value and stack. The attempt
// counts.
func (l *Lease) abandonAfterPanic(ctx context.Context, returned *bool) {
	if !*returned {
		_ = l.abandon(ctx, nil)
	}
}
