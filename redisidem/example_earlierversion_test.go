package redisidem_test

import (
	"context"
	"fmt"

	"github.com/redisidem/redisidem/redisidem"
)

// orderV1 is the first version of a flow. Its state is a number of cents.
func orderV1() (*redisidem.Flow, error) {
	return redisidem.NewFlow(redisidem.FlowConfig{Name: "order", Version: 1, Stages: []redisidem.FlowStage{
		{Point: redisidem.Started, Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Next().WithState(1200), nil
		}},
		{Point: "priced", Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.NothingDone(), nil // the warehouse has to answer first
		}},
	}})
}

// price is the state of the second version.
type price struct {
	Cents    int
	Currency string
}

// orderV2 is the second version. It adopts the keys of the first one.
func orderV2() (*redisidem.Flow, error) {
	v1, err := orderV1()
	if err != nil {
		return nil, err
	}
	return redisidem.NewFlow(redisidem.FlowConfig{
		Name: "order", Version: 2,
		Earlier: []redisidem.EarlierVersion{{Flow: v1, Adopt: adoptV1}},
		Stages: []redisidem.FlowStage{
			{Point: redisidem.Started, Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Next().WithState(price{1200, "EUR"}), nil
			}},
			{Point: "shipped", Work: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				var p price
				err := st.State(&p)
				return redisidem.Finish(redisidem.JSON(201, fmt.Sprint("shipped for ", p.Cents, " ", p.Currency))), err
			}},
		},
	})
}

// adoptV1 returns where a key of the first version goes on in the second one.
func adoptV1(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	if st.Key().RecoveryPoint == redisidem.Started {
		return redisidem.Advance(redisidem.Started), nil
	}
	var cents int
	if err := st.State(&cents); err != nil {
		return redisidem.Outcome{}, err
	}
	return redisidem.Advance("shipped").WithState(price{cents, "EUR"}), nil
}

// A new version of a flow adopts a key that the earlier version has begun.
func ExampleEarlierVersion() {
	sc, stop := exampleScope()
	defer stop()
	req := redisidem.Request{Method: "POST", Path: "/orders"}
	for _, version := range []func() (*redisidem.Flow, error){orderV1, orderV2} {
		flow, err := version()
		if err != nil {
			fmt.Println(err)
			return
		}
		key, err := sc.DoFlow(context.Background(), "the-key-of-the-client", req, flow)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(key.Flow, "is at", key.RecoveryPoint)
		if key.Finished() {
			fmt.Printf("%s\n", key.Response.Body)
		}
		for _, e := range key.Journal {
			fmt.Println("  commit of", e.Stage)
		}
	}
	// Output:
	// order/1 is at priced
	//   commit of started
	// order/2 is at finished
	// "shipped for 1200 EUR"
	//   commit of started
	//   commit of adopt:priced
	//   commit of shipped
}
