package redisidem_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
)

// TestTooFewReplicasAreAnAnswerWithAnyReadTimeout has a client that gives a connection up long before Config.Timeout is over.
func TestTooFewReplicasAreAnAnswerWithAnyReadTimeout(t *testing.T) {
	t.Parallel()
	opt := options(rediscase.Server(t).Addr(), 3)
	opt.ReadTimeout = time.Second
	client := redis.NewClient(opt)
	t.Cleanup(func() { _ = client.Close() })
	svc, err := redisidem.New(client, &redisidem.Config{Durability: 1, Timeout: 20 * time.Second})
	mustBe(t, err, nil)
	t.Cleanup(func() { mustBe(t, svc.Close(ctx), nil) })
	_, err = svc.Scope("a").InitializeRequest(ctx, "k", request)
	mustBe(t, err, redisidem.ErrNotDurable)
}
