package scenario

import (
	"context"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/load"
)

var throughGateway = Scenario{
	Name: "gateway", Title: "First execution through the gateway",
	About: "Each operation is a POST with a fresh key to a gateway process in front of a server in this process, whose handler takes " +
		"no time; all of them share the processors with Redis. Client time and allocations are of this process: caller and handler, " +
		"and not the gateway between them.",
	Kinds:   []string{"proxy", "gateway-bare", "gateway"},
	Callers: 64,
	Prepare: overHTTP.Prepare,
}

var overHTTP = Scenario{
	Name: "http", Title: "First execution over HTTP",
	About: "Each operation is a POST with a fresh key to a server in this process, whose handler takes no time; client and server " +
		"share the processors with Redis.",
	Kinds:   []string{"http-floor", "http", "http-redisidem", "http-redisidem-auto", "http-floor-auto"},
	Callers: 64,
	Prepare: func(_ context.Context, s Subject) (load.Operation, func() error, error) {
		return func(ctx context.Context, caller int, n uint64) (time.Duration, error) {
			return 0, execute(ctx, s.Contender, request("http", caller, n), s.Body)
		}, nothing, nil
	},
}
