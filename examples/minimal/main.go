package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/redisidem/redisidem/redisidem"
)

func main() {
	ctx := context.Background()
	svc, err := redisidem.Open(ctx, os.Getenv("REDIS_URL"), nil)
	if err != nil {
		log.Fatal(err)
	}
	charge := func(context.Context, *redisidem.Stage) (string, error) { return "receipt 1", nil }
	req := redisidem.Request{Method: "POST", Path: "/charges", Params: map[string]int{"cents": 1200}}
	for range 2 { // the client's request, and its retry
		receipt, replayed, err := redisidem.Do(ctx, svc.Scope("tenant-42"), "key-from-the-client", req, charge)
		fmt.Println(receipt, replayed, err)
	}
	_ = svc.Close(ctx)
}
