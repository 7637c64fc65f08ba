// Package scenario holds the kinds of load, and runs contenders under them side by side.
package scenario

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/redisidem/redisidem/cmd/bench/internal/guard"
	"github.com/redisidem/redisidem/cmd/bench/internal/load"
)

// Scenario is one kind of load.
type Scenario struct {
	Name, Title, About string
	// Kinds are the names of the guards that take part, the baseline first.
	Kinds []string
	// Callers is how many there are unless somebody says otherwise.
	Callers int
	// Timed: an operation returns the latency of a part of it, so that throughput says nothing, and more callers neither.
	Timed bool
	// Sized: the size of the response matters, so that a long run tries several. Varied: the responses have sizes of their own.
	Sized, Varied bool
	// Leaves: each operation leaves a record, so that its memory can be told.
	Leaves bool
	// Prepare makes what the operation needs, and returns it with what to do at the end.
	Prepare func(ctx context.Context, s Subject) (load.Operation, func() error, error)
}

// Subject is a contender in a scenario.
type Subject struct {
	Guard   guard.Guard
	Kind    guard.Kind
	Callers int
	Body    int  // bytes of a response
	Slow    bool // the server is the embedded one
}

// All returns the scenarios in the order in which they are shown.
func All() []Scenario {
	return []Scenario{lifecycle, flow, replay, replayCopy, refused, hot, handOver, overHTTP, throughGateway, mixed}
}

// ByName returns the scenario with that name.
func ByName(name string) (Scenario, bool) {
	for _, s := range All() {
		if s.Name == name {
			return s, true
		}
	}
	return Scenario{}, false
}

// params is the body of each request.
var params = []byte(`{"cart":"8f14e45f","amount":4200,"currency":"EUR","note":"ring twice"}`)

// request is that of the caller's n-th key in a named group.
func request(group string, caller int, n uint64) guard.Request {
	var space [64]byte
	b := append(space[:0], group...)
	b = strconv.AppendInt(append(b, '-'), int64(caller), 36)
	b = strconv.AppendUint(append(b, '-'), n, 36)
	return guard.Request{Key: string(b), Method: "POST", Path: "/orders", Params: params}
}

// response makes the response to a request, which is told apart from any other's of the same size.
func response(r guard.Request, size int) []byte {
	body := make([]byte, max(size, len(r.Key)))
	n := copy(body, r.Key)
	for i := n; i < len(body); i++ {
		body[i] = 'a' + byte(i%23)
	}
	return body
}

// isResponse reports whether got is what response makes, without making it again.
func isResponse(got []byte, r guard.Request, size int) bool {
	if len(got) != max(size, len(r.Key)) || string(got[:len(r.Key)]) != r.Key {
		return false
	}
	for i := len(r.Key); i < len(got); i++ {
		if got[i] != 'a'+byte(i%23) {
			return false
		}
	}
	return true
}

var errForeign = errors.New("the response is another request's")

// execute runs a request that nobody has run before, and checks that it is run.
func execute(ctx context.Context, g guard.Guard, r guard.Request, size int) error {
	return executeBy(ctx, g.Do, r, size)
}

// executeBy is execute by one of a guard's methods.
func executeBy(
	ctx context.Context, do func(context.Context, guard.Request, guard.Work) ([]byte, bool, error), r guard.Request, size int,
) error {
	body := response(r, size)
	got, replayed, err := do(ctx, r, func(context.Context) ([]byte, error) { return body, nil })
	switch {
	case err != nil:
		return err
	case replayed:
		return fmt.Errorf("%s was replayed but never run", r.Key)
	case !bytes.Equal(got, body):
		return errForeign
	}
	return nil
}

// mustNotRun is the work of a request that was run before.
func mustNotRun(context.Context) ([]byte, error) {
	return nil, errors.New("a finished request was run again")
}

// again runs a request that is finished, and checks that it is replayed. Guards by hand take the lock before they read: two
// replays of one request get in each other's way there, and the refused one is tried again.
func again(ctx context.Context, g guard.Guard, r guard.Request, size int) error {
	var got []byte
	var replayed bool
	err := guard.ErrInFlight
	for errors.Is(err, guard.ErrInFlight) && ctx.Err() == nil {
		got, replayed, err = g.Do(ctx, r, mustNotRun)
	}
	switch {
	case err != nil:
		return err
	case !replayed:
		return fmt.Errorf("%s was not replayed", r.Key)
	case !isResponse(got, r, size):
		return errForeign
	}
	return nil
}

// nothing is what most scenarios have to do at their end.
func nothing() error { return nil }

// mix spreads numbers over their whole range, the same way each time.
func mix(caller int, n uint64) uint64 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], uint64(caller))
	binary.LittleEndian.PutUint64(b[8:], n)
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	h ^= h >> 32
	return h * 0x9e3779b97f4a7c15
}
