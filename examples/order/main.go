// Order runs a flow of two stages: it charges, and then it ships. With "crash" behind the key, the
// process ends in the middle of the second stage.
//
//	REDIS_URL=redis://127.0.0.1:6399 go run ./examples/order order-1 crash
//	REDIS_URL=redis://127.0.0.1:6399 go run ./examples/order order-1
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: order KEY [crash]")
	}
	ctx := context.Background()
	svc, err := redisidem.Open(ctx, os.Getenv("REDIS_URL"), &redisidem.Config{Wait: 15 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	order, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "order", Version: 1,
		Stages: []redisidem.FlowStage{
			{Point: redisidem.Started, Work: charge},
			{Point: "charged", Work: ship},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	req := redisidem.Request{Method: "POST", Path: "/orders", Params: map[string]int{"cents": 1200}}
	key, err := svc.Scope("tenant-42").DoFlow(ctx, os.Args[1], req, order)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("answer %s, replayed: %v\n", key.Response.Body, key.Replayed())
	_ = svc.Close(ctx)
}

// charge is the first stage. A provider would get st.OutboundKey as the idempotency key of the
// charge.
func charge(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	fmt.Println("charge, attempt", st.Attempt())
	return redisidem.Next().WithState("payment 7"), nil
}

// ship is the second stage. It gets the state that the first one left, in whatever process it runs.
func ship(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	var payment string
	if err := st.State(&payment); err != nil {
		return redisidem.Outcome{}, err
	}
	fmt.Printf("ship for %s, attempt %d\n", payment, st.Attempt())
	if len(os.Args) > 2 {
		os.Exit(1) // as if the process was killed: nothing is given back
	}
	return redisidem.Finish(redisidem.JSON(201, "parcel 3")), nil
}
