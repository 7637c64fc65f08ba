package redisidem_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

func TestDurabilityNeedsTheReplica(t *testing.T) {
	t.Parallel()
	for _, auto := range []bool{false, true} {
		t.Run(fmt.Sprintf("auto=%t", auto), func(t *testing.T) {
			t.Parallel()
			group := rediscase.Replicated(t, 1)
			replica := group.Replicas[0]
			sc := serviceOn(t, options(group.Master.Addr(), 3), redisidem.Config{
				Durability: 1, AutoPipeline: auto, Timeout: 2 * time.Second,
			}).Scope("a")
			// With the replica, everything works. This also loads the scripts.
			key, err := sc.WorkStage(ctx, start(t, sc, "warm"), finish("done"))
			mustBe(t, err, nil)
			if !key.Finished() {
				t.Error("not finished")
			}
			key = start(t, sc, "k")

			mustBe(t, replica.Pause(), nil)
			_, err = sc.WorkStage(ctx, key, never(t))
			mustBe(t, err, redisidem.ErrNotDurable)
			mustBe(t, replica.Resume(), nil)

			// The claim was abandoned in the background.
			key, err = sc.Wait(5*time.Second).WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				mustBe(t, replica.Pause(), nil)
				return redisidem.Finish(redisidem.JSON(200, "done")), nil
			})
			mustBe(t, err, redisidem.ErrNotDurable)
			if !key.Finished() {
				t.Error("the result is not stored")
			}
			_, err = sc.InitializeRequest(ctx, "k", request)
			mustBe(t, err, redisidem.ErrNotDurable) // a replay of what no replica has is not durable either
			mustBe(t, replica.Resume(), nil)
			key, err = sc.InitializeRequest(ctx, "k", request)
			mustBe(t, err, nil)
			if !key.Replayed() {
				t.Error("no replay")
			}
		})
	}
}

// TestKeptCommitThatTooFewReplicasHaveCountsNoFurtherStage stores a stage while the replica is
// frozen. The next stage does not begin, so no attempt at it may count.
func TestKeptCommitThatTooFewReplicasHaveCountsNoFurtherStage(t *testing.T) {
	t.Parallel()
	group := rediscase.Replicated(t, 1)
	replica := group.Replicas[0]
	raw := group.Master.Client()
	t.Cleanup(func() { _ = raw.Close() })
	strict := serviceOn(t, options(group.Master.Addr(), 3), redisidem.Config{Durability: 1, Timeout: 2 * time.Second})
	plain := serviceOn(t, options(group.Master.Addr(), 3), redisidem.Config{Timeout: 5 * time.Second})
	flow := mustFlow(t, cart(func(c *redisidem.FlowConfig) {
		c.Stages[0].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			mustBe(t, replica.Pause(), nil)
			return redisidem.Next(), nil
		}
		c.Stages[1].Reconcile = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			t.Errorf("Reconcile is asked at attempt %d of a stage that never began", st.Attempt())
			return redisidem.Outcome{}, redisidem.ErrNothingDone
		}
	}))
	key, err := strict.Scope("a").DoFlow(ctx, "k", request, flow)
	mustBe(t, err, redisidem.ErrNotDurable)
	if key.RecoveryPoint != "taxed" {
		t.Errorf("the key is at %q, want the stored stage behind it", key.RecoveryPoint)
	}
	mustBe(t, replica.Resume(), nil)
	waitForNoLock(t, raw)
	key, err = plain.Scope("a").DoFlow(ctx, "k", request, flow)
	mustBe(t, err, nil)
	if key.Attempts != 2 || key.Journal[1].Attempt != 1 || key.LastFailure != nil {
		t.Errorf("two calls and one run of the second stage are %d attempts, and %d at the stage; the last failure is %+v",
			key.Attempts, key.Journal[1].Attempt, key.LastFailure)
	}
}

// TestKeptCommitThatIsRepeatedWithTooFewReplicasCountsNoFurtherStage loses the reply to a commit
// that kept the lease. When it is sent again in the background, the replica is frozen.
func TestKeptCommitThatIsRepeatedWithTooFewReplicasCountsNoFurtherStage(t *testing.T) {
	t.Parallel()
	group := rediscase.Replicated(t, 1)
	replica := group.Replicas[0]
	raw := group.Master.Client()
	t.Cleanup(func() { _ = raw.Close() })
	w := &wire{}
	client := redis.NewClient(options(group.Master.Addr(), 3))
	client.AddHook(w)
	events := &recorder{}
	strict, err := redisidem.New(client, &redisidem.Config{Durability: 1, Timeout: 2 * time.Second, Observer: events})
	mustBe(t, err, nil)
	t.Cleanup(func() {
		mustBe(t, strict.Close(ctx), nil)
		_ = client.Close()
	})
	_, err = strict.Scope("a").DoFlow(ctx, "warm", request, mustFlow(t, cart())) // the server has the scripts then
	mustBe(t, err, nil)
	flow := mustFlow(t, cart(func(c *redisidem.FlowConfig) {
		c.Stages[0].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.lose, w.then = lua.Commit, func() { mustBe(t, group.Master.Pause(), nil) }
			return redisidem.Next(), nil
		}
	}))
	_, err = strict.Scope("a").DoFlow(ctx, "k", request, flow)
	mustBe(t, err, redisidem.ErrOutcomeUnknown)
	mustBe(t, replica.Pause(), nil)
	mustBe(t, group.Master.Resume(), nil)
	waitForNoLock(t, raw)
	mustBe(t, replica.Resume(), nil)
	if n := events.count(redisidem.EventCommitDropped); n != 0 {
		t.Errorf("a commit that is stored was reported as dropped %d times", n)
	}
	key, err := strict.Scope("a").DoFlow(ctx, "k", request, flow)
	mustBe(t, err, nil)
	if key.Journal[1].Attempt != 1 {
		t.Errorf("the only run of the second stage is attempt %d", key.Journal[1].Attempt)
	}
}
