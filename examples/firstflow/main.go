// Firstflow is the checkout that docs/first-flow.md builds: it makes an order, takes the payment
// and sends the mail. With CRASH=pay the process ends right after the payment.
//
//	REDIS_URL=redis://127.0.0.1:6399 CRASH=pay go run ./examples/firstflow checkout-2 card
//	REDIS_URL=redis://127.0.0.1:6399 go run ./examples/firstflow checkout-2 card
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: go run . KEY CARD")
	}
	ctx := context.Background()
	svc, err := redisidem.Open(ctx, os.Getenv("REDIS_URL"), &redisidem.Config{Wait: 15 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	checkout, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "checkout", Version: 1,
		Stages: []redisidem.FlowStage{
			{Point: redisidem.Started, Work: createOrder, Compensate: cancelOrder},
			{Point: "ordered", Work: pay},
			{Point: "paid", Work: sendMail},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	cart := map[string]string{"cart": "7", "card": os.Args[2]}
	req := redisidem.Request{Method: "POST", Path: "/checkouts", Params: cart}
	key, err := svc.Scope("tenant-42").DoFlow(ctx, os.Args[1], req, checkout)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("answer %d %s, replayed: %v\n", key.Response.Code, key.Response.Body, key.Replayed())
	_ = svc.Close(ctx)
}

func createOrder(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	fmt.Println("order, attempt", st.Attempt())
	if err := once("orders.txt", st.OutboundKey("order"), "order of cart 7"); err != nil {
		return redisidem.Outcome{}, err
	}
	return redisidem.Next().WithState("order of cart 7"), nil
}

func sendMail(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	var order string
	if err := st.State(&order); err != nil {
		return redisidem.Outcome{}, err
	}
	fmt.Println("mail, attempt", st.Attempt())
	if err := once("mails.txt", st.OutboundKey("mail"), "thank you for the "+order); err != nil {
		return redisidem.Outcome{}, err
	}
	return redisidem.Finish(redisidem.JSON(201, order)), nil
}

// once stands in for another system, such as a payment provider: it does what it is asked once for
// each key. It keeps its work in a file, a line for each key.
func once(file, key, work string) error {
	done, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if strings.Contains(string(done), key) {
		return nil
	}
	return os.WriteFile(file, fmt.Appendln(done, key, work), 0o600)
}

func pay(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	fmt.Println("pay, attempt", st.Attempt())
	if os.Args[2] == "declined" {
		return redisidem.Fail(redisidem.JSON(402, "card declined")), nil
	}
	if err := once("payments.txt", st.OutboundKey("payment"), "12 euro"); err != nil {
		return redisidem.Outcome{}, err
	}
	if os.Getenv("CRASH") == "pay" {
		os.Exit(1) // as if the process was killed: the payment is made, but not recorded
	}
	return redisidem.Next(), nil
}

func cancelOrder(_ context.Context, st *redisidem.Stage) error {
	fmt.Println("cancel the order")
	return once("orders.txt", st.OutboundKey("cancel"), "canceled")
}
