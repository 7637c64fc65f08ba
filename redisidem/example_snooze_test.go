package redisidem_test

import (
	"context"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// A stage asks a provider for the state of a payment. Until the provider has decided, clients get
// an interim answer, and the stage runs again every 30 seconds: by a Completer if the flow has a
// RecoverAfter, by the first call otherwise.
func ExampleSnooze() {
	sc, stop := exampleScope()
	defer stop()

	answers := []string{"pending", "pending", "paid"} // of the provider
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "transfer", Version: 1,
		Stages: []redisidem.FlowStage{{
			Point: redisidem.Started,
			Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				answer := answers[0]
				answers = answers[1:]
				if answer == "pending" {
					return redisidem.Snooze(30*time.Millisecond, redisidem.JSON(202, answer)), nil // seconds in production
				}
				return redisidem.Finish(redisidem.JSON(200, answer)), nil
			},
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	req := redisidem.Request{Method: "POST", Path: "/transfers"}
	for {
		key, err := sc.DoFlow(context.Background(), "key-from-the-client", req, flow)
		if err != nil {
			fmt.Println(err)
			return
		}
		if !key.Replayed() { // a call before the time gets the same answer again
			fmt.Println(key.Response.Code, string(key.Response.Body), key.Finished())
		}
		if key.Finished() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	// Output:
	// 202 "pending" false
	// 202 "pending" false
	// 200 "paid" true
}
