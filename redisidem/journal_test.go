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

// TestUndoByHandKeepsTheCommitThatIsUndone has a key with as many commits as its journal keeps, the
// first of which is compensated.
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

// polled is a flow whose second stage gives a number of interim answers and then fails permanently.
// It records the revisions that are compensated in done.
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

// TestCompensationsDoNotEvictTheJournal has 33 commits and more to compensate, each with a commit
// of its own.
func TestCompensationsDoNotEvictTheJournal(t *testing.T) {
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

// mustHaveItsJournal compares the journal of a committed key with the stored one.
func mustHaveItsJournal(t testing.TB, sc *redisidem.Scope, key *redisidem.Key) {
	t.Helper()
	stored, err := sc.Retrieve(ctx, key.Value)
	mustBe(t, err, nil)
	if !slices.Equal(key.Journal, stored.Journal) {
		t.Errorf("the key's journal has %d entries, the stored one %d", len(key.Journal), len(stored.Journal))
	}
}

// TestCommitsToCompensateStayInTheJournal commits beyond the usual length of a journal, in each way
// in which a key of a flow is committed.
func TestCommitsToCompensateStayInTheJournal(t *testing.T) {
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

// TestCompensationRefusesAJournalWithoutABeginning has more commits than the journal keeps.
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

func TestJournalInMemoryIsBoundedToo(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		start(b, sc, "k")
		lease, err := sc.Lock(ctx, "k")
		mustBe(b, err, nil)
		for i := range 200 {
			_, held, err := lease.CommitKeep(ctx, redisidem.Advance([]string{"x", "y"}[i%2]))
			mustBe(b, err, nil)
			if !held {
				b.Fatal("the lease is gone")
			}
		}
		mustBe(b, lease.Abandon(ctx), nil)
		stored, err := sc.Retrieve(ctx, "k")
		mustBe(b, err, nil)
		if mine := lease.Key().Journal; len(mine) != 64 || len(stored.Journal) != 64 || mine[0] != stored.Journal[0] {
			b.Errorf("%d entries here and %d there", len(mine), len(stored.Journal))
		}
	})
}

// TestNearlyFullJournalIsLoggedOnce has a flow that can compensate, and one that cannot.
func TestNearlyFullJournalIsLoggedOnce(t *testing.T) {
	for _, compensates := range []bool{true, false} {
		t.Run(fmt.Sprint(compensates), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				var log bytes.Buffer
				var at []int64
				sc := b.service(redisidem.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}).Scope("a")
				flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
					s := &c.Stages[1]
					s.Next = []string{"taxed", "paid"}
					if compensates {
						s.Compensate = func(context.Context, *redisidem.Stage) error { return nil }
					}
					s.Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
						if log.Len() > 0 && len(at) == 0 {
							at = append(at, st.Key().Revision)
						}
						if st.Key().Revision%300 == 0 && st.Attempt() == 1 {
							return redisidem.Outcome{}, errStage // another lease
						}
						if st.Key().Revision == 1100 {
							return redisidem.Next(), nil
						}
						return redisidem.Advance("taxed"), nil
					}
				}))
				var key *redisidem.Key
				for range 5 {
					key, _ = sc.DoFlow(ctx, "k", request, flow)
				}
				want, lines := []int64{768}, 1
				if !compensates {
					want, lines = nil, 0
				}
				if !key.Finished() || !slices.Equal(at, want) || strings.Count(log.String(), "journal") != lines {
					b.Errorf("logged at %d, want %d, in a key of %d commits: %s", at, want, key.Revision, log.String())
				}
				if compensates && (!strings.Contains(log.String(), "commits=768 limit=1024") || !strings.Contains(log.String(), sc.ID("k"))) {
					b.Errorf("the log is %s", log.String())
				}
			})
		})
	}
}

// TestPointAt has a key with three commits of a stage between snoozes of another one, and then more
// commits than its journal is long.
func TestPointAt(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		snoozes := 70
		again := 0
		flow := mustFlow(b, redisidem.FlowConfig{Name: "f", Version: 1, Stages: []redisidem.FlowStage{
			{Point: redisidem.Started, Work: outcome(redisidem.Next())},
			{Point: "await", Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if snoozes > 0 {
					snoozes--
					return redisidem.Snooze(time.Second, redisidem.JSON(202, "wait")).UntilCalled(), nil
				}
				return redisidem.Next(), nil
			}},
			{Point: "loop", Next: []string{"loop", redisidem.Finished}, Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				again++
				if again%10 == 0 {
					return redisidem.Interim("loop", redisidem.JSON(202, "more")), nil
				}
				return redisidem.Advance("loop"), nil
			}},
		}})
		var key *redisidem.Key
		for again == 0 {
			var err error
			key, err = sc.DoFlow(ctx, "k", request, flow)
			mustBe(b, err, nil)
		}
		// Revision 0 is that of the beginning, 1 to 70 are snoozes, and 71 is the end of await.
		for revision, want := range map[int64]string{-1: "", 0: redisidem.Started, 1: "await", 42: "await", 71: "await", 72: "loop", 81: "loop", 82: "", 100: ""} {
			if at, ok := key.PointAt(revision); at != want || ok != (want != "") {
				b.Errorf("revision %d of %d was committed at %q, %t: want %q", revision, key.Revision, at, ok, want)
			}
		}
		for range 7 {
			var err error
			key, err = sc.DoFlow(ctx, "k", request, flow)
			mustBe(b, err, nil)
		}
		// 152 commits: the journal has the last 64, and the first one, which no commit has pushed
		// out.
		for revision, want := range map[int64]string{0: redisidem.Started, 50: "", 87: "", 88: "loop", 151: "loop"} {
			if at, ok := key.PointAt(revision); at != want || ok != (want != "") {
				b.Errorf("revision %d of %d was committed at %q, %t: want %q", revision, key.Revision, at, ok, want)
			}
		}
	})
}
