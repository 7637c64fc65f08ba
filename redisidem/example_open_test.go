package redisidem_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/redisidem/redisidem/redisidem"
)

func ExampleOpen() {
	addr, stop := embeddedRedis()
	defer stop()
	ctx := context.Background()

	svc, err := redisidem.Open(ctx, "redis://"+addr+"/0", nil)
	if errors.Is(err, redisidem.ErrUnsafeServer) {
		fmt.Println("this server forgets keys")
	}
	if err != nil {
		return
	}
	defer func() { _ = svc.Close(ctx) }()

	_, err = svc.Scope("tenant-42").Retrieve(ctx, "key-from-the-client")
	fmt.Println(errors.Is(err, redisidem.ErrNotFound))
	// Output: true
}
