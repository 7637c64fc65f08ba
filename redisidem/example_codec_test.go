package redisidem_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
)

// A codec encrypts the values of records. codec.NewEncryption says how to rotate its keys.
func ExampleCodec() {
	addr, stop := embeddedRedis()
	defer stop()
	ctx := context.Background()

	encryption, err := codec.NewEncryption(codec.EncryptionKey{ID: "2026-11", Secret: make([]byte, 32)}) // use a random secret
	if err != nil {
		fmt.Println(err)
		return
	}
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	defer func() { _ = client.Close() }()
	svc, err := redisidem.New(client, &redisidem.Config{Codec: encryption})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close(ctx) }()

	key, err := svc.Scope("tenant-42").Do(ctx, "key-from-the-client", redisidem.Request{Method: "POST", Path: "/cards"},
		func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Finish(redisidem.JSON(201, "4242 4242 4242 4242")), nil
		})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(key.Response.Body))

	records, err := client.Keys(ctx, "*:"+key.ID()).Result()
	if err != nil {
		fmt.Println(err)
		return
	}
	stored := client.HGet(ctx, records[0], "response_body").Val()
	fmt.Println(strings.Contains(stored, "4242"))
	// Output:
	// "4242 4242 4242 4242"
	// false
}
