package redisidem_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// TestTooFewReplicasAreAnAnswerWithAnyReadTimeout has a client whose read timeout is much shorter
// than Config.Timeout.
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

// TestRefusalThatNoReplicaKnowsIsUnknown checks that a refusal counts only once the replicas have
// it: after a failover, the replica would store the refused commit if it arrived once more.
func TestRefusalThatNoReplicaKnowsIsUnknown(t *testing.T) {
	t.Parallel()
	group := rediscase.Replicated(t, 1)
	replica := group.Replicas[0]
	sc := serviceOn(t, options(group.Master.Addr(), 3), redisidem.Config{Durability: 1, Timeout: 2 * time.Second}).Scope("a")

	for _, known := range []bool{true, false} {
		key := start(t, sc, fmt.Sprintf("k-%t", known))
		lease, err := sc.Lock(ctx, key.Value)
		mustBe(t, err, nil)
		mustBe(t, sc.Unlock(ctx, key.Value), nil)
		_, err = sc.WorkStage(ctx, key, finish("successor"))
		mustBe(t, err, nil)
		want := redisidem.ErrFenced
		if !known {
			mustBe(t, replica.Pause(), nil)
			want = redisidem.ErrOutcomeUnknown
		}
		_, err = lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "late")))
		mustBe(t, err, want)
		if !known {
			mustBe(t, replica.Resume(), nil)
		}
	}
}

// TestRepeatedUpdateIsDurable loses the reply to an update that no replica has. WAIT looks at the
// last write of its connection, so the repetition has to write too.
func TestRepeatedUpdateIsDurable(t *testing.T) {
	t.Parallel()
	group := rediscase.Replicated(t, 1)
	proxy := rediscase.Proxy(t, group.Master.Addr())
	sc := serviceOn(t, options(proxy.Addr(), 3), redisidem.Config{Durability: 1, Timeout: 3 * time.Second}).Scope("a")
	_, err := sc.Update(ctx, start(t, sc, "the server knows the script"), redisidem.Advance("on"))
	mustBe(t, err, nil)
	key := start(t, sc, "k")
	mustBe(t, group.Replicas[0].Pause(), nil)
	t.Cleanup(func() { mustBe(t, group.Replicas[0].Resume(), nil) })
	proxy.Once(redistest.LoseReply, lua.Update.SHA)
	_, err = sc.Update(ctx, key, redisidem.Finish(redisidem.JSON(200, "by hand")))
	mustBe(t, err, redisidem.ErrNotDurable)
}
