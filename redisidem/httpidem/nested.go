package httpidem

import (
	"errors"
	"log/slog"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/redisidem/redisidem/redisidem"
)

// nestedError reports that an outer middleware is working on the record of the same request, so
// that the handler could never run. It matches [redisidem.ErrNested].
type nestedError struct{ inner, outer string }

func (e *nestedError) Error() string {
	return "httpidem: the middleware created at " + e.inner + " runs inside the one created at " + e.outer +
		" and uses the same record; remove one of them, or give each its own scope or namespace"
}

// Is reports whether target is [redisidem.ErrNested].
func (e *nestedError) Is(target error) bool { return target == redisidem.ErrNested }

// nested returns a [*nestedError] and logs it if an outer middleware has the lease on the record.
// Otherwise it returns err.
func (x *keyedRequest) nested(err error) error {
	outer, found := x.outer(err)
	if !found {
		return err
	}
	err = &nestedError{inner: x.middleware.position, outer: outer}
	x.middleware.service.Config().Logger.LogAttrs(x.r.Context(), slog.LevelError, "middlewares are nested on the same record",
		slog.String("inner", x.middleware.position), slog.String("outer", outer))
	return err
}

// outer returns the source position of the outer middleware that has the lease on the request's
// record, if there is one.
func (x *keyedRequest) outer(err error) (position string, found bool) {
	nested := errors.Is(err, redisidem.ErrNested)
	if !nested && !errors.Is(err, redisidem.ErrLocked) {
		return "", false
	}
	for r := handlerStateOf(x.r.Context()); r != nil; r = r.outer {
		if r.stage == nil {
			continue
		}
		if key := r.stage.Key(); key.Scope == x.scope.Name() && key.Value == x.key && (nested || x.hasLeaseOf(key)) {
			return r.position, true
		}
	}
	return "code of the program", nested
}

// hasLeaseOf reports whether a key of another service is the record of this request, under the same
// lease. Two services may share a store.
func (x *keyedRequest) hasLeaseOf(key *redisidem.Key) bool {
	here, err := x.scope.Retrieve(x.r.Context(), x.key)
	return err == nil && !key.LockedAt.IsZero() && here.LockedAt.Equal(key.LockedAt) && here.CreatedAt.Equal(key.CreatedAt) &&
		here.Attempts == key.Attempts
}

// callerPosition returns the source position of the call of New.
func callerPosition() string {
	_, file, line, ok := runtime.Caller(2)
	if !ok {
		return "an unknown place"
	}
	return filepath.Join(filepath.Base(filepath.Dir(file)), filepath.Base(file)) + ":" + strconv.Itoa(line)
}
