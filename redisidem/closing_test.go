package redisidem_test

import (
	"context"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// TestStageTakesOtherKeysWhileCloseWaitsForIt has a stage that needs another key to come to its
// end.
func TestStageTakesOtherKeysWhileCloseWaitsForIt(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		closed := make(chan error, 1)
		_, err := sc.Do(ctx, "k", request, func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
			go func() { closed <- svc.Close(context.Background()) }()
			time.Sleep(time.Second)
			_, err := sc.Do(ctx, "other", request, finish("x"))
			mustBe(b, err, nil)
			key, err := sc.InitializeRequest(ctx, "third", request)
			mustBe(b, err, nil)
			_, err = sc.WorkStage(ctx, key, finish("y"))
			mustBe(b, err, nil)
			_, err = sc.Retrieve(ctx, "other")
			mustBe(b, err, nil)
			_, err = sc.Do(context.Background(), "fourth", request, finish("z")) // not as a part of the stage
			mustBe(b, err, redisidem.ErrClosed)
			return redisidem.Finish(redisidem.JSON(200, "x")), nil
		})
		mustBe(b, err, nil)
		mustBe(b, <-closed, nil)
	})
}
