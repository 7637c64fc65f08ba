package redisidem_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/redisidem/redisidem/redisidem"
)

// storingProvider answers each of its idempotency keys as it did first, also with a failure.
type storingProvider struct {
	away    bool
	answers map[string]string
}

func (p *storingProvider) charge(key string) string {
	if answer, ok := p.answers[key]; ok {
		return answer
	}
	p.answers[key] = "charged"
	if p.away {
		p.answers[key] = "nothing was charged: the bank is away"
	}
	return p.answers[key]
}

// A provider that has stored its own failure under an outbound key repeats it with each retry. A
// stage that advances to itself has another outbound key in its next visit. It does so only when
// the provider says that nothing was done, and a bounded number of times.
func ExampleStage_OutboundKey_afterAStoredFailure() {
	sc, stop := exampleScope()
	defer stop()
	provider := &storingProvider{away: true, answers: make(map[string]string)}
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "charge", Version: 1, Stages: []redisidem.FlowStage{{
		Point: redisidem.Started,
		Next:  []string{redisidem.Started, redisidem.Finished},
		Work: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			tries := 0
			if err := st.State(&tries); err != nil && !errors.Is(err, redisidem.ErrNoState) {
				return redisidem.Outcome{}, err
			}
			answer := provider.charge(st.OutboundKey("charge"))
			fmt.Println(answer)
			provider.away = false
			switch {
			case answer == "charged":
				return redisidem.Finish(redisidem.JSON(201, answer)), nil
			case tries == 3:
				return redisidem.Fail(redisidem.JSON(502, "The bank is away.")), nil
			}
			return redisidem.Advance(redisidem.Started).WithState(tries + 1), nil // a new visit
		},
	}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = sc.DoFlow(context.Background(), "the-key-of-the-client", redisidem.Request{Method: "POST", Path: "/charges"}, flow)
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(len(provider.answers), "outbound keys")
	// Output:
	// nothing was charged: the bank is away
	// charged
	// 2 outbound keys
}
