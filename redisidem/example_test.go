package redisidem_test

import (
	"context"
	"fmt"
	"log"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/redisidem"
)

// embeddedRedis stands for a production's Redis, so that the examples run anywhere.
func embeddedRedis() (addr string, stop func()) {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	return server.Addr(), server.Close
}

// exampleScope returns a tenant's scope of a fresh service.
func exampleScope() (sc *redisidem.Scope, stop func()) {
	addr, stopRedis := embeddedRedis()
	svc, err := redisidem.Open(context.Background(), "redis://"+addr, nil)
	if err != nil {
		log.Fatal(err)
	}
	return svc.Scope("tenant-42"), func() {
		_ = svc.Close(context.Background())
		stopRedis()
	}
}

// Work of several stages is a loop over recovery points. A retry continues where an earlier request stopped, and a retry
// of finished work gets its answer.
func Example() {
	sc, stop := exampleScope()
	defer stop()
	ctx := context.Background()
	req := redisidem.Request{Method: "POST", Path: "/orders", Params: map[string]string{"item": "book"}}

	serve := func() (*redisidem.Key, error) {
		key, err := sc.InitializeRequest(ctx, "key-from-the-client", req)
		for err == nil && !key.Answered() {
			switch key.RecoveryPoint {
			case redisidem.Started:
				key, err = sc.WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					fmt.Println("reserve the book")
					return redisidem.Advance("reserved"), nil
				})
			case "reserved":
				key, err = sc.WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					fmt.Println("charge the card")
					return redisidem.Finish(redisidem.JSON(201, "order 1")), nil
				})
			default:
				err = redisidem.ErrUnknownRecoveryPoint
			}
		}
		return key, err
	}

	for range 2 { // the request, and its retry
		key, err := serve()
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(key.Response.Code, string(key.Response.Body), key.Replayed())
	}
	// Output:
	// reserve the book
	// charge the card
	// 201 "order 1" false
	// 201 "order 1" true
}
