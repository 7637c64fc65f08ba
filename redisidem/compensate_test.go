package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// undoing is a flow whose last stage fails for good, and which tells what it undoes.
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
				t.Errorf("%s: the failure is no replay", c.name)
			}
		}
		e.mustBeTidy(e.client())
	})
}

// TestInterimAnswerIsNotThePointOfNoReturn lets a stage ask for a confirmation, and fail when it was refused.
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
				mustBe(b, st.State(&state), nil)
				undone = append(undone, st.CommittedKey(st.Compensates(), "charge"))
				if state != "charged" || st.OutboundKey("charge") == st.CommittedKey(st.Compensates(), "charge") {
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

func TestCompensationIsTriedAgainLikeItsStage(t *testing.T) {
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

// polled is a flow whose second stage gives interim answers, so many, and then fails for good. done is what it undoes.
func polled(polls int, done *[]int64) redisidem.FlowConfig {
	return cart(func(c *redisidem.FlowConfig) {
		undo := func(_ context.Context, st *redisidem.Stage) error {
			*done = append(*done, st.Compensates().Revision)
			return nil
		}
		c.Stages[0].Compensate, c.Stages[1].Compensate = undo, undo
		c.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			polls--
			if polls >= 0 {
				return redisidem.Interim("taxed", redisidem.JSON(202, "confirm")), nil
			}
			return redisidem.Fail(redisidem.JSON(402, "declined")), nil
		}
	})
}

// TestCompensationsPushNothingOutOfTheJournal has 33 commits and more to be undone, each by a commit of its own.
func TestCompensationsPushNothingOutOfTheJournal(t *testing.T) {
	for _, polls := range []int{31, 32, 70} {
		t.Run(fmt.Sprint(polls), func(t *testing.T) {
			onTwoServers(t, func(t *testing.T, e *env) {
				sc := e.service().Scope("a")
				var undone, want []int64
				flow := mustFlow(t, polled(polls, &undone))
				for range polls {
					_, err := sc.DoFlow(ctx, "k", request, flow)
					mustBe(t, err, nil)
				}
				key, err := sc.DoFlow(ctx, "k", request, flow)
				mustBe(t, err, nil)
				for revision := int64(polls); revision >= 0; revision-- {
					want = append(want, revision)
				}
				if !key.Finished() || key.Response.Code != 402 || !slices.Equal(undone, want) {
					t.Errorf("undone %v, %+v", undone, key)
				}
				mustHaveItsJournal(t, sc, key)
			})
		})
	}
}

// mustHaveItsJournal compares the journal of a key that was committed with the stored one.
func mustHaveItsJournal(t testing.TB, sc *redisidem.Scope, key *redisidem.Key) {
	t.Helper()
	stored, err := sc.Retrieve(ctx, key.Value)
	mustBe(t, err, nil)
	if !slices.Equal(key.Journal, stored.Journal) {
		t.Errorf("the key's journal has %d entries, the stored one %d", len(key.Journal), len(stored.Journal))
	}
}

// TestWhatIsToBeUndoneStaysInTheJournal commits beyond the length of other journals in each way in which a flow's key can be.
func TestWhatIsToBeUndoneStaysInTheJournal(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		var undone []int64
		cfg := polled(100, &undone)
		flow := mustFlow(b, cfg)
		poll := func() *redisidem.Key {
			key, err := sc.DoFlow(ctx, "k", request, flow)
			mustBe(b, err, nil)
			return key
		}
		for range 65 {
			poll()
		}
		work := cfg.Stages[1].Work
		cfg.Stages[1].Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			b.freeze()
			return work(ctx, st)
		}
		_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cfg))
		mustBe(b, err, redisidem.ErrOutcomeUnknown)
		b.thaw()
		time.Sleep(10 * time.Second)      // it lands in the background
		key, err := sc.Retrieve(ctx, "k") // and this program does not say which flow it is
		mustBe(b, err, nil)
		key, err = sc.WorkStage(ctx, key, outcome(redisidem.Interim("taxed", redisidem.JSON(202, "by hand"))))
		mustBe(b, err, nil)
		_, err = sc.Update(ctx, key, redisidem.Interim("taxed", redisidem.JSON(202, "by hand")))
		mustBe(b, err, nil)
		key = poll()
		if int64(len(key.Journal)) != key.Revision || key.Revision < 69 {
			b.Errorf("the journal has %d entries at revision %d", len(key.Journal), key.Revision)
		}
		mustHaveItsJournal(b, sc, key)
	})
}

// TestCompensationRefusesAJournalWithoutABeginning has more commits than the journal remembers.
func TestCompensationRefusesAJournalWithoutABeginning(t *testing.T) {
	for _, c := range []struct {
		loops int
		want  error
	}{{1022, nil}, {1023, redisidem.ErrDamaged}} {
		t.Run(fmt.Sprint(c.loops), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				sc := b.service(redisidem.Config{}).Scope("a")
				var done []string
				left := c.loops
				flow := mustFlow(b, undoing(&done, func(cfg *redisidem.FlowConfig) {
					cfg.Stages[1].Next, cfg.Stages[1].MaxVisits = []string{"taxed", "paid"}, 2000
					cfg.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
						left--
						if left > 0 {
							return redisidem.Advance("taxed"), nil
						}
						return redisidem.Next(), nil
					}
				}))
				for range 2 {
					key, err := sc.DoFlow(ctx, "k", request, flow)
					mustBe(b, err, c.want)
					if want := c.loops + 2; c.want == nil && (len(done) != want || !key.Finished()) {
						b.Errorf("undone %d of %d, %+v", len(done), want, key.Response)
					}
					if c.want != nil && (len(done) > 0 || key.RecoveryPoint != "ordered") {
						b.Errorf("undone %q, the key is at %s", done, key.RecoveryPoint)
					}
					if key.Finished() {
						mustHaveItsJournal(b, sc, key)
					}
				}
			})
		})
	}
}

func TestFlowThatCompensatesNothingFailsAfterAnyNumberOfCommits(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		flow := mustFlow(b, polled(70, new([]int64)))
		cfg := flow.Config()
		cfg.Stages[0].Compensate, cfg.Stages[1].Compensate = nil, nil
		flow = mustFlow(b, cfg)
		for range 70 {
			_, err := sc.DoFlow(ctx, "k", request, flow)
			mustBe(b, err, nil)
		}
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		if !key.Finished() || key.Response.Code != 402 || len(key.Journal) != 64 {
			b.Errorf("the key is %+v", key)
		}
		mustHaveItsJournal(b, sc, key)
	})
}

func TestFailOutsideOfAFlowIsFinish(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		for i := range 2 {
			key, err := sc.Do(ctx, "k", request, outcome(redisidem.Fail(redisidem.JSON(402, "declined"))))
			mustBe(b, err, nil)
			if !key.Finished() || key.Response.Code != 402 || key.Replayed() != (i == 1) {
				b.Errorf("%d: the key is %+v", i, fmt.Sprint(key))
			}
		}
	})
}

// TestShutdownUsesUpNoAttemptOfACompensation has one whose client may have left before.
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

// TestLostCompensationSaysSo has a compensation whose client has left before the lease is lost.
func TestLostCompensationSaysSo(t *testing.T) {
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
