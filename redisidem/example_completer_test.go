package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// A completer finishes what a client began and did not come back for. Programs call Run in a
// goroutine; Sweep scans once.
func ExampleNewCompleter() {
	addr, stop := embeddedRedis()
	defer stop()
	svc, err := redisidem.Open(context.Background(), "redis://"+addr, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close(context.Background()) }()
	died := true
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "orders", Version: 1, RecoverAfter: time.Millisecond,
		Stages: []redisidem.FlowStage{{
			Point: redisidem.Started,
			Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if died {
					return redisidem.Outcome{}, errors.New("the provider is down")
				}
				return redisidem.Finish(redisidem.JSON(201, "order 1")), nil
			},
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	_, err = svc.Scope("shop").DoFlow(ctx, "key-from-the-client", redisidem.Request{Method: "POST", Path: "/orders"}, flow)
	fmt.Println(err)
	died = false

	completer, err := redisidem.NewCompleter(svc, []*redisidem.Flow{flow}, &redisidem.CompleterConfig{Concurrency: 4})
	if err != nil {
		fmt.Println(err)
		return
	}
	time.Sleep(10 * time.Millisecond) // longer than RecoverAfter
	result, err := completer.Sweep(ctx)
	fmt.Println(result.Due, result.Finished, err)
	// Output:
	// redisidem: stage "started": the provider is down
	// 1 1 <nil>
}
