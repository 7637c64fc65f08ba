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

// Each stage adds its part to the state. The compensation of a stage gets the state as that stage
// has left it.
func ExampleOutcome_AddState() {
	sc, stop := exampleScope()
	defer stop()
	type order struct {
		Charge string `json:",omitempty"`
		Parcel string `json:",omitempty"`
	}
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "order", Version: 1, Stages: []redisidem.FlowStage{
		{
			Point: redisidem.Started,
			Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Next().AddState(order{Charge: "ch_1"}), nil
			},
			Compensate: func(_ context.Context, st *redisidem.Stage) error {
				var o order
				err := st.State(&o)
				fmt.Printf("refund %q, parcel %q\n", o.Charge, o.Parcel)
				return err
			},
		},
		{
			Point: "charged",
			Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Next().AddState(order{Parcel: "pa_1"}), nil
			},
		},
		{
			Point: "packed",
			Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Fail(redisidem.JSON(409, "the address does not exist")), nil
			},
		},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	key, err := sc.DoFlow(context.Background(), "k", redisidem.Request{Method: "POST", Path: "/orders"}, flow)
	fmt.Println(key.Response.Code, err)
	// Output:
	// refund "ch_1", parcel ""
	// 409 <nil>
}
