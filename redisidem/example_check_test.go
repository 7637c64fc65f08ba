package redisidem_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

func ExampleService_Check() {
	addr, stop := embeddedRedis()
	defer stop()
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	defer func() { _ = client.Close() }()
	svc, err := redisidem.New(client, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close(ctx) }()

	report, err := svc.Check(ctx)
	if err != nil { // the server did not answer
		fmt.Println(err)
		return
	}
	for _, f := range report.Findings {
		fmt.Printf("%s: %v\n", f.Subject, f.Verdict)
	}
	fmt.Println(errors.Is(report.Err(), redisidem.ErrUnsafeServer))
	// Output:
	// version: undetermined
	// eviction: undetermined
	// persistence: undetermined
	// replication: undetermined
	// scripts: good
	// rights: good
	// false
}
