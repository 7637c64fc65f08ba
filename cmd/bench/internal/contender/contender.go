// Package contender holds the ways to make a request idempotent that the benchmark compares: this
// library, other libraries, and hand-written code. All do the same work behind one interface. Each
// names in one sentence the guarantees that it leaves out.
package contender

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// Request is the request of an operation.
type Request struct {
	Key    string // the idempotency key
	Method string
	Path   string
	Params []byte // the request's body
}

// Work makes the response. A contender calls it only if the request is to be executed.
type Work func(ctx context.Context) ([]byte, error)

// Contender executes each request at most once at a time, and replays the responses of finished
// requests. It is safe for concurrent use.
type Contender interface {
	// Do executes the request or replays its response, and reports which. While another caller
	// executes the request, a contender that does not wait returns an error that matches
	// ErrInFlight.
	Do(ctx context.Context, r Request, work Work) (response []byte, replayed bool, err error)
	// Close releases everything that Open has made.
	Close() error
}

// ErrInFlight is returned when another caller executes the request at this moment.
var ErrInFlight = errors.New("the request is in flight")

// ErrUnable is matched by the error of [Kind].Open when a contender cannot take part in this
// environment. That is not a failure. The error gives the reason.
var ErrUnable = errors.New("cannot take part here")

// Kind is one kind of contender.
type Kind struct {
	// Name is short and unique, such as "redisidem-auto".
	Name string
	// Title is the name in tables, such as "redisidem, auto-pipelined".
	Title string
	// About says in one sentence what the contender does per request and what it leaves out.
	About string
	// Own reports whether it is this library, in any form. Comparisons and reports focus on these.
	Own bool
	// Replays reports whether it can replay a response. A bare floor cannot.
	Replays bool
	// Waits reports whether Do waits while another caller executes the request, instead of
	// returning ErrInFlight.
	Waits bool
	// Open creates a contender. Its keys begin with prefix, so that runs do not share any.
	Open func(ctx context.Context, dial Dial, prefix string) (Contender, error)
}

// Dial makes the connections to the server under test and counts their traffic.
type Dial interface {
	// Client returns a new go-redis client for the server, cluster or Sentinel group, with an open
	// connection for each caller. The contender closes it.
	Client(ctx context.Context) (redis.UniversalClient, error)
	// SharedClient returns a client whose callers share connections, which are opened on demand.
	// The contender closes it.
	SharedClient() (redis.UniversalClient, error)
	// Addr returns the address of a single server, for libraries with clients of their own, or an
	// error if there is no single server.
	Addr() (string, error)
	// Callers returns the number of concurrent callers.
	Callers() int
}
