package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// A key that keeps failing becomes a dead letter. An operator lists dead letters and, once the
// cause is mended, requeues them.
func ExampleService_DeadLetters() {
	addr, stop := embeddedRedis()
	defer stop()
	ctx := context.Background()
	svc, err := redisidem.Open(ctx, "redis://"+addr, &redisidem.Config{Timeout: 5 * time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close(ctx) }()

	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "mail", Version: 1, RecoverAfter: time.Millisecond, MaxAttempts: 1,
		Stages: []redisidem.FlowStage{{
			Point: redisidem.Started,
			Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Outcome{}, errors.New("the mail server is away")
			},
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, _ = svc.Scope("tenant-42").DoFlow(ctx, "key-from-the-client", redisidem.Request{Method: "POST", Path: "/mails"}, flow)
	time.Sleep(10 * time.Millisecond)
	completer, err := redisidem.NewCompleter(svc, []*redisidem.Flow{flow}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := completer.Sweep(ctx); err != nil {
		fmt.Println(err)
		return
	}

	for key, err := range svc.DeadLetters(ctx, "mail") {
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(key.Value, "-", key.DeadLetter.Reason)
		fmt.Println(svc.Scope(key.Scope).Requeue(ctx, key))
	}
	// Output:
	// key-from-the-client - stage "started" of mail/1: 1 attempt
	// <nil>
}
