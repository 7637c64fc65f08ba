package redisidem_test

import (
	"context"
	"fmt"

	"github.com/redisidem/redisidem/redisidem"
)

// An interim answer ends this request, and the next one with the same key goes on.
func ExampleInterim() {
	sc, stop := exampleScope()
	defer stop()
	ctx := context.Background()
	req := redisidem.Request{Method: "POST", Path: "/payments"}

	confirmed := false
	pay := func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		if !confirmed {
			return redisidem.Interim("started", redisidem.JSON(202, "please confirm")), nil
		}
		return redisidem.Finish(redisidem.JSON(200, "paid")), nil
	}
	for range 2 {
		key, err := sc.Do(ctx, "key-from-the-client", req, pay)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(key.Response.Code, string(key.Response.Body), key.Finished())
		confirmed = true
	}
	// Output:
	// 202 "please confirm" false
	// 200 "paid" true
}
