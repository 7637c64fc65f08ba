package redisidem_test

import (
	"context"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// Answers to payments are kept for a month, those to other requests for a day.
func ExampleService_WithRetention() {
	addr, stop := embeddedRedis()
	defer stop()
	ctx := context.Background()
	svc, err := redisidem.Open(ctx, "redis://"+addr, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close(ctx) }()
	payments, err := svc.WithRetention(30 * 24 * time.Hour)
	if err != nil {
		fmt.Println(err)
		return
	}

	req := redisidem.Request{Method: "POST", Path: "/charges"}
	charge := func(context.Context, *redisidem.Stage) (string, error) { return "receipt 1", nil }
	_, _, err = redisidem.Do(ctx, payments.Scope("tenant-42"), "key-from-the-client", req, charge)
	info, _ := redisidem.NewInspector(svc).Get(ctx, "tenant-42", "key-from-the-client")
	fmt.Println(info.Life > 29*24*time.Hour, err)
	// Output:
	// true <nil>
}
