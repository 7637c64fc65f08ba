package redisidem_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
)

// TestDeleteTakesTheKeyOutOfItsIndexes deletes a key that is due and a dead letter.
func TestDeleteTakesTheKeyOutOfItsIndexes(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.MaxAttempts = 1
			c.Stages[1].Work = fails(errStage)
		}))
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		for list, sweeps := range map[string]bool{"due": false, "dead": true} {
			_, err := sc.DoFlow(ctx, list, request, flow)
			mustBe(b, err, errStage)
			if sweeps {
				time.Sleep(time.Minute)
				mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, DeadLettered: 1})
			}
			if n := b.indexed(list); n != 1 {
				b.Fatalf("%d keys are %s", n, list)
			}
			key, err := sc.Retrieve(ctx, list)
			mustBe(b, err, nil)
			mustBe(b, sc.Delete(ctx, key), nil)
			if due, dead := b.indexed("due"), b.indexed("dead"); due+dead != 0 {
				b.Errorf("the deleted key is in the due index %d times and in the dead letters %d times", due, dead)
			}
		}
	})
}

// TestDeleteWorksOnAServerWhoseMemoryIsFull checks that records can be deleted to free memory.
func TestDeleteWorksOnAServerWhoseMemoryIsFull(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t, redistest.Args("--maxmemory-policy", "noeviction"))
	e := &env{t: t, namespace: freshNamespace(), client: func() redis.UniversalClient {
		client := redis.NewClient(options(server.Addr(), 3))
		t.Cleanup(func() { _ = client.Close() })
		return client
	}}
	sc, raw := e.service().Scope("a"), e.client()
	kept, lost := start(t, sc, "kept"), start(t, sc, "lost")
	record, _ := e.place(lost)
	mustBe(t, raw.Del(ctx, record).Err(), nil)
	mustBe(t, raw.ConfigSet(ctx, "maxmemory", "1").Err(), nil)
	mustBe(t, sc.Delete(ctx, kept), nil)
	mustBe(t, sc.Delete(ctx, lost), nil)
	for _, key := range []*redisidem.Key{kept, lost} {
		record, _ := e.place(key)
		if fields := raw.HGetAll(ctx, record).Val(); len(fields) != 1 || fields["generation"] == "" {
			t.Errorf("the tombstone of %s holds %q", key.Value, fields)
		}
	}
}

func TestDamagedRecordIsDeletedByItsName(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, raw := e.service().Scope("a"), e.client()
		key := start(t, sc, "k")
		record, _ := e.place(key)
		mustBe(t, raw.HSet(ctx, record, "control", "9 of another version").Err(), nil)
		_, err := sc.Retrieve(ctx, "k")
		mustBe(t, err, redisidem.ErrDamaged)
		mustBe(t, sc.Delete(ctx, &redisidem.Key{Value: "k", Scope: "a"}), nil)
		_, err = sc.Retrieve(ctx, "k")
		mustBe(t, err, redisidem.ErrNotFound)
	})
}
