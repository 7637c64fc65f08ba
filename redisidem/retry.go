package redisidem

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// The pauses between two tries of one operation: they double from the first to the last.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = 100 * time.Millisecond
)

// errTimeout stands for a deadline that this library set. It hides the context's own error, which would tell callers
// that their context had ended.
var errTimeout = errors.New("no answer in time")

// repeat runs op until it succeeds, fails for good, or ctx ends. Every script is safe to repeat, so a lost reply is a
// reason to ask again and never a reason to guess. ctx must have a deadline; when it ends, the error is the last one that says
// more than that.
func repeat(ctx context.Context, op func(context.Context) error) error {
	pause := firstPause
	var why error
	for {
		err := op(ctx)
		if err == nil || !transient(err) {
			return err
		}
		if why == nil || !timedOut(err) && !errors.Is(err, os.ErrDeadlineExceeded) {
			why = err
		}
		// Half of the pause is jitter, so that callers who failed together do not return together.
		timer := time.NewTimer(pause/2 + below(pause/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return why
		case <-timer.C:
		}
		pause = min(2*pause, lastPause)
	}
}

// transient reports whether the same command may get a usable answer a little later. Whatever is no reply of the
// server's is: after the command has left, nobody knows what became of it.
func transient(err error) bool {
	var reply redis.Error
	if errors.Is(err, redis.ErrClosed) || errors.Is(err, ErrDamaged) {
		return false
	}
	if !errors.As(err, &reply) {
		return true
	}
	if _, moved := redis.IsMovedError(err); moved {
		return true
	}
	if _, ask := redis.IsAskError(err); ask {
		return true
	}
	return redis.IsLoadingError(err) || redis.IsReadOnlyError(err) || redis.IsClusterDownError(err) ||
		redis.IsTryAgainError(err) || redis.IsMasterDownError(err) || redis.IsMaxClientsError(err) ||
		redis.IsNoReplicasError(err) || redis.HasErrorPrefix(err, "BUSY")
}

// unsentError says that a context had ended before a command was sent.
type unsentError struct{ error }

// Unwrap returns the context's error.
func (e unsentError) Unwrap() error { return e.error }

// unsent reports whether an error says that no server can have got the command.
func unsent(err error) bool {
	var ended unsentError
	var network *net.OpError
	return errors.As(err, &ended) || errors.As(err, &network) && network.Op == "dial" || errors.Is(err, redis.ErrPoolTimeout)
}

// timedOut reports whether an error says no more than that a context has ended.
func timedOut(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// deniedInScript reports whether a server's words say that a script may not run a command or use a key: those of Redis 7.0, and
// of later versions.
func deniedInScript(words string) bool {
	return strings.Contains(words, "The user executing the script can't ") || strings.Contains(words, "ACL failure in script")
}

// scriptError is what a script was told by the server, which it handed on in a reply.
type scriptError string

func (e scriptError) Error() string { return string(e) }

// RedisError implements [redis.Error].
func (scriptError) RedisError() {}

// unavailable wraps what kept an operation from getting an answer. caller is the context of whoever asked, which may be
// the reason.
func unavailable(caller context.Context, op string, err error) error {
	switch {
	case caller.Err() != nil:
		err = ended(caller)
	case timedOut(err):
		err = errTimeout
	case redis.IsPermissionError(err), deniedInScript(err.Error()):
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
