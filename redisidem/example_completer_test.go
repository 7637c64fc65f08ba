package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// A completer finishes keys whose clients do not come back. A program that has no scheduler calls
// Run in place of Sweep, which sweeps every Interval until its context ends.
func ExampleCompleter() {
	addr, stop := embeddedRedis()
	defer stop()
	ctx := context.Background()
	svc, err := redisidem.Open(ctx, "redis://"+addr, &redisidem.Config{Timeout: 5 * time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close(ctx) }()

	away := true
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "mail", Version: 1, RecoverAfter: time.Millisecond, // minutes in production
		Stages: []redisidem.FlowStage{{
			Point: redisidem.Started,
			Work: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				if away {
					return redisidem.Outcome{}, errors.New("the mail server is away")
				}
				fmt.Println("mail sent in attempt", st.Attempt())
				return redisidem.Finish(redisidem.Response{Code: 204}), nil
			},
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	// The request fails, and its client does not come back.
	_, err = svc.Scope("tenant-42").DoFlow(ctx, "key-from-the-client", redisidem.Request{Method: "POST", Path: "/mails"}, flow)
	fmt.Println(err)
	away = false
	time.Sleep(10 * time.Millisecond)

	completer, err := redisidem.NewCompleter(svc, []*redisidem.Flow{flow}, &redisidem.CompleterConfig{Concurrency: 2})
	if err != nil {
		fmt.Println(err)
		return
	}
	swept, err := completer.Sweep(ctx)
	fmt.Println(swept.Finished, "finished", err)
	// Output:
	// redisidem: stage "started": the mail server is away
	// mail sent in attempt 2
	// 1 finished <nil>
}
