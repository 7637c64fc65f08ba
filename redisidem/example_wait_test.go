package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// A request that comes while another one works on the same key can wait for its answer.
func ExampleScope_Wait() {
	sc, stop := exampleScope()
	defer stop()
	ctx := context.Background()
	req := redisidem.Request{Method: "POST", Path: "/charges"}

	working, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_, _, _ = redisidem.Do(ctx, sc, "k", req, func(context.Context, *redisidem.Stage) (string, error) {
			close(working)
			time.Sleep(50 * time.Millisecond)
			return "receipt 1", nil
		})
	}()
	<-working
	work := func(context.Context, *redisidem.Stage) (string, error) { return "receipt 2", nil }

	_, _, err := redisidem.Do(ctx, sc, "k", req, work)
	fmt.Println(errors.Is(err, redisidem.ErrLocked))

	receipt, replayed, err := redisidem.Do(ctx, sc.Wait(10*time.Second), "k", req, work)
	fmt.Println(receipt, replayed, err)
	<-done
	// Output:
	// true
	// receipt 1 true <nil>
}
