package idemtest_test

import (
	"context"
	"sync"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/idemtest"
)

// provider simulates a payment provider that charges once for each key.
type provider struct {
	mu      sync.Mutex
	charged map[string]bool
}

func (p *provider) charge(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.charged[key] = true
}

func (p *provider) charges() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.charged)
}

// newCheckout creates the flow, as the program does when it starts.
func newCheckout(p *provider) (*redisidem.Flow, error) {
	return redisidem.NewFlow(redisidem.FlowConfig{Name: "checkout", Version: 1, Stages: []redisidem.FlowStage{
		{Point: redisidem.Started, Work: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			p.charge(st.OutboundKey("charge")) // the same key in every run
			return redisidem.Next(), nil
		}},
		{Point: "charged", Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Finish(redisidem.JSON(201, "order 1")), nil
		}},
	}})
}

// testCheckout would be called TestCheckout in a real test. go test runs a subtest for each
// boundary, such as kill_after_charged.
func testCheckout(t *testing.T) {
	idemtest.CrashMatrix(t, idemtest.CrashConfig{
		World: func(testing.TB) idemtest.World {
			p := &provider{charged: make(map[string]bool)}
			return idemtest.World{
				Flow:    func() (*redisidem.Flow, error) { return newCheckout(p) },
				Request: redisidem.Request{Method: "POST", Path: "/carts/1/complete"},
				Effects: func() map[string]int { return map[string]int{"charges": p.charges()} },
			}
		},
		Promise: map[string]idemtest.Times{"charges": idemtest.Exactly(1)},
		Depth:   2,
	})
}

// CrashMatrix kills a process at each boundary of a flow, which must charge once. It also kills the
// process that resumes the flow, at each of its boundaries.
func ExampleCrashMatrix() {
	_ = testCheckout // see above
	// Output:
}
