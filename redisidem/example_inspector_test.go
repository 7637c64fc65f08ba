package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// An operator finds a key whose work was interrupted, finds out elsewhere what became of the work,
// and gives the key its final answer. The retry of the client gets this answer.
func ExampleInspector() {
	addr, stop := embeddedRedis()
	defer stop()
	ctx := context.Background()
	svc, err := redisidem.Open(ctx, "redis://"+addr, &redisidem.Config{Timeout: 5 * time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close(ctx) }()
	request := redisidem.Request{Method: "POST", Path: "/orders"}
	charge := func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Outcome{}, errors.New("the provider did not answer")
	}
	_, _ = svc.Scope("tenant-42").Do(ctx, "key-from-the-client", request, charge)

	inspector := redisidem.NewInspector(svc)
	act := redisidem.Act{Actor: "ann", Reason: "the provider has charged: ticket 4711"}
	interrupted := redisidem.Filter{States: []redisidem.KeyState{redisidem.KeyInterrupted}}
	for page, err := range inspector.List(ctx, interrupted, "") {
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, key := range page.Keys {
			fmt.Println(key.Scope, key.Value, "is", key.State, "after", key.Attempts, "attempt")
			answer := redisidem.Finish(redisidem.JSON(201, map[string]any{"order": 1}))
			if err := inspector.Resolve(ctx, key, answer, act); err != nil {
				fmt.Println(err)
			}
		}
	}

	key, err := svc.Scope("tenant-42").Do(ctx, "key-from-the-client", request, charge)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(key.Response.Code, string(key.Response.Body), "replayed:", key.Replayed())
	entries, err := inspector.Audit(ctx, time.Time{}, time.Time{})
	for _, e := range entries {
		fmt.Println(e.Actor, e.Act, e.Outcome, "because", e.Reason)
	}
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// tenant-42 key-from-the-client is interrupted after 1 attempt
	// 201 {"order":1} replayed: true
	// ann resolve done because the provider has charged: ticket 4711
}
