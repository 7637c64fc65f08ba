package redisidem_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// stopsAt makes a flow give its keys back at a recovery point, before the stage there begins.
func stopsAt(point string) func(*redisidem.FlowConfig) {
	return func(c *redisidem.FlowConfig) {
		for i := range c.Stages {
			if c.Stages[i].Point == point {
				c.Stages[i].Work = outcome(redisidem.NothingDone())
			}
		}
	}
}

// failsAt makes the stage at a recovery point fail.
func failsAt(point string) func(*redisidem.FlowConfig) {
	return func(c *redisidem.FlowConfig) {
		for i := range c.Stages {
			if c.Stages[i].Point == point {
				c.Stages[i].Work = fails(errStage)
			}
		}
	}
}

// after makes a flow the version behind another one, whose keys it adopts if adopt is not nil.
func after(old *redisidem.Flow, adopt redisidem.StageFunc) func(*redisidem.FlowConfig) {
	return func(c *redisidem.FlowConfig) {
		c.Version = old.Config().Version + 1
		c.Earlier = []redisidem.EarlierVersion{{Flow: old, Adopt: adopt}}
		c.Stages[3].Work = finish(fmt.Sprint("version ", c.Version))
	}
}

// same adopts a key at its own recovery point.
func same(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	return redisidem.Advance(st.Key().RecoveryPoint), nil
}

// stages returns the stages in a key's journal.
func stages(key *redisidem.Key) (all []string) {
	for _, e := range key.Journal {
		all = append(all, e.Stage)
	}
	return all
}

// mustEnd checks how a key ends: with a body, in a version of its flow, after those commits.
func mustEnd(t testing.TB, key *redisidem.Key, err error, body, flow string, commits ...string) {
	t.Helper()
	mustBe(t, err, nil)
	if key.Response == nil || string(key.Response.Body) != `"`+body+`"` || key.Flow != flow || !slices.Equal(stages(key), commits) {
		t.Errorf("the key of %s has commits %q and ends with %+v; want %q of %s after %q", key.Flow, stages(key), key.Response, body, flow, commits)
	}
}

func TestKeysOfAnEarlierVersionAreCarriedOn(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc, w := e.wired()
		sc := svc.Scope("a")
		v1 := mustFlow(t, cart())
		old := mustFlow(t, cart(stopsAt("paid")))
		for _, c := range []struct {
			name  string
			adopt redisidem.StageFunc
			trips int // the claims and the commits
			body  string
			flow  string
			want  []string
		}{
			{"goes on", nil, 4, "done", "cart/1", []string{"started", "taxed", "paid", "ordered"}},
			{"is adopted", same, 5, "version 2", "cart/2", []string{"started", "taxed", "adopt:paid", "paid", "ordered"}},
		} {
			v2 := mustFlow(t, cart(after(v1, c.adopt)))
			tries, got := 1, 1<<30
			if e.auto {
				tries = 20
			}
			for i := 0; i < tries && got != c.trips; i++ {
				value := fmt.Sprint(c.name, i)
				_, err := sc.DoFlow(ctx, value, request, old)
				mustBe(t, err, nil)
				w.took()
				key, err := sc.DoFlow(ctx, value, request, v2)
				got = min(got, w.took())
				mustEnd(t, key, err, c.body, c.flow, c.want...)
				again, err := sc.DoFlow(ctx, value, request, v2)
				mustEnd(t, again, err, c.body, c.flow, c.want...)
				if !again.Replayed() {
					t.Errorf("%s: the answer is not replayed", c.name)
				}
				stored, err := sc.Retrieve(ctx, value)
				mustEnd(t, stored, err, c.body, c.flow, c.want...)
			}
			if got != c.trips {
				t.Errorf("a key that %s takes %d round trips, want %d", c.name, got, c.trips)
			}
			// A key of the new version takes no round trip more than without earlier versions.
			w.took()
			got = 1 << 30
			for i := 0; i < tries && got != 5; i++ {
				w.took()
				key, err := sc.DoFlow(ctx, fmt.Sprint("new ", c.name, i), request, v2)
				got = min(got, w.took())
				mustEnd(t, key, err, "version 2", "cart/2", "started", "taxed", "paid", "ordered")
			}
			if got != 5 {
				t.Errorf("a new key takes %d round trips, want 5", got)
			}
		}
		e.mustBeTidy(e.client())
	})
}

func TestAdoptMapsPointAndState(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		var got, at string
		v1 := mustFlow(b, cart())
		v2 := mustFlow(b, cart(after(v1, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			var cents int
			err := st.State(&cents)
			return redisidem.Advance("charged").WithState(fmt.Sprint(cents, " cents")), err
		}), func(c *redisidem.FlowConfig) {
			c.Stages[2].Point = "charged"
			c.Stages[2].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				at = fmt.Sprint(st.Key().RecoveryPoint, " of ", st.Key().Flow, ", attempt ", st.Attempt())
				return redisidem.Next(), st.State(&got)
			}
		}))
		_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(stopsAt("paid"), func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = outcome(redisidem.Next().WithState(42))
		})))
		mustBe(b, err, nil)
		key, err := sc.WorkFlow(ctx, start(b, sc, "k"), v2)
		mustEnd(b, key, err, "version 2", "cart/2", "started", "taxed", "adopt:paid", "charged", "ordered")
		if got != "42 cents" || at != "charged of cart/2, attempt 1" {
			b.Errorf("the stage ran at %s and found the state %q", at, got)
		}
		// A program without the new version gets an error, and changes nothing.
		_, err = sc.DoFlow(ctx, "l", request, mustFlow(b, cart(stopsAt("taxed"))))
		mustBe(b, err, nil)
		_, err = sc.DoFlow(ctx, "l", request, mustFlow(b, cart(after(v1, same), stopsAt("taxed"))))
		mustBe(b, err, nil)
		_, err = sc.DoFlow(ctx, "l", request, v1)
		mustBe(b, err, redisidem.ErrOtherFlow)
		if err == nil || !strings.Contains(err.Error(), "cart/2") {
			b.Errorf("the error is %v", err)
		}
	})
}

func TestKeysAreAdoptedThroughEachVersion(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		v1 := mustFlow(b, cart(recoverable))
		v2 := mustFlow(b, cart(recoverable, after(v1, same)))
		v3 := mustFlow(b, cart(recoverable, after(v2, same)))
		old := mustFlow(b, cart(recoverable, stopsAt("paid")))
		want := []string{"started", "taxed", "adopt:paid", "adopt:paid", "paid", "ordered"}
		for _, value := range []string{"k", "l"} {
			_, err := sc.DoFlow(ctx, value, request, old)
			mustBe(b, err, nil)
		}
		key, err := sc.DoFlow(ctx, "k", request, v3)
		mustEnd(b, key, err, "version 3", "cart/3", want...)
		time.Sleep(time.Minute)
		mustSweep(b, mustCompleter(b, svc, v3), redisidem.SweepResult{Due: 1, Finished: 1})
		key, err = sc.Retrieve(ctx, "l")
		mustEnd(b, key, err, "version 3", "cart/3", want...)
		if n := b.indexed("due"); n != 0 {
			b.Errorf("%d keys are still in a due index", n)
		}
	})
}

func TestCompleterRefusesAnEarlierVersionTwice(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		v1 := mustFlow(b, cart(recoverable))
		v2 := mustFlow(b, cart(recoverable, after(v1, nil)))
		_, err := redisidem.NewCompleter(svc, []*redisidem.Flow{v2, v1}, nil)
		mustBeInvalid(b, err, "flows[1]", "cart/1", "there already")
		_, err = redisidem.NewCompleter(svc, []*redisidem.Flow{v1, v2}, nil)
		mustBeInvalid(b, err, "flows[1]", "cart/1", "there already")
		// Keys of a version without RecoverAfter are in no index.
		mustCompleter(b, svc, mustFlow(b, cart(recoverable, after(mustFlow(b, cart()), nil))))
	})
}

// TestPausedVersionAdoptsNothing pauses the old version, and then the new one. While the new one is
// paused, new keys are refused, and those of the old one go on in it, for clients as well.
func TestPausedVersionAdoptsNothing(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		in := redisidem.NewInspector(svc)
		pausable := func(c *redisidem.FlowConfig) { c.Pausable = true }
		v1 := mustFlow(b, cart(recoverable, pausable))
		v2 := mustFlow(b, cart(recoverable, pausable, after(v1, same)))
		_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(recoverable, stopsAt("paid"))))
		mustBe(b, err, nil)
		_, err = sc.DoFlow(ctx, "l", request, mustFlow(b, cart(recoverable, stopsAt("paid"))))
		mustBe(b, err, nil)
		mustBe(b, in.Pause(ctx, "cart/1", true, act), nil)
		time.Sleep(2 * time.Second)
		_, err = sc.DoFlow(ctx, "k", request, v2)
		mustBe(b, err, redisidem.ErrPaused)
		time.Sleep(2 * time.Minute)
		mustSweep(b, mustCompleter(b, svc, v2), redisidem.SweepResult{Due: 2})
		mustBe(b, in.Resume(ctx, "cart/1", act), nil)

		mustBe(b, in.Pause(ctx, "cart/2", true, act), nil)
		time.Sleep(2 * time.Second)
		_, err = sc.DoFlow(ctx, "new", request, v2)
		mustBe(b, err, redisidem.ErrPaused)
		_, err = sc.Retrieve(ctx, "new")
		mustBe(b, err, redisidem.ErrNotFound)
		key, err := sc.DoFlow(ctx, "k", request, v2)
		mustEnd(b, key, err, "done", "cart/1", "started", "taxed", "paid", "ordered")
		time.Sleep(2 * time.Minute)
		mustSweep(b, mustCompleter(b, svc, v2), redisidem.SweepResult{Due: 1, Finished: 1})
		key, err = sc.Retrieve(ctx, "l")
		mustEnd(b, key, err, "done", "cart/1", "started", "taxed", "paid", "ordered")
	})
}

// TestKeysThatCannotBeAdoptedEndInTheirVersion has a key for each reason.
func TestKeysThatCannotBeAdoptedEndInTheirVersion(t *testing.T) {
	undo := func(context.Context, *redisidem.Stage) error { return nil }
	compensable := func(c *redisidem.FlowConfig) { c.Stages[1].Compensate = undo }
	all := []string{"started", "taxed", "paid", "ordered"}
	for _, c := range []struct {
		name   string
		old    []func(*redisidem.FlowConfig) // of the version
		before []func(*redisidem.FlowConfig) // of the program that leaves the key behind
		new    func(*redisidem.FlowConfig)
		want   []string
		code   int
	}{
		{"behind the point of no return", []func(*redisidem.FlowConfig){func(c *redisidem.FlowConfig) { c.Stages[0].NoReturn = true }}, nil, nil, all, 200},
		{"its compensation is missing", []func(*redisidem.FlowConfig){compensable}, nil, nil, all, 200},
		{"the stage of its compensation is missing", []func(*redisidem.FlowConfig){compensable}, nil, func(c *redisidem.FlowConfig) {
			c.Stages[1].Point, c.Stages[1].Compensate = "taxes", undo
		}, all, 200},
		{"past its deadline", []func(*redisidem.FlowConfig){func(c *redisidem.FlowConfig) { c.Deadline = time.Second }}, nil, nil, []string{"started", "taxed", "paid"}, 504},
		{"compensated", []func(*redisidem.FlowConfig){compensable}, []func(*redisidem.FlowConfig){func(c *redisidem.FlowConfig) {
			c.Stages[1].Compensate = func(context.Context, *redisidem.Stage) error { return errStage }
			c.Stages[2].Work = outcome(redisidem.Fail(redisidem.JSON(402, "declined")))
		}}, compensable, []string{"started", "taxed", "paid", "compensate:1"}, 402},
		{"begun", nil, []func(*redisidem.FlowConfig){failsAt("paid")}, func(c *redisidem.FlowConfig) {
			c.Earlier[0].Adopt = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Advance(st.Key().RecoveryPoint), nil
			}
		}, []string{"started", "taxed", "paid", "adopt:ordered", "ordered"}, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				sc := b.service(redisidem.Config{}).Scope("a")
				before := append(slices.Clone(c.old), c.before...)
				if c.before == nil {
					before = append(before, stopsAt("paid"))
				}
				_, _ = sc.DoFlow(ctx, "k", request, mustFlow(b, cart(before...)))
				time.Sleep(2 * time.Second)
				change := []func(*redisidem.FlowConfig){after(mustFlow(b, cart(c.old...)), same)}
				if c.new != nil {
					change = append(change, c.new)
				}
				key, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(change...)))
				mustBe(b, err, nil)
				if !key.Finished() || key.Response.Code != c.code || !slices.Equal(stages(key), c.want) {
					b.Errorf("the key has commits %q and ends with %+v; want %q and %d", stages(key), key.Response, c.want, c.code)
				}
			})
		})
	}
}

func TestCanceledKeyIsNotAdopted(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(stopsAt("paid"))))
		mustBe(b, err, nil)
		err = sc.Cancel(ctx, "k")
		mustBe(b, err, nil)
		key, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(after(mustFlow(b, cart()), same))))
		mustBe(b, err, nil)
		if key.Flow != "cart/1" || key.Response.Code != 409 {
			b.Errorf("the canceled key of %s ends with %+v", key.Flow, key.Response)
		}
	})
}

func TestAttemptIsReconciledBeforeAnAdoption(t *testing.T) {
	for _, done := range []bool{false, true} {
		t.Run(fmt.Sprint(done), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				sc := b.service(redisidem.Config{}).Scope("a")
				asked := 0
				reconciled := func(c *redisidem.FlowConfig) {
					c.Stages[2].Reconcile = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
						asked++
						if done {
							return redisidem.Next(), nil
						}
						return redisidem.Outcome{}, redisidem.ErrNothingDone
					}
				}
				_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(reconciled, failsAt("paid"))))
				mustBe(b, err, errStage)
				key, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(after(mustFlow(b, cart(reconciled)), same))))
				want := []string{"started", "taxed", "adopt:paid", "paid", "ordered"}
				if done {
					want = []string{"started", "taxed", "paid", "adopt:ordered", "ordered"}
				}
				mustEnd(b, key, err, "version 2", "cart/2", want...)
				if asked != 1 {
					b.Errorf("reconcile was asked %d times, want once", asked)
				}
			})
		})
	}
}

func TestUndecidedAttemptIsNotAdopted(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		undecided := func(c *redisidem.FlowConfig) { c.Stages[2].Reconcile = fails(errStage) }
		_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(undecided, failsAt("paid"))))
		mustBe(b, err, errStage)
		key, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(after(mustFlow(b, cart(undecided)), same))))
		mustBe(b, err, redisidem.ErrOutcomeUnknown)
		if key.Flow != "cart/1" || key.RecoveryPoint != "paid" {
			b.Errorf("the key is at %q of %s", key.RecoveryPoint, key.Flow)
		}
	})
}

func TestAdoptThatFailsLeavesTheKeyInItsVersion(t *testing.T) {
	for name, c := range map[string]struct {
		adopt redisidem.StageFunc
		logs  string
	}{
		"nothing done":  {outcome(redisidem.NothingDone()), ""},
		"error":         {fails(errStage), errStage.Error()},
		"unknown point": {outcome(redisidem.Advance("charged")), `"charged\"`},
		"finish":        {last, "Advance"},
		"next":          {next, "Advance"},
		"zero":          {outcome(redisidem.Outcome{}), "recovery point"},
		"large state":   {outcome(redisidem.Advance("paid").WithState(strings.Repeat("x", 2000))), "MaxValueBytes"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				var log bytes.Buffer
				sc := b.service(redisidem.Config{MaxValueBytes: 1000, Logger: slog.New(slog.NewTextHandler(&log, nil))}).Scope("a")
				_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(stopsAt("ordered"))))
				mustBe(b, err, nil)
				key, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(after(mustFlow(b, cart()), c.adopt))))
				mustEnd(b, key, err, "done", "cart/1", "started", "taxed", "paid", "ordered")
				if (c.logs == "") != (log.Len() == 0) || !strings.Contains(log.String(), c.logs) {
					b.Errorf("the log is %q, want %q", log.String(), c.logs)
				}
			})
		})
	}
}

// TestAdoptedKeyIsUndoneByItsNewVersion fails an adopted flow. The adoption itself is not undone,
// the point of no return of the new version does not count for what came before it, and stages that
// the new version does not have needed no compensation.
func TestAdoptedKeyIsUndoneByItsNewVersion(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		var old, done []string
		undo := func(to *[]string) func(context.Context, *redisidem.Stage) error {
			return func(_ context.Context, st *redisidem.Stage) error {
				done := append(*to, st.Compensates().Stage)
				*to = done
				return nil
			}
		}
		first := func(c *redisidem.FlowConfig) { c.Stages[0].Compensate = undo(&old) }
		v2 := mustFlow(b, cart(after(mustFlow(b, cart(first)), outcome(redisidem.Advance("charged"))), func(c *redisidem.FlowConfig) {
			c.Stages[0].Compensate, c.Stages[0].NoReturn = undo(&done), true
			c.Stages[2].Point, c.Stages[2].Compensate = "charged", undo(&done)
			c.Stages[3].Work = outcome(redisidem.Fail(redisidem.JSON(402, "declined")))
		}))
		_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(first, stopsAt("ordered"))))
		mustBe(b, err, nil)
		key, err := sc.DoFlow(ctx, "k", request, v2)
		mustEnd(b, key, err, "declined", "cart/2", "started", "taxed", "paid", "adopt:ordered", "charged", "ordered", "compensate:4", "compensate:0")
		if want := []string{"charged", redisidem.Started}; !slices.Equal(done, want) || len(old) != 0 {
			b.Errorf("undone are %q by the new version and %q by the old one, want %q and none", done, old, want)
		}
		// A key that began with the new version has its point of no return.
		key, err = sc.DoFlow(ctx, "l", request, v2)
		mustEnd(b, key, err, "declined", "cart/2", "started", "taxed", "charged", "ordered", "compensate:2")
	})
}

// TestAllEarlierCommitsAreUndone covers a key with several commits to undo from before its
// adoption, between which the new version has a point of no return, or no stage any more.
func TestAllEarlierCommitsAreUndone(t *testing.T) {
	for name, between := range map[string]func(*redisidem.FlowConfig){
		"no return": func(c *redisidem.FlowConfig) { c.Stages[1].NoReturn = true },
		"no stage": func(c *redisidem.FlowConfig) {
			c.Stages[0].Next = []string{"weighed"}
			c.Stages[0].Work, c.Stages[1].Point = outcome(redisidem.Advance("weighed")), "weighed"
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				sc := b.service(redisidem.Config{}).Scope("a")
				var done []string
				undo := func(c *redisidem.FlowConfig) {
					for _, i := range []int{0, 2} {
						c.Stages[i].Compensate = func(_ context.Context, st *redisidem.Stage) error {
							done = append(done, st.Compensates().Stage)
							return nil
						}
					}
				}
				_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(undo, stopsAt("ordered"))))
				mustBe(b, err, nil)
				v2 := mustFlow(b, cart(after(mustFlow(b, cart(undo)), same), undo, between, func(c *redisidem.FlowConfig) {
					c.Stages[3].Work = outcome(redisidem.Fail(redisidem.JSON(402, "declined")))
				}))
				key, err := sc.DoFlow(ctx, "k", request, v2)
				mustBe(b, err, nil)
				if want := []string{"paid", redisidem.Started}; !key.Finished() || !slices.Equal(done, want) {
					b.Errorf("undone are %q, want %q; the key is at %s", done, want, key.RecoveryPoint)
				}
			})
		})
	}
}

// TestFlowThatIsPausedByItsNameIsPausedInAllVersions has an earlier version that is not Pausable.
func TestFlowThatIsPausedByItsNameIsPausedInAllVersions(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		v1 := mustFlow(b, cart(recoverable))
		v2 := mustFlow(b, cart(recoverable, pausableFlow, after(v1, same)))
		for _, pauses := range [][]string{{"cart"}, {"cart", "cart/2"}, {"cart/1", "cart/2"}} {
			value := fmt.Sprint(pauses)
			_, err := sc.DoFlow(ctx, value, request, mustFlow(b, cart(recoverable, stopsAt("paid"))))
			mustBe(b, err, nil)
			for _, flow := range pauses {
				mustBe(b, redisidem.NewInspector(svc).Pause(ctx, flow, true, act), nil)
			}
			time.Sleep(2 * time.Second)
			_, err = sc.DoFlow(ctx, value, request, v2)
			mustBe(b, err, redisidem.ErrPaused)
			for _, flow := range pauses {
				mustBe(b, redisidem.NewInspector(svc).Resume(ctx, flow, act), nil)
			}
		}
	})
}

// TestPausedVersionInBetweenAdoptsNothing pauses the version between the earliest and the newest
// one.
func TestPausedVersionInBetweenAdoptsNothing(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		v1 := mustFlow(b, cart(recoverable))
		_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(recoverable, stopsAt("ordered"))))
		mustBe(b, err, nil)
		v2 := mustFlow(b, cart(recoverable, after(v1, same)))
		v3 := mustFlow(b, cart(recoverable, after(v2, outcome(redisidem.NothingDone()))))
		mustBe(b, redisidem.NewInspector(svc).Pause(ctx, "cart/2", false, act), nil)
		time.Sleep(time.Hour)
		mustSweep(b, mustCompleter(b, svc, v3), redisidem.SweepResult{Due: 1, Finished: 1})
		key, err := sc.Retrieve(ctx, "k")
		mustEnd(b, key, err, "done", "cart/1", "started", "taxed", "paid", "ordered")
	})
}

func TestIncompleteJournalIsNotAdoptedByAFlowThatCompensates(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		runs := 0
		long := func(c *redisidem.FlowConfig) {
			c.Stages[0].Next = []string{redisidem.Started, "taxed"}
			c.Stages[0].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				runs++
				if runs < 100 {
					return redisidem.Advance(redisidem.Started), nil
				}
				return redisidem.Next(), nil
			}
		}
		_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(long, stopsAt("ordered"))))
		mustBe(b, err, nil)
		key, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(after(mustFlow(b, cart(long)), same), func(c *redisidem.FlowConfig) {
			c.Stages[1].Compensate = func(context.Context, *redisidem.Stage) error { return nil }
		})))
		mustBe(b, err, nil)
		if key.Flow != "cart/1" {
			b.Errorf("%s has a key with %d of %d commits", key.Flow, len(key.Journal), key.Revision)
		}
	})
}

func TestInterimAnswerIsAdopted(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		v2 := mustFlow(b, cart(after(mustFlow(b, cart()), same)))
		for value, o := range map[string]redisidem.Outcome{
			"interim": redisidem.Interim("paid", redisidem.JSON(202, "wait")),
			"snoozed": redisidem.Snooze(time.Minute, redisidem.JSON(202, "wait")),
		} {
			key, err := sc.DoFlow(ctx, value, request, mustFlow(b, cart(func(c *redisidem.FlowConfig) { c.Stages[2].Work = outcome(o) })))
			mustEnd(b, key, err, "wait", "cart/1", "started", "taxed", "paid")
			if value == "snoozed" {
				key, err = sc.DoFlow(ctx, value, request, v2) // too early: the answer comes again
				mustEnd(b, key, err, "wait", "cart/1", "started", "taxed", "paid")
				time.Sleep(time.Minute)
			}
			key, err = sc.DoFlow(ctx, value, request, v2)
			mustEnd(b, key, err, "version 2", "cart/2", "started", "taxed", "paid", "adopt:paid", "paid", "ordered")
		}
	})
}

func TestRefusalBeforeAnEarlierVersionIsNoEvent(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var rec recorder
		sc := b.service(redisidem.Config{Observer: &rec}).Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(stopsAt("paid"))))
		mustBe(b, err, nil)
		_, err = sc.DoFlow(ctx, "k", request, mustFlow(b, cart(after(mustFlow(b, cart()), same))))
		mustBe(b, err, nil)
		var adoptions int
		for _, e := range rec.events {
			if e.Kind == redisidem.EventRefused {
				b.Errorf("a refusal is observed: %+v", e)
			}
			if e.Kind == redisidem.EventCommitted && e.Flow == "cart/1" && e.RecoveryPoint == "paid" && e.Stage == "paid" {
				adoptions++
			}
		}
		if adoptions != 1 {
			b.Errorf("%d events of the adoption, want 1: %+v", adoptions, rec.events)
		}
	})
}

// TestStageForAdoptedKeysOnly has a stage that no stage of its version leads to.
func TestStageForAdoptedKeysOnly(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		v2 := mustFlow(b, cart(after(mustFlow(b, cart()), same), func(c *redisidem.FlowConfig) {
			c.Stages[0].Next, c.Stages[0].Work = []string{"paid"}, outcome(redisidem.Advance("paid"))
		}))
		_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(stopsAt("taxed"))))
		mustBe(b, err, nil)
		key, err := sc.DoFlow(ctx, "k", request, v2)
		mustEnd(b, key, err, "version 2", "cart/2", "started", "adopt:taxed", "taxed", "paid", "ordered")
	})
}

// TestLeaseIsRenewedDuringAnAdoption renews the lease before, during and after the change of its
// flow.
func TestLeaseIsRenewedDuringAnAdoption(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Lease: time.Second})
		sc := svc.Scope("a")
		due := func(c *redisidem.FlowConfig) { c.RecoverAfter, c.Deadline = time.Minute, time.Hour }
		_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(due, stopsAt("paid"))))
		mustBe(b, err, nil)
		slow := func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			time.Sleep(5 * time.Second)
			return same(ctx, st)
		}
		key, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(due, after(mustFlow(b, cart(due)), slow), func(c *redisidem.FlowConfig) {
			c.Stages[2].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				time.Sleep(5 * time.Second)
				return redisidem.Next(), nil
			}
		})))
		mustEnd(b, key, err, "version 2", "cart/2", "started", "taxed", "adopt:paid", "paid", "ordered")
	})
}

// TestAdoptionIsNoCommitOfItsStage adopts a key at a stage whose commit would be the point of no
// return, and could be undone.
func TestAdoptionIsNoCommitOfItsStage(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		var done []string
		undo := func(_ context.Context, st *redisidem.Stage) error {
			done = append(done, st.Compensates().Stage)
			return nil
		}
		old := func(c *redisidem.FlowConfig) {
			c.Stages[1].Compensate, c.Stages[2].Compensate, c.Stages[2].NoReturn = undo, undo, true
		}
		_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(old, stopsAt("paid"))))
		mustBe(b, err, nil)
		key, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(after(mustFlow(b, cart(old)), outcome(redisidem.Advance("ordered"))), func(c *redisidem.FlowConfig) {
			c.Stages[1].Compensate, c.Stages[2].Compensate = undo, undo
			c.Stages[3].Work = outcome(redisidem.Fail(redisidem.JSON(402, "declined")))
		})))
		mustEnd(b, key, err, "declined", "cart/2", "started", "taxed", "adopt:paid", "ordered", "compensate:1")
		if !slices.Equal(done, []string{"taxed"}) {
			b.Errorf("undone are %q, want the one stage that was committed", done)
		}
	})
}
