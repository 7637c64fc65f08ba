package redisidem_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/redisidem/redisidem/redisidem"
)

// Another service that knows idempotency keys itself gets the same one from each run of a stage.
func ExampleStage_OutboundKey() {
	sc, stop := exampleScope()
	defer stop()
	ctx := context.Background()
	key, err := sc.Create(ctx, redisidem.Request{Method: "POST", Path: "/charges"})
	if err != nil {
		fmt.Println(err)
		return
	}

	sent := make(map[string]int)
	for range 2 { // the first run fails after it has sent its call
		_, _ = sc.WorkStage(ctx, key, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			sent[st.OutboundKey("charge")]++
			if st.Attempt() == 1 {
				return redisidem.Outcome{}, errors.New("no answer")
			}
			return redisidem.Finish(redisidem.JSON(200, "charged")), nil
		})
	}
	for _, times := range sent {
		fmt.Println("one key, sent", times, "times")
	}
	// Output: one key, sent 2 times
}
