package protocol

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem/internal/backoff"
)

// The pauses between two tries of one operation.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = 100 * time.Millisecond
)

// errAgain asks Repeat for another try of an operation that was not applied.
var errAgain = errors.New("not applied yet")

// Repeat runs op until it succeeds, fails for good, or ctx ends. It may repeat after a lost reply,
// because every script is safe to repeat. ctx must have a deadline. When ctx ends, Repeat returns
// the last error that has another cause, if there was one.
func Repeat(ctx context.Context, op func(context.Context) error) error {
	pauses := backoff.Backoff{First: firstPause, Max: lastPause}
	var why error
	for {
		err := op(ctx)
		if err == nil || !transient(err) {
			return err
		}
		if why == nil || !IsEndOfContext(err) && !errors.Is(err, os.ErrDeadlineExceeded) {
			why = err
		}
		if !backoff.Wait(ctx, pauses.Jittered()) {
			return why
		}
	}
}

// transient reports whether the same command may get a usable answer a little later. An error that
// is not a reply of the server is transient: once the command has left, its outcome is unknown.
func transient(err error) bool {
	if errors.Is(err, redis.ErrClosed) || IsDamaged(err) {
		return false
	}
	if _, reply := errors.AsType[redis.Error](err); !reply {
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
