package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

func ExampleNew() {
	addr, stop := embeddedRedis()
	defer stop()
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	defer func() { _ = client.Close() }()

	svc, err := redisidem.New(client, &redisidem.Config{Namespace: "orders", Retention: 72 * time.Hour})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close(context.Background()) }()
	fmt.Println(svc.Config().Namespace, svc.Config().Retention, svc.Config().Lease)

	_, err = redisidem.New(client, &redisidem.Config{Lease: time.Microsecond})
	fmt.Println(errors.Is(err, redisidem.ErrInvalid))
	// Output:
	// orders 72h0m0s 10s
	// true
}
