// Package scenario holds the kinds of load, and runs contenders under them side by side.
package scenario

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/redisidem/redisidem/cmd/bench/internal/answer"
	"github.com/redisidem/redisidem/cmd/bench/internal/contender"
	"github.com/redisidem/redisidem/cmd/bench/internal/load"
)

// Scenario is one kind of load.
type Scenario struct {
	Name, Title, About string
	// Kinds are the names of the contenders that take part, the baseline first.
	Kinds []string
	// Callers is the default number of callers.
	Callers int
	// Timed reports whether an operation returns the latency of a part of it. Throughput and more
	// callers are then meaningless.
	Timed bool
	// Sized reports whether the size of the response matters, so that a long run tries several
	// sizes. Varied reports whether the scenario chooses the sizes.
	Sized, Varied bool
	// Leaves reports whether each operation leaves a record whose memory can be measured.
	Leaves bool
	// Prepare creates the operation. It returns it with a function to call at the end.
	Prepare func(ctx context.Context, s Subject) (load.Operation, func() error, error)
}

// Subject is a contender in a scenario.
type Subject struct {
	Contender contender.Contender
	Kind      contender.Kind
	Callers   int
	Body      int  // bytes of a response
	Slow      bool // the server is the embedded one
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

// request returns the request of the caller's n-th key in a named group.
func request(group string, caller int, n uint64) contender.Request {
	var space [64]byte
	b := append(space[:0], group...)
	b = strconv.AppendInt(append(b, '-'), int64(caller), 36)
	b = strconv.AppendUint(append(b, '-'), n, 36)
	return contender.Request{Key: string(b), Method: "POST", Path: "/orders", Params: params}
}

// response returns the response to a request. It differs from every other response of the same
// size.
func response(r contender.Request, size int) []byte { return answer.Of(r.Key, size) }

// isResponse reports whether got is the result of response, without a second call of it.
func isResponse(got []byte, r contender.Request, size int) bool {
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

// execute runs a request for the first time, and checks that it is executed.
func execute(ctx context.Context, g contender.Contender, r contender.Request, size int) error {
	return executeBy(ctx, g.Do, r, size)
}

// executeBy is execute through another method of the contender.
func executeBy(
	ctx context.Context, do func(context.Context, contender.Request, contender.Work) ([]byte, bool, error), r contender.Request, size int,
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

// mustNotRun is the work of a finished request.
func mustNotRun(context.Context) ([]byte, error) {
	return nil, errors.New("a finished request was run again")
}

// again repeats a finished request and checks that it is replayed. Hand-written contenders take the
// lock before they read. Two replays of one request can therefore collide, and the refused one
// tries again.
func again(ctx context.Context, g contender.Contender, r contender.Request, size int) error {
	var got []byte
	var replayed bool
	err := contender.ErrInFlight
	for errors.Is(err, contender.ErrInFlight) && ctx.Err() == nil {
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

// nothing is the end function of most scenarios.
func nothing() error { return nil }

// mix spreads numbers over their whole range, deterministically.
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
