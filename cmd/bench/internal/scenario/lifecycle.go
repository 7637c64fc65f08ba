package scenario

import (
	"context"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/load"
)

var lifecycle = Scenario{
	Name: "lifecycle", Title: "First execution",
	About: "Each operation is a request with a fresh key: taken, executed (the work itself takes no time), answered, stored.",
	Kinds: []string{
		"redislock", "redisidem-auto", "redisidem", "redislock-auto", "redsync", "rueidislock", "gofiber", "floor", "floor-auto",
		"medusa-sql", "redisidem-sql",
	},
	Callers: 256, Leaves: true, Sized: true,
	Prepare: func(_ context.Context, s Subject) (load.Operation, func() error, error) {
		return func(ctx context.Context, caller int, n uint64) (time.Duration, error) {
			return 0, execute(ctx, s.Contender, request("first", caller, n), s.Body)
		}, nothing, nil
	},
}
