package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestStageIsRetriedWithinOneRun(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		permanent := errors.New("never")
		for _, c := range []struct {
			name      string
			retry     redisidem.Retry
			reconcile redisidem.StageFunc
			err       error
			runs      int
			least     time.Duration
		}{
			{"no policy", redisidem.Retry{}, nil, errStage, 1, 0},
			{"three", redisidem.Retry{Attempts: 3, Backoff: time.Second}, nil, errStage, 3, 1500 * time.Millisecond},
			{"enough", redisidem.Retry{Attempts: 5, Backoff: time.Second, MaxBackoff: 2 * time.Second}, nil, nil, 4, 2500 * time.Millisecond},
			{"not this error", redisidem.Retry{Attempts: 5, If: func(err error) bool { return !errors.Is(err, permanent) }}, nil, permanent, 1, 0},
			{"unknown", redisidem.Retry{Attempts: 5}, nil, redisidem.ErrOutcomeUnknown, 1, 0},
			{"unknown, but it can be asked", redisidem.Retry{Attempts: 5}, fails(redisidem.ErrNothingDone), nil, 4, 0},
		} {
			runs := 0
			flow := mustFlow(b, cart(func(cfg *redisidem.FlowConfig) {
				s := &cfg.Stages[1]
				s.Retry, s.Reconcile = c.retry, c.reconcile
				s.Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					runs++
					if st.Attempt() != runs {
						b.Errorf("%s: run %d is attempt %d, want %v", c.name, runs, st.Attempt(), runs)
					}
					switch {
					case runs == 4:
						return redisidem.Next(), nil
					case strings.HasPrefix(c.name, "unknown"):
						return redisidem.Outcome{}, fmt.Errorf("timeout: %w", redisidem.ErrOutcomeUnknown)
					case errors.Is(c.err, permanent):
						return redisidem.Outcome{}, permanent
					}
					return redisidem.Outcome{}, errStage
				}
			}))
			began := time.Now()
			key, err := sc.DoFlow(ctx, c.name, request, flow)
			mustBe(b, err, c.err)
			if err == nil {
				again, err := sc.Retrieve(ctx, c.name)
				mustBe(b, err, nil)
				if key.Journal[1].Attempt != runs || again.Journal[1].Attempt != runs || again.Journal[2].Attempt != 1 {
					b.Errorf("%s: the journal is %+v, then %+v", c.name, key.Journal, again.Journal)
				}
			}
			if took := time.Since(began); runs != c.runs || took < c.least || took > c.least*2+time.Second {
				b.Errorf("%s: %d runs in %v, want %d in at least %v", c.name, runs, took, c.runs, c.least)
			}
		}
	})
}

// TestStageIsRetriedAfterAnUnknownCommitOfAnotherKey has a stage that uses another key, whose first
// commit gets no answer. That call is safe to repeat, so the stage runs again.
func TestStageIsRetriedAfterAnUnknownCommitOfAnotherKey(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		_, err := sc.Do(ctx, "warm up", request, finish("the server knows the scripts"))
		mustBe(b, err, nil)
		runs := 0
		flow := mustFlow(b, cart(func(cfg *redisidem.FlowConfig) {
			cfg.Stages[1].Retry = redisidem.Retry{Attempts: 3, Backoff: time.Second}
			cfg.Stages[1].Work = func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
				runs++
				_, err := sc.Do(ctx, "other", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					if runs == 1 {
						b.mute()
						time.AfterFunc(2*redisidem.DefaultTimeout, b.thaw)
					}
					return redisidem.Finish(redisidem.JSON(200, "other")), nil
				})
				if runs == 1 {
					mustBe(b, err, redisidem.ErrOutcomeUnknown)
				}
				return redisidem.Next(), err
			}
		}))
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		if runs != 2 || !key.Finished() {
			b.Errorf("%d runs, and the key is at %q, want 2 runs of a finished key", runs, key.RecoveryPoint)
		}
	})
}

func TestTimeoutEndsAStagesContext(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		began := time.Now()
		_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[1].Timeout = 3 * time.Second
			c.Stages[1].Retry.Attempts = 2
			c.Stages[1].Work = func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
				<-ctx.Done()
				return redisidem.Outcome{}, ctx.Err()
			}
		})))
		mustBe(b, err, context.DeadlineExceeded)
		if took := time.Since(began); took < 6*time.Second || took > 7*time.Second {
			b.Errorf("two runs of 3 s took %v, want %v to %v", took, 6*time.Second, 7*time.Second)
		}
	})
}

func TestTimeoutBoundsEachRun(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		failed := false
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			s := &c.Stages[1]
			s.Timeout = 3 * time.Second
			s.Work = func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
				if !failed {
					failed = true
					return redisidem.Outcome{}, errStage
				}
				time.Sleep(2 * time.Second)
				return redisidem.Next(), ctx.Err()
			}
			s.Reconcile = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				time.Sleep(2 * time.Second)
				return redisidem.Outcome{}, redisidem.ErrNothingDone
			}
		}))
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		_, err = sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
	})
}
