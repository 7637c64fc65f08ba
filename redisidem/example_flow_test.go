package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
)

// A flow says once what the stages are and what is to be done when something goes wrong. A crash between charging and
// committing makes the next run ask Reconcile; a failure for good gives the money back.
func ExampleScope_DoFlow() {
	sc, stop := exampleScope()
	defer stop()

	charges := map[string]int{} // stands for the payment provider
	crash := true

	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "checkout", Version: 1, RecoverAfter: time.Minute,
		Stages: []redisidem.FlowStage{
			{
				Point: redisidem.Started,
				Work: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					charges[st.OutboundKey("charge")] += 1200
					if crash {
						return redisidem.Outcome{}, errors.New("the process died here")
					}
					return redisidem.Next(), nil
				},
				Reconcile: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					if charges[st.OutboundKey("charge")] == 0 {
						return redisidem.Outcome{}, redisidem.ErrNothingDone
					}
					return redisidem.Next(), nil
				},
				Compensate: func(_ context.Context, st *redisidem.Stage) error {
					delete(charges, st.CommittedKey(st.Compensates(), "charge"))
					return nil
				},
			},
			{
				Point: "charged",
				Work: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					return redisidem.Finish(redisidem.JSON(201, "order 1")).
						WithEffects(effect.XAdd(st.ShardKey("outbox"), "event", "ordered")), nil
				},
			},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	req := redisidem.Request{Method: "POST", Path: "/carts/1/complete"}
	for range 3 { // the request, and two retries
		key, err := sc.DoFlow(context.Background(), "key-from-the-client", req, flow)
		if err != nil {
			fmt.Println(err)
			crash = false
			continue
		}
		fmt.Println(key.Response.Code, string(key.Response.Body), key.Replayed())
	}
	for _, cents := range charges {
		fmt.Println(cents, "cents charged")
	}
	// Output:
	// redisidem: stage "started": the process died here
	// 201 "order 1" false
	// 201 "order 1" true
	// 1200 cents charged
}
