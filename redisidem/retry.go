package redisidem

import (
	"context"
	"errors"
	"math/rand/v2"
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
// reason to ask again and never a reason to guess. ctx must have a deadline.
func repeat(ctx context.Context, op func(context.Context) error) error {
	pause := firstPause
	for {
		err := op(ctx)
		if err == nil || !transient(err) {
			return err
		}
		// Half of the pause is jitter, so that callers who failed together do not return together.
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
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

// unavailable wraps what kept an operation from getting an answer. caller is the context of whoever asked, which may be
// the reason.
func unavailable(caller context.Context, op string, err error) error {
	switch {
	case caller.Err() != nil:
		err = context.Cause(caller)
		if ctxErr := caller.Err(); !errors.Is(err, ctxErr) {
			err = errors.Join(ctxErr, err)
		}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		err = errTimeout
	}
	return &unavailableError{op: op, err: err}
}
