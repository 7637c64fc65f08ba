package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
)

// undoing is a flow whose last stage fails permanently. It records the stages that are compensated
// in done.
func undoing(done *[]string, change ...func(*redisidem.FlowConfig)) redisidem.FlowConfig {
	return cart(append([]func(*redisidem.FlowConfig){func(c *redisidem.FlowConfig) {
		for i := range c.Stages {
			c.Stages[i].Compensate = func(_ context.Context, st *redisidem.Stage) error {
				*done = append(*done, st.Compensates().Stage)
				return nil
			}
		}
		c.Stages[3].Work = outcome(redisidem.Fail(redisidem.JSON(402, "declined")))
	}}, change...)...)
}

func TestPermanentFailureCompensatesInReverse(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		for _, c := range []struct {
			name   string
			change func(*redisidem.FlowConfig)
			want   []string
			trips  int64
		}{
			{"all", func(*redisidem.FlowConfig) {}, []string{"paid", "taxed", redisidem.Started}, 7},
			{"none", func(c *redisidem.FlowConfig) {
				for i := range c.Stages {
					c.Stages[i].Compensate = nil
				}
			}, nil, 4},
			{"one has none", func(c *redisidem.FlowConfig) { c.Stages[1].Compensate = nil }, []string{"paid", redisidem.Started}, 6},
			{"point of no return", func(c *redisidem.FlowConfig) { c.Stages[1].NoReturn = true }, []string{"paid"}, 5},
			{"the last committed is the point of no return", func(c *redisidem.FlowConfig) { c.Stages[2].NoReturn = true }, nil, 4},
			{
				"not yet at the point of no return", func(c *redisidem.FlowConfig) { c.Stages[3].NoReturn = true },
				[]string{"paid", "taxed", redisidem.Started},
				7,
			},
			{"early", func(c *redisidem.FlowConfig) { c.Stages[1].Work = c.Stages[3].Work }, []string{redisidem.Started}, 3},
			{"at once", func(c *redisidem.FlowConfig) { c.Stages[0].Work = c.Stages[3].Work }, nil, 1},
		} {
			var done []string
			flow := mustFlow(t, undoing(&done, c.change))
			key, err := sc.DoFlow(ctx, c.name, request, flow)
			mustBe(t, err, nil)
			if !slices.Equal(done, c.want) || key.Revision != c.trips {
				t.Errorf("%s: undone %q in %d commits, want %q in %d", c.name, done, key.Revision, c.want, c.trips)
			}
			again, err := sc.DoFlow(ctx, c.name, request, flow)
			mustBe(t, err, nil)
			for _, k := range []*redisidem.Key{key, again} {
				if !k.Finished() || k.Response == nil || k.Response.Code != 402 || string(k.Response.Body) != `"declined"` {
					t.Errorf("%s: the answer is %+v", c.name, k)
				}
			}
			if !again.Replayed() {
				t.Errorf("%s: the failure is not replayed", c.name)
			}
		}
		e.mustBeTidy(e.client())
	})
}

// TestInterimAnswerIsNotThePointOfNoReturn lets a stage ask for a confirmation, and fail when it is
// refused.
func TestInterimAnswerIsNotThePointOfNoReturn(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		var done []string
		asked := false
		flow := mustFlow(b, undoing(&done, func(c *redisidem.FlowConfig) {
			c.Stages[2].NoReturn = true
			c.Stages[2].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if !asked {
					asked = true
					return redisidem.Interim("paid", redisidem.JSON(202, "confirm")), nil
				}
				return redisidem.Fail(redisidem.JSON(402, "declined")), nil
			}
		}))
		for range 2 {
			_, err := sc.DoFlow(ctx, "k", request, flow)
			mustBe(b, err, nil)
		}
		if want := []string{"paid", "taxed", redisidem.Started}; !slices.Equal(done, want) {
			b.Errorf("compensated are %q, want %q", done, want)
		}
	})
}

func TestCompensationContinuesAfterACrash(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var done []string
		dies := true
		cfg := undoing(&done, func(c *redisidem.FlowConfig) {
			undo := c.Stages[1].Compensate
			c.Stages[1].Compensate = func(ctx context.Context, st *redisidem.Stage) error {
				if dies {
					return errStage
				}
				return undo(ctx, st)
			}
		})
		flow := mustFlow(b, cfg)
		sc := b.service(redisidem.Config{}).Scope("a")
		for attempt := range 3 {
			key, err := sc.DoFlow(ctx, "k", request, flow)
			mustBe(b, err, errStage)
			var failed *redisidem.CompensationError
			if !errors.As(err, &failed) || failed.Stage != "taxed" {
				b.Errorf("the error is %v", err)
			}
			if key.Answered() || key.RecoveryPoint != "compensate:1" || key.Attempts != attempt+1 {
				b.Errorf("the key is %+v", key)
			}
		}
		dies = false
		key, err := b.service(redisidem.Config{}).Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		if !key.Finished() || key.Response.Code != 402 {
			b.Errorf("the key is %+v", key)
		}
		if want := []string{"paid", "taxed", redisidem.Started}; !slices.Equal(done, want) {
			b.Errorf("undone %q, want %q: each once", done, want)
		}
	})
}

func TestCompensationKnowsWhatItUndoes(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var called, undone []string
		pay := func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			called = append(called, st.OutboundKey("charge"))
			if len(called) == 1 {
				return redisidem.Interim("paid", redisidem.JSON(202, "confirm")), nil
			}
			return redisidem.Next().WithState("charged"), nil
		}
		var done []string
		flow := mustFlow(b, undoing(&done, func(c *redisidem.FlowConfig) {
			c.Stages[2].Work = pay
			c.Stages[2].Compensate = func(_ context.Context, st *redisidem.Stage) error {
				var state string
				want, wantErr := "charged", error(nil)
				if len(undone) == 1 { // the interim commit, which left no state
					want, wantErr = "", redisidem.ErrNoState
				}
				mustBe(b, st.State(&state), wantErr)
				undone = append(undone, st.CommittedKey(st.Compensates(), "charge"))
				if state != want || st.OutboundKey("charge") == st.CommittedKey(st.Compensates(), "charge") {
					b.Errorf("state is %q", state)
				}
				return nil
			}
		}))
		sc := b.service(redisidem.Config{}).Scope("a")
		for range 2 {
			_, err := sc.DoFlow(ctx, "k", request, flow)
			mustBe(b, err, nil)
		}
		slices.Reverse(called)
		if !slices.Equal(called, undone) {
			b.Errorf("called %q and undid %q", called, undone)
		}
	})
}

func TestCompensationIsRetriedLikeItsStage(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var done []string
		tries := 0
		flow := mustFlow(b, undoing(&done, func(c *redisidem.FlowConfig) {
			c.Stages[2].Retry = redisidem.Retry{Attempts: 3, Backoff: time.Second}
			c.Stages[2].Compensate = func(context.Context, *redisidem.Stage) error {
				tries++
				if tries < 3 {
					return errStage
				}
				return nil
			}
		}))
		key, err := b.service(redisidem.Config{}).Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		if tries != 3 || !key.Finished() {
			b.Errorf("%d tries, %+v", tries, key)
		}
	})
}

// TestShutdownUsesUpNoAttemptOfACompensation closes the service during a compensation, whose client
// may have left before.
func TestShutdownUsesUpNoAttemptOfACompensation(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		t.Run(fmt.Sprintf("client leaves %t", leaves), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				var done []string
				svc := b.service(redisidem.Config{})
				client, leave := context.WithCancel(ctx)
				defer leave()
				first := true
				flow := mustFlow(b, undoing(&done, recoverable, func(c *redisidem.FlowConfig) {
					c.MaxAttempts = 1
					c.Stages[3].Work = outcome(redisidem.Fail(redisidem.JSON(402, "x")))
					undo := c.Stages[2].Compensate
					c.Stages[2].Compensate = func(ctx context.Context, st *redisidem.Stage) error {
						if !first {
							return undo(ctx, st)
						}
						first = false
						if leaves {
							leave()
						}
						short, stop := context.WithTimeout(context.Background(), time.Second)
						defer stop()
						mustBe(b, svc.Close(short), context.DeadlineExceeded)
						<-ctx.Done()
						return context.Cause(ctx)
					}
				}))
				_, err := svc.Scope("a").DoFlow(client, "k", request, flow)
				mustBe(b, err, redisidem.ErrClosed)
				time.Sleep(2 * time.Minute)
				mustSweep(b, mustCompleter(b, b.service(redisidem.Config{}), flow), redisidem.SweepResult{Due: 1, Finished: 1})
				if len(done) != 3 {
					b.Errorf("undone are %v", done)
				}
			})
		})
	}
}

// TestLostLeaseDuringCompensationIsReported lets the client leave before the lease is lost.
func TestLostLeaseDuringCompensationIsReported(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var done []string
		client, leave := context.WithCancel(ctx)
		sc := b.service(redisidem.Config{}).Scope("a")
		flow := mustFlow(b, undoing(&done, func(c *redisidem.FlowConfig) {
			c.Stages[2].Compensate = func(ctx context.Context, _ *redisidem.Stage) error {
				leave()
				b.freeze()
				<-ctx.Done()
				b.thaw()
				return ctx.Err()
			}
		}))
		_, err := sc.DoFlow(client, "k", request, flow)
		mustBe(b, err, redisidem.ErrLeaseLost)
	})
}

// TestCompensationIsBoundedByTheLease has a compensation that ends only with its context.
func TestCompensationIsBoundedByTheLease(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{MaxHold: 3 * time.Second}).Scope("a")
		caller, leave := context.WithCancel(ctx)
		defer leave()
		var done []string
		flow := mustFlow(t, undoing(&done, func(c *redisidem.FlowConfig) {
			c.Stages[2].Compensate = func(ctx context.Context, _ *redisidem.Stage) error {
				leave()
				<-ctx.Done()
				return context.Cause(ctx)
			}
		}))
		began := time.Now()
		_, err := sc.DoFlow(caller, "k", request, flow)
		mustBe(t, err, redisidem.ErrMaxHold)
		if took := time.Since(began); took < 2*time.Second || took > 10*time.Second {
			t.Errorf("it took %v, want about 3 s", took)
		}
	})
}

// halfway leaves a key at the last stage of a flow whose other stages can be compensated. It
// records the stages that are compensated in done.
func halfway(t *testing.T, sc *redisidem.Scope, value string, done *[]string) (*redisidem.Flow, *redisidem.Key) {
	t.Helper()
	failure := errors.New("no answer")
	flow := mustFlow(t, undoing(done, func(c *redisidem.FlowConfig) {
		c.Stages[3].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Outcome{}, failure
		}
	}))
	key, err := sc.DoFlow(ctx, value, request, flow)
	mustBe(t, err, failure)
	return flow, key
}

// TestCompleterCompensatesAKeyEndedByHand ends a key that is due, and one that is a dead letter.
func TestCompleterCompensatesAKeyEndedByHand(t *testing.T) {
	onTwoServers(t, func(t *testing.T, e *env) {
		svc := e.service()
		sc := svc.Scope("a")
		var done []string
		for _, value := range []string{"due", "dead"} {
			flow := mustFlow(t, undoing(&done, func(c *redisidem.FlowConfig) {
				c.RecoverAfter, c.MaxAttempts = time.Millisecond, map[string]int{"due": 10, "dead": 1}[value]
				c.Stages[3].Work = fails(errStage)
			}))
			completer := mustCompleter(t, svc, flow)
			_, err := sc.DoFlow(ctx, value, request, flow)
			mustBe(t, err, errStage)
			if value == "dead" {
				time.Sleep(10 * time.Millisecond)
				mustSweep(t, completer, redisidem.SweepResult{Due: 1, DeadLettered: 1})
			}
			key, err := sc.Retrieve(ctx, value)
			mustBe(t, err, nil)
			key, err = sc.Update(ctx, key, redisidem.Fail(redisidem.JSON(410, "called off")).Undo(flow))
			mustBe(t, err, nil)
			if value == "dead" {
				mustBe(t, sc.Requeue(ctx, key), nil)
			}
			done = nil
			until(t, value+" is undone", func() bool {
				swept, err := completer.Sweep(ctx)
				mustBe(t, err, nil)
				return swept.Finished == 1
			})
			key, err = sc.Retrieve(ctx, value)
			mustBe(t, err, nil)
			if want := []string{"paid", "taxed", redisidem.Started}; !slices.Equal(done, want) || key.Response.Code != 410 {
				t.Errorf("%s: undone %q, answered %d, want %q and 410", value, done, key.Response.Code, want)
			}
		}
	})
}

// TestUnstorableFailureIsCompensated lets a stage fail permanently with a response that is too
// large.
func TestUnstorableFailureIsCompensated(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		for name, fail := range map[string]redisidem.StageFunc{
			"body": outcome(redisidem.Fail(redisidem.Response{Code: 402, Body: make([]byte, 2<<20)})),
			"effect": func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				mustBe(t, e.client().Set(ctx, st.ShardKey("number"), "x", time.Minute).Err(), nil)
				return redisidem.Fail(redisidem.JSON(402, "declined")).WithEffects(effect.IncrBy(st.ShardKey("number"), 1)), nil
			},
		} {
			var done []string
			flow := mustFlow(t, undoing(&done, func(c *redisidem.FlowConfig) { c.Stages[3].Work = fail }))
			for range 2 {
				key, err := sc.DoFlow(ctx, name, request, flow)
				mustBe(t, err, redisidem.ErrNotKept)
				if want := []string{"paid", "taxed", redisidem.Started}; !slices.Equal(done, want) || !key.Finished() || !key.Response.IsZero() {
					t.Errorf("%s: undone %q at %q with %v", name, done, key.RecoveryPoint, key.Response)
				}
			}
		}
	})
}

// TestFailWithAnUnusablePartIsCompensated has permanent failures with parts that only outcomes by
// hand may have.
func TestFailWithAnUnusablePartIsCompensated(t *testing.T) {
	inBubble(t, func(b *bubble) {
		fail := redisidem.Fail(redisidem.JSON(402, "declined"))
		interim, elsewhere := fail, fail
		interim.Interim, elsewhere.RecoveryPoint = true, "ordered"
		for name, o := range map[string]redisidem.Outcome{"leave": fail.Leave(), "interim": interim, "point": elsewhere} {
			var done []string
			sc := b.service(redisidem.Config{}).Scope(name)
			flow := mustFlow(b, undoing(&done, func(c *redisidem.FlowConfig) { c.Stages[3].Work = outcome(o) }))
			key, err := sc.DoFlow(ctx, "k", request, flow)
			if !key.Finished() || len(done) != 3 || !errors.Is(err, redisidem.ErrNotKept) {
				b.Errorf("%s: at %s, undone %v: %v", name, key.RecoveryPoint, done, err)
			}
		}
	})
}
