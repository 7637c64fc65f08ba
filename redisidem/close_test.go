package redisidem_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestCloseWaitsForStages(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		key := start(b, sc, "k")
		done := make(chan error)
		running := make(chan struct{})
		go func() {
			_, err := sc.WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				close(running)
				time.Sleep(20 * time.Second)
				return redisidem.Outcome{}, nil
			})
			done <- err
		}()
		<-running
		began := time.Now()
		go func() { done <- svc.Close(ctx) }()
		mustBe(b, <-done, nil)
		mustBe(b, <-done, nil)
		if took := time.Since(began); took < 20*time.Second || took > 21*time.Second {
			b.Errorf("closed after %v, want %v to %v", took, 20*time.Second, 21*time.Second)
		}
	})
}

// TestStageTakesOtherKeysWhileCloseWaitsForIt has a stage that needs another key before it can end.
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

// TestTrapL15ForgottenLeaseDoesNotHoldUpClose checks that a lease that its program never ends
// delays Close for no longer than MaxHold.
func TestTrapL15ForgottenLeaseDoesNotHoldUpClose(t *testing.T) {
	for name, outage := range map[string]bool{"renewed": false, "lost before": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				began := time.Now()
				svc := b.service(redisidem.Config{MaxHold: time.Minute})
				forgotten := locked(b, svc.Scope("a"), "k")
				if outage {
					b.freeze()
					<-forgotten.Context().Done()
					b.thaw()
				}
				mustBe(b, svc.Close(ctx), nil)
				if took := time.Since(began); took < time.Minute || took > time.Minute+time.Second {
					b.Errorf("closed %v after the lease began, want %v to %v", took, time.Minute, time.Minute+time.Second)
				}
				mustBe(b, forgotten.Abandon(ctx), nil)
			})
		})
	}
}

func TestTrapL15CloseWaitsForACallbackThatHangs(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{MaxHold: time.Minute})
		var ended atomic.Bool
		go func() {
			_, _ = svc.Scope("a").Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				time.Sleep(time.Hour)
				ended.Store(true)
				return redisidem.Outcome{}, errUpstream
			})
		}()
		synctest.Wait()
		mustBe(b, svc.Close(ctx), nil)
		if !ended.Load() {
			b.Error("closed under a callback")
		}
	})
}
