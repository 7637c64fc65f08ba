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

// TestClientThatLeavesLeavesNothingUndone cancels the caller while the stage that fails for good is
// at work.
func TestClientThatLeavesLeavesNothingUndone(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		caller, leave := context.WithCancel(ctx)
		var done []string
		flow := mustFlow(t, undoing(&done, func(c *redisidem.FlowConfig) {
			fail := c.Stages[3].Work
			c.Stages[3].Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				leave()
				return fail(ctx, st)
			}
			for i := range c.Stages {
				undo := c.Stages[i].Compensate
				c.Stages[i].Compensate = func(ctx context.Context, st *redisidem.Stage) error {
					if ctx.Err() != nil {
						return ctx.Err()
					}
					return undo(ctx, st)
				}
			}
		}))
		key, err := sc.DoFlow(caller, "k", request, flow)
		mustBe(t, err, nil)
		if want := []string{"paid", "taxed", redisidem.Started}; !slices.Equal(done, want) || !key.Finished() {
			t.Errorf("undone %q at %q, want %q", done, key.RecoveryPoint, want)
		}
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
			t.Errorf("it took %v", took)
		}
	})
}

// halfway leaves a key at the last stage of a flow whose other stages can be undone, and tells what
// is undone.
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

// TestKeyOfAFlowIsEndedByHand asks of each way to end a key what is to become of what was
// committed.
func TestKeyOfAFlowIsEndedByHand(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		update := func(key *redisidem.Key, o redisidem.Outcome) (*redisidem.Key, error) { return sc.Update(ctx, key, o) }
		commit := func(key *redisidem.Key, o redisidem.Outcome) (*redisidem.Key, error) {
			lease, err := sc.Lock(ctx, key.Value)
			mustBe(t, err, nil)
			key, err = lease.Commit(ctx, o)
			if err != nil {
				mustBe(t, lease.Abandon(ctx), nil)
			}
			return key, err
		}
		stage := func(key *redisidem.Key, o redisidem.Outcome) (*redisidem.Key, error) {
			return sc.WorkStage(ctx, key, outcome(o))
		}
		all := []string{"paid", "taxed", redisidem.Started}
		for name, end := range map[string]func(*redisidem.Key, redisidem.Outcome) (*redisidem.Key, error){
			"Update": update, "Lock": commit, "WorkStage": stage,
		} {
			for kind, o := range map[string]redisidem.Outcome{
				"Fail": redisidem.Fail(redisidem.JSON(410, "x")), "Finish": redisidem.Finish(redisidem.JSON(410, "x")), "zero": {},
			} {
				var done []string
				value := name + kind
				flow, key := halfway(t, sc, value, &done)
				_, err := end(key, o)
				mustBe(t, err, redisidem.ErrUndecided)
				key, err = sc.Retrieve(ctx, value)
				mustBe(t, err, nil)
				if key.Finished() {
					t.Fatalf("%s(%s) has ended the key", name, kind)
				}
				key, err = end(key, o.Undo(flow))
				mustBe(t, err, nil)
				if key.RecoveryPoint != "compensate:2" {
					t.Fatalf("%s(%s) to undo leads to %q", name, kind, key.RecoveryPoint)
				}
				_, err = end(key, o)
				mustBe(t, err, redisidem.ErrUndecided)
				_, err = end(key, redisidem.Advance("paid"))
				mustBe(t, err, redisidem.ErrUndecided)
				key, err = sc.Retrieve(ctx, value)
				mustBe(t, err, nil)
				key, err = sc.WorkFlow(ctx, key, flow)
				mustBe(t, err, nil)
				if !slices.Equal(done, all) || !key.Finished() {
					t.Errorf("%s(%s): undone %q at %q", name, kind, done, key.RecoveryPoint)
				}

				done = nil
				_, key = halfway(t, sc, value+"leave", &done)
				key, err = end(key, o.Leave())
				mustBe(t, err, nil)
				if done != nil || !key.Finished() {
					t.Errorf("%s(%s) to leave: undone %q at %q", name, kind, done, key.RecoveryPoint)
				}
			}
		}
	})
}

// TestCompleterUndoesWhatWasEndedByHand asks for it while the key is due, and when it is a dead
// letter.
func TestCompleterUndoesWhatWasEndedByHand(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc := e.service()
		sc := svc.Scope("a")
		for name, attempts := range map[string]int{"due": 10, "dead": 1} {
			var done []string
			failure := errors.New("no answer")
			flow := mustFlow(t, undoing(&done, func(c *redisidem.FlowConfig) {
				c.Name, c.RecoverAfter, c.MaxAttempts = name, time.Millisecond, attempts
				c.Stages[3].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					return redisidem.Outcome{}, failure
				}
			}))
			completer, err := redisidem.NewCompleter(svc, []*redisidem.Flow{flow}, nil)
			mustBe(t, err, nil)
			_, err = sc.DoFlow(ctx, name, request, flow)
			mustBe(t, err, failure)
			until(t, name+" is handed out", func() bool {
				swept, err := completer.Sweep(ctx)
				mustBe(t, err, nil)
				return swept.Failed+swept.DeadLettered > 0
			})
			key, err := sc.Retrieve(ctx, name)
			mustBe(t, err, nil)
			key, err = sc.Update(ctx, key, redisidem.Fail(redisidem.JSON(410, "called off")).Undo(flow))
			mustBe(t, err, nil)
			if name == "dead" {
				mustBe(t, sc.Requeue(ctx, key), nil)
			}
			until(t, name+" is undone", func() bool {
				swept, err := completer.Sweep(ctx)
				mustBe(t, err, nil)
				return swept.Finished == 1
			})
			key, err = sc.Retrieve(ctx, name)
			mustBe(t, err, nil)
			if want := []string{"paid", "taxed", redisidem.Started}; !slices.Equal(done, want) || key.Response.Code != 410 {
				t.Errorf("%s: undone %q, answered %d", name, done, key.Response.Code)
			}
		}
	})
}

func TestUndoIsForTheKeysOwnFlow(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		var done []string
		flow, key := halfway(t, sc, "k", &done)
		other := mustFlow(t, redisidem.FlowConfig{Name: "other", Version: 1, Stages: []redisidem.FlowStage{
			{Point: redisidem.Started, Work: outcome(redisidem.Finish(redisidem.JSON(200, 1)))},
		}})
		_, err := sc.Update(ctx, key, redisidem.Fail(redisidem.JSON(410, "x")).Undo(other))
		mustBe(t, err, redisidem.ErrOtherFlow)
		_, err = sc.Update(ctx, key, redisidem.Advance("paid").Undo(flow))
		mustBe(t, err, redisidem.ErrInvalid)
		_, err = sc.InitializeRequest(ctx, "none", request)
		mustBe(t, err, nil)
		lease, err := sc.Lock(ctx, "none")
		mustBe(t, err, nil)
		_, err = lease.Commit(ctx, redisidem.Fail(redisidem.JSON(410, "x")))
		mustBe(t, err, nil) // of a key without a flow nothing is to be undone
	})
}

// TestOutcomeWithAPartThatWouldBeDropped names the part.
func TestOutcomeWithAPartThatWouldBeDropped(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		with := func(o redisidem.Outcome, change func(*redisidem.Outcome)) redisidem.Outcome {
			change(&o)
			return o
		}
		answer := redisidem.JSON(200, "x")
		point := func(o *redisidem.Outcome) { o.RecoveryPoint = "two" }
		respond := func(o *redisidem.Outcome) { o.Response = &answer }
		interim := func(o *redisidem.Outcome) { o.Interim = true }
		for name, c := range map[string]struct {
			part    string
			outcome redisidem.Outcome
		}{
			"idle with state":    {"Outcome.State", redisidem.NothingDone().WithState("x")},
			"idle with effects":  {"Outcome.Effects", redisidem.NothingDone().WithEffects(effect.Set("x", "x"))},
			"idle with response": {"Outcome.Response", with(redisidem.NothingDone(), respond)},
			"idle with point":    {"Outcome.RecoveryPoint", with(redisidem.NothingDone(), point)},
			"idle for now":       {"Outcome.Interim", with(redisidem.NothingDone(), interim)},
			"fail with point":    {"Outcome.RecoveryPoint", with(redisidem.Fail(answer), point)},
			"fail for now":       {"Outcome.Interim", with(redisidem.Fail(answer), interim)},
			"next with point":    {"Outcome.RecoveryPoint", with(redisidem.Next(), point)},
			"zero":               {"Outcome.RecoveryPoint", redisidem.Outcome{}},
			"zero with state":    {"Outcome.RecoveryPoint", redisidem.Outcome{}.WithState("x")},
			"undo in a flow":     {"Outcome.Undo", redisidem.Fail(answer).Leave()},
		} {
			flow := mustFlow(t, redisidem.FlowConfig{Name: "two", Version: 1, Stages: []redisidem.FlowStage{
				{Point: redisidem.Started, Work: outcome(c.outcome)},
				{Point: "two", Work: outcome(redisidem.Finish(answer))},
			}})
			key, err := sc.DoFlow(ctx, name, request, flow)
			var invalid *redisidem.InvalidError
			if !errors.As(err, &invalid) || invalid.Field != c.part || key.Response != nil {
				t.Errorf("%s: %v, want an error that names %s", name, err, c.part)
			}
		}
	})
}

// TestReconcileThatReturnsNoOutcome leaves the key as it is: what it was asked is not known.
func TestReconcileThatReturnsNoOutcome(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		failure := errors.New("no answer")
		flow := mustFlow(t, redisidem.FlowConfig{Name: "one", Version: 1, Stages: []redisidem.FlowStage{{
			Point: redisidem.Started,
			Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Outcome{}, failure
			},
			Reconcile: outcome(redisidem.Outcome{}),
		}}})
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, failure)
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, redisidem.ErrOutcomeUnknown)
		mustBe(t, err, redisidem.ErrInvalid)
		if key.Finished() {
			t.Error("the key is finished")
		}
	})
}

// TestKeyThatItsCallerHasChanged passes a key with a forged field on.
func TestKeyThatItsCallerHasChanged(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		for name, forge := range map[string]func(*redisidem.Key){
			"point":    func(k *redisidem.Key) { k.RecoveryPoint = "elsewhere" },
			"finished": func(k *redisidem.Key) { k.RecoveryPoint = redisidem.Finished },
			"revision": func(k *redisidem.Key) { k.Revision = 7 },
		} {
			key, err := sc.InitializeRequest(ctx, name, request)
			mustBe(t, err, nil)
			forge(key)
			key, err = sc.WorkStage(ctx, key, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				t.Errorf("%s: a stage runs at %q", name, st.Key().RecoveryPoint)
				return redisidem.Advance("two"), nil
			})
			mustBe(t, err, nil)
			if key.RecoveryPoint != redisidem.Started || key.Revision != 0 {
				t.Errorf("%s: the key returned is at %q", name, key.RecoveryPoint)
			}
			forge(key)
			_, err = sc.Update(ctx, key, redisidem.Advance("two"))
			mustBe(t, err, redisidem.ErrStale)
		}
		key, err := sc.InitializeRequest(ctx, "params", redisidem.Request{Params: "real"})
		mustBe(t, err, nil)
		key.Params, key.Path, key.Method = []byte(`"forged"`), "/forged", "FORGED"
		key, err = sc.WorkStage(ctx, key, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			if k := st.Key(); string(k.Params) != `"real"` || k.Path != "" || k.Method != "" {
				t.Errorf("a stage sees %s %s %s", k.Method, k.Path, k.Params)
			}
			return redisidem.Advance("two"), nil
		})
		mustBe(t, err, nil)
		if key.Journal[0].Stage != redisidem.Started {
			t.Errorf("the journal has %q", key.Journal[0].Stage)
		}
	})
}

// TestKeyOfAReplayIsAsItWasMade takes keys from replies and from copies to where a changed one
// would cost a round trip.
func TestKeyOfAReplayIsAsItWasMade(t *testing.T) {
	inBubble(t, func(b *bubble) {
		for name, size := range map[string]int64{"reply": 0, "copy": 1 << 20} {
			sc := b.service(redisidem.Config{CacheBytes: size}).Scope(name)
			_, err := sc.Do(ctx, "k", request, finish("done"))
			mustBe(b, err, nil)
			for range 2 {
				key, err := sc.InitializeRequest(ctx, "k", request)
				mustBe(b, err, nil)
				before := b.sent()
				_, err = sc.WorkStage(ctx, key, never(b))
				mustBe(b, err, nil)
				if n := b.sent() - before; n != 0 {
					b.Errorf("a finished key from a %s costs %d requests", name, n)
				}
			}
		}
	})
}

// TestUndoByHandKeepsTheCommitThatIsUndone has a key with as many commits as its journal remembers,
// of which the first is undone.
func TestUndoByHandKeepsTheCommitThatIsUndone(t *testing.T) {
	for _, byLease := range []bool{false, true} {
		t.Run(fmt.Sprintf("lease %t", byLease), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				var done []string
				sc := b.service(redisidem.Config{}).Scope("a")
				flow := mustFlow(b, undoing(&done, func(c *redisidem.FlowConfig) {
					s := &c.Stages[1]
					s.Compensate = nil
					s.Next, s.MaxVisits = []string{"taxed", "paid"}, 5000
					s.Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
						if st.Key().Revision == 1024 {
							return redisidem.Outcome{}, errStage
						}
						return redisidem.Advance("taxed"), nil
					}
				}))
				key, err := sc.DoFlow(ctx, "k", request, flow)
				mustBe(b, err, errStage)
				undo := redisidem.Fail(redisidem.JSON(402, "x")).Undo(flow)
				if byLease {
					lease := locked(b, sc, "k")
					key, err = lease.Commit(ctx, undo)
				} else {
					key, err = sc.Update(ctx, key, undo)
				}
				mustBe(b, err, nil)
				key, err = sc.WorkFlow(ctx, key, flow)
				if err != nil || len(done) != 1 || !key.Finished() {
					b.Errorf("undone %v, and the key is at %s: %v", done, key.RecoveryPoint, err)
				}
			})
		})
	}
}
