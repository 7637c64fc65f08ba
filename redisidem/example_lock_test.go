package redisidem_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/redisidem/redisidem/redisidem"
)

// A lease is for work that does not fit into a callback.
func ExampleScope_Lock() {
	sc, stop := exampleScope()
	defer stop()
	ctx := context.Background()
	if _, err := sc.InitializeRequest(ctx, "import-7", redisidem.Request{Method: "IMPORT"}); err != nil {
		fmt.Println(err)
		return
	}

	lease, err := sc.Lock(ctx, "import-7")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = lease.Abandon(ctx) }() // after a Commit it does nothing

	_, err = sc.Lock(ctx, "import-7")
	fmt.Println(errors.Is(err, redisidem.ErrLocked))

	key, held, err := lease.CommitKeep(ctx, redisidem.Advance("half"))
	fmt.Println(key.RecoveryPoint, held, err)
	key, err = lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, 7)))
	fmt.Println(key.RecoveryPoint, err)
	// Output:
	// true
	// half true <nil>
	// finished <nil>
}
