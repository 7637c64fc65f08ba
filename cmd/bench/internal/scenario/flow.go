package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/contender"
	"github.com/redisidem/redisidem/cmd/bench/internal/load"
)

var flow = Scenario{
	Name: "flow", Title: "Four stages",
	About: "Each operation is a request with a fresh key that is executed in four stages, each remembered before the next " +
		"begins (the stages themselves take no time).",
	Kinds:   []string{"redislock", "redisidem-auto", "redisidem", "redislock-auto", "redsync"},
	Callers: 256, Leaves: true,
	Prepare: func(_ context.Context, s Subject) (load.Operation, func() error, error) {
		g, ok := s.Contender.(contender.Staged)
		if !ok {
			return nil, nil, fmt.Errorf("%s has no stages", s.Kind.Name)
		}
		return func(ctx context.Context, caller int, n uint64) (time.Duration, error) {
			return 0, executeBy(ctx, g.Flow, request("flow", caller, n), s.Body)
		}, nothing, nil
	},
}
