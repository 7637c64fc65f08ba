package redisidem

import (
	"context"
	"errors"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// explain turns the error of an operation on Redis into one that callers know. caller is the
// caller's context.
func explain(caller context.Context, op string, err error) error {
	err = fromProtocol(err)
	if err == nil || errors.Is(err, ErrDamaged) || errors.Is(err, ErrLeaseLost) {
		return err
	}
	return unavailable(caller, op, err)
}

// errTimeout stands for a deadline that this library set. It hides the context's own error, which
// would tell callers that their context had ended.
var errTimeout = errors.New("no answer in time")

// unavailable wraps what kept an operation from getting an answer. caller is the caller's context,
// which may be the reason.
func unavailable(caller context.Context, op string, err error) error {
	switch {
	case caller.Err() != nil:
		err = ended(caller)
	case protocol.IsEndOfContext(err):
		err = errTimeout
	case protocol.IsDenied(err):
		err = notPermittedError{err}
	}
	return &unavailableError{op: op, err: err}
}

// ended returns the error of a context that has ended, with its cause.
func ended(ctx context.Context) error {
	err := context.Cause(ctx)
	if ctxErr := ctx.Err(); !errors.Is(err, ctxErr) {
		err = errors.Join(ctxErr, err)
	}
	return err
}

// unavailableError is ErrUnavailable with what was tried and what went wrong.
type unavailableError struct {
	op  string
	err error
}

func (e *unavailableError) Error() string {
	if errors.Is(e.err, ErrNotPermitted) {
		return "redisidem: " + e.op + ": " + e.err.Error()
	}
	return "redisidem: " + e.op + ": redis unavailable: " + e.err.Error()
}

func (e *unavailableError) Is(target error) bool { return target == ErrUnavailable }

func (e *unavailableError) Unwrap() error { return e.err }
