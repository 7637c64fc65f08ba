package redisidem_test

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
)

// TestNameThatIsSwitchedToAnotherServer lets the old master become a replica that keeps its connections, as when a name or an
// address moves: what it says about records is of the past, and must not be taken for a refusal.
func TestNameThatIsSwitchedToAnotherServer(t *testing.T) {
	t.Parallel()
	for _, auto := range []bool{false, true} {
		t.Run(fmt.Sprintf("auto=%v", auto), func(t *testing.T) {
			t.Parallel()
			before, after := rediscase.Server(t), rediscase.Server(t)
			var current atomic.Pointer[redistest.Server]
			current.Store(before)
			rdb := redis.NewClient(&redis.Options{
				Addr: "name:1", ContextTimeoutEnabled: true, DisableIdentity: true, MaxRetries: -1,
				Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "tcp", current.Load().Addr())
				},
			})
			t.Cleanup(func() { _ = rdb.Close() })
			svc, err := redisidem.New(rdb, &redisidem.Config{AutoPipeline: auto, Timeout: 5 * time.Second})
			mustBe(t, err, nil)
			t.Cleanup(func() { mustBe(t, svc.Close(ctx), nil) })
			sc := svc.Scope("a")
			_, err = sc.Do(ctx, "k", request, finish("done"))
			mustBe(t, err, nil)

			admin := before.Client()
			t.Cleanup(func() { _ = admin.Close() })
			host, port, err := net.SplitHostPort(after.Addr())
			mustBe(t, err, nil)
			current.Store(after)
			mustBe(t, admin.Do(ctx, "REPLICAOF", host, port).Err(), nil)
			for i := range 500 {
				_, err := sc.Do(ctx, fmt.Sprint(i), request, finish("done"))
				mustBe(t, err, nil)
			}
		})
	}
}
