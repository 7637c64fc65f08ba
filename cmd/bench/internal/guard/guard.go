// Package guard holds the ways to make a request idempotent that the benchmark sets against each other: this library,
// and what others offer or would write by hand. All do the same work behind one interface, and say in a sentence what
// they leave out.
package guard

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// Request is what an operation is about.
type Request struct {
	Key    string // the idempotency key
	Method string
	Path   string
	Params []byte // the request's body
}

// Work makes the response. A guard calls it when, and only when, the request is to be executed.
type Work func(ctx context.Context) ([]byte, error)

// Guard runs requests at most once at a time and replays the responses of finished ones. It is safe for concurrent use.
type Guard interface {
	// Do executes the request or replays its response; replayed tells which it was. It returns an error that matches
	// ErrInFlight when the request is being executed by somebody else and the guard does not wait.
	Do(ctx context.Context, r Request, work Work) (response []byte, replayed bool, err error)
	// Close gives everything back.
	Close() error
}

// ErrInFlight says that somebody else executes the request at this moment.
var ErrInFlight = errors.New("the request is in flight")

// ErrUnable says that a guard cannot take part here, though nothing went wrong. The error of [Kind].Open that matches it tells
// why.
var ErrUnable = errors.New("cannot take part here")

// Kind is one sort of guard.
type Kind struct {
	// Name is short and unique, such as "redisidem-auto".
	Name string
	// Title is for tables, such as "redisidem, auto-pipelined".
	Title string
	// About says in one sentence what it does per request and what it leaves out.
	About string
	// Own reports whether it is this library at work, in whatever form: what a comparison and a report are about.
	Own bool
	// Replays reports whether it can replay a response at all. A bare floor cannot.
	Replays bool
	// Waits reports whether Do waits for an execution by somebody else instead of returning ErrInFlight.
	Waits bool
	// Open makes a guard. Its keys begin with prefix, so that runs do not meet.
	Open func(ctx context.Context, dial Dial, prefix string) (Guard, error)
}

// Dial makes the connections to the server under test, which are counted.
type Dial interface {
	// Client returns a new go-redis client for the server, cluster or Sentinel group, with a connection for each caller, all of
	// which are up. The guard closes it.
	Client(ctx context.Context) (redis.UniversalClient, error)
	// SharedClient returns a client whose callers share connections: they come up as they are needed. The guard closes it.
	SharedClient() (redis.UniversalClient, error)
	// Addr returns the address of a single server, for libraries with clients of their own, or an error where there is no
	// single server.
	Addr() (string, error)
	// Callers is how many callers there will be at once.
	Callers() int
}
