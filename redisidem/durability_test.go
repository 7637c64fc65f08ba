package redisidem_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
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
