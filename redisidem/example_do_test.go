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

// Payment is the result of a charge. A declined one is a result as well, which retries get with the
// status 402.
type Payment struct {
	Receipt  string `json:"receipt,omitempty"`
	Declined string `json:"declined,omitempty"`
}

// StatusCode is the status with which Do stores the payment.
func (p Payment) StatusCode() int {
	if p.Declined != "" {
		return 402
	}
	return 201
}

func ExampleDo_status() {
	sc, stop := exampleScope()
	defer stop()
	ctx := context.Background()
	req := redisidem.Request{Method: "POST", Path: "/charges", Params: map[string]int{"cents": 1200}}
	charge := func(context.Context, *redisidem.Stage) (Payment, error) {
		fmt.Println("charging")
		return Payment{Declined: "no funds"}, nil
	}

	for range 2 { // the request, and its retry
		payment, replayed, err := redisidem.Do(ctx, sc, "key-from-the-client", req, charge)
		fmt.Println(payment.StatusCode(), payment.Declined, replayed, err)
	}
	// Output:
	// charging
	// 402 no funds false <nil>
	// 402 no funds true <nil>
}
