package redisidem_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/redisidem/redisidem/redisidem"
)

// A stage leaves what later ones need, also in another process after a crash.
func ExampleStage_State() {
	sc, stop := exampleScope()
	defer stop()
	ctx := context.Background()
	req := redisidem.Request{Method: "POST", Path: "/rides"}
	type ride struct{ Driver string }

	_, err := sc.Do(ctx, "k", req, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		fmt.Println(errors.Is(st.State(new(ride)), redisidem.ErrNoState))
		return redisidem.Advance("ride_created").WithState(ride{Driver: "Ada"}), nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = sc.Do(ctx, "k", req, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		var r ride
		if err := st.State(&r); err != nil {
			return redisidem.Outcome{}, err
		}
		fmt.Println(st.Key().RecoveryPoint, r.Driver)
		return redisidem.Finish(redisidem.JSON(201, r)), nil
	})
	fmt.Println(err)
	// Output:
	// true
	// ride_created Ada
	// <nil>
}
