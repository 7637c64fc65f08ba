package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// A customer has an hour to confirm a payment, and withdraws. The flow is undone by the next call
// with its key, or by a Completer, and its answer says why. Without the cancel the same happens
// after the deadline.
func ExampleScope_Cancel() {
	sc, stop := exampleScope()
	defer stop()
	ctx := context.Background()

	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "order", Version: 1, Deadline: time.Hour,
		FailWith: func(_ *redisidem.Stage, cause error) redisidem.Response {
			if errors.Is(cause, redisidem.ErrCanceled) {
				return redisidem.JSON(410, "withdrawn")
			}
			return redisidem.JSON(410, "not confirmed in time")
		},
		Stages: []redisidem.FlowStage{
			{
				Point: redisidem.Started,
				Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					fmt.Println("reserved")
					return redisidem.Next(), nil
				},
				Compensate: func(context.Context, *redisidem.Stage) error {
					fmt.Println("released")
					return nil
				},
			},
			{
				Point: "reserved",
				Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					return redisidem.Snooze(time.Hour, redisidem.JSON(202, "please confirm")).UntilCalled(), nil
				},
			},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	req := redisidem.Request{Method: "POST", Path: "/orders"}
	for range 2 {
		key, err := sc.DoFlow(ctx, "key-from-the-client", req, flow)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(key.Response.Code, string(key.Response.Body))
		fmt.Println("cancel:", sc.Cancel(ctx, "key-from-the-client"))
	}
	// Output:
	// reserved
	// 202 "please confirm"
	// cancel: <nil>
	// released
	// 410 "withdrawn"
	// cancel: <nil>
}
