//go:build unix

// Package gateway tests the promise of the gateway with real processes: two gateways behind a load
// balancer, one Redis, and a service that counts what it does.
//
// The drill breaks and changes what gateways stand on while a mixed load runs: Redis is restarted,
// frozen, full, read-only, without its replica, and unable to save. The gateways are replaced one
// by one and killed. Routes, certificates and the keys of tokens change. No request runs twice if
// its policy forbids that. Each finished key has the same bytes for all its clients. A rolling
// replacement refuses no connection, and Redis interrupts no route that is not protected.
//
//	go test -count=1 -v ./test/gateway -size change   # about a minute
//	go test -count=1 -v -timeout 1h ./test/gateway -size nightly
package gateway

import (
	"context"
	"flag"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/leak"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	flag.Parse()
	leak.Main(m, removeProgram)
}

// quiet discards the log of go-redis, which writes about a server that is away.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}
