package redisidem

import (
	"context"
	"errors"
)

// errPanicked reports to the tracer that a callback has not returned.
var errPanicked = errors.New("redisidem: callback panicked, or called runtime.Goexit")

// abandonAfterPanic gives the lease back if a callback has not returned: after a panic or
// runtime.Goexit. It does not recover, so both go on with their own value and stack. The attempt
// counts.
func (l *Lease) abandonAfterPanic(ctx context.Context, returned *bool) {
	if !*returned {
		_ = l.abandon(ctx, nil)
	}
}
