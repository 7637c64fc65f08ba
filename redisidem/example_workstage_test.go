package redisidem_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/redisidem/redisidem/redisidem"
)

// An error of the callback leaves the recovery point where it is, and the next request tries the stage again.
func ExampleScope_WorkStage() {
	sc, stop := exampleScope()
	defer stop()
	ctx := context.Background()

	key, err := sc.InitializeRequest(ctx, "key-from-the-client", redisidem.Request{Method: "POST", Path: "/mails"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 2 {
		key, err = sc.WorkStage(ctx, key, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			if st.Attempt() == 1 {
				return redisidem.Outcome{}, errors.New("the mail server is away")
			}
			return redisidem.Finish(redisidem.Response{Code: 204}), nil
		})
		fmt.Println(key.RecoveryPoint, err)
	}
	// Output:
	// started the mail server is away
	// finished <nil>
}
