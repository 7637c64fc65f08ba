package protocol

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// DamagedError reports that this library cannot have written the data in Redis.
type DamagedError struct{ Reason string }

func (e *DamagedError) Error() string { return e.Reason }

// IsDamaged reports whether an error is a [DamagedError].
func IsDamaged(err error) bool {
	_, ok := errors.AsType[*DamagedError](err)
	return ok
}

// ErrNoPipeline is returned by [New] when the client cannot send commands of several callers in
// common pipelines.
var ErrNoPipeline = errors.New("the client has no auto-pipeline")

// scriptError is an error that the server returned to a script, and the script passed on in its
// reply.
type scriptError string

func (e scriptError) Error() string { return string(e) }

// RedisError implements [redis.Error].
func (scriptError) RedisError() {}

// unsentError reports that a context had ended before a command was sent.
type unsentError struct{ error }

// Unwrap returns the context's error.
func (e unsentError) Unwrap() error { return e.error }

// unsent reports whether an error means that no server can have received the command.
func unsent(err error) bool {
	if _, ended := errors.AsType[unsentError](err); ended {
		return true
	}
	network, ok := errors.AsType[*net.OpError](err)
	return ok && network.Op == "dial" || errors.Is(err, redis.ErrPoolTimeout)
}

// IsEndOfContext reports whether an error means only that a context has ended.
func IsEndOfContext(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// IsDenied reports whether the server denies the client's user a command or a key, directly or
// inside a script.
func IsDenied(err error) bool { return redis.IsPermissionError(err) || deniedInScript(err.Error()) }

// deniedInScript reports whether a server's message means that a script may not run a command or
// use a key. The first text is from Redis 7.0, the second from later versions.
func deniedInScript(words string) bool {
	return strings.Contains(words, "The user executing the script can't ") || strings.Contains(words, "ACL failure in script")
}

// wrongType turns the error for a key of another type into a DamagedError.
func wrongType(err error) error {
	if err != nil && redis.HasErrorPrefix(err, "WRONGTYPE") {
		return &DamagedError{err.Error()}
	}
	return err
}
