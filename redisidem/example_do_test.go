package redisidem_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/redisidem/redisidem/redisidem"
)

func ExampleDo() {
	sc, stop := exampleScope()
	defer stop()
	ctx := context.Background()
	req := redisidem.Request{Method: "POST", Path: "/charges", Params: map[string]int{"cents": 1200}}
	charge := func(context.Context, *redisidem.Stage) (string, error) {
		fmt.Println("charging")
		return "receipt 1", nil
	}

	for range 2 { // the request, and its retry
		receipt, replayed, err := redisidem.Do(ctx, sc, "key-from-the-client", req, charge)
		fmt.Println(receipt, replayed, err)
	}

	req.Params = map[string]int{"cents": 9900}
	_, _, err := redisidem.Do(ctx, sc, "key-from-the-client", req, charge)
	fmt.Println(errors.Is(err, redisidem.ErrFingerprintMismatch))
	// Output:
	// charging
	// receipt 1 false <nil>
	// receipt 1 true <nil>
	// true
}
