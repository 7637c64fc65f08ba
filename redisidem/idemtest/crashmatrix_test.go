package idemtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
)

func TestCrashMatrixOfACorrectFlow(t *testing.T) {
	t.Parallel()
	CrashMatrix(t, crashes(checkout, sold))
}

func TestCrashMatrixTriesEachBoundary(t *testing.T) {
	t.Parallel()
	cases, failed := collect(t, crashes(checkout, sold))
	if len(failed) > 0 {
		t.Errorf("failed: %q", failed)
	}
	want := []string{"undisturbed"}
	for _, point := range []string{"started", "tax_lines_created", "payment_authorized"} {
		for _, boundary := range []string{"before_", "after_", "before_commit_of_", "after_commit_of_"} {
			want = append(want, "kill_"+boundary+point)
		}
	}
	if !slices.Equal(cases, want) {
		t.Errorf("cases are\n%q, want\n%q", cases, want)
	}
}

func TestCrashMatrixTriesTheProgramsOwnBoundaries(t *testing.T) {
	t.Parallel()
	CrashPoint(t.Context(), "outside") // does nothing
	cases, failed := collect(t, CrashConfig{Promise: map[string]Times{"write": Between(1, 2)}, World: func(testing.TB) World {
		s := newShop()
		return World{Request: buy, Effects: s.effects, Flow: func() (*redisidem.Flow, error) {
			return redisidem.NewFlow(redisidem.FlowConfig{Name: "one", Version: 1, Stages: []stage{{
				Point: redisidem.Started,
				Work: func(ctx context.Context, _ *redisidem.Stage) (outcome, error) {
					CrashPoint(ctx, "before_write")
					s.count("write")
					CrashPoint(context.WithoutCancel(ctx), "after_write")
					return redisidem.Finish(redisidem.Response{Code: 204}), nil
				},
			}}})
		}}
	}})
	if len(failed) > 0 {
		t.Errorf("failed: %q", failed)
	}
	for _, name := range []string{"kill_at_before_write", "kill_at_after_write"} {
		if !slices.Contains(cases, name) {
			t.Errorf("%q is not among the cases %q", name, cases)
		}
	}
}

func TestCrashMatrixOfSeveralDeathsInARow(t *testing.T) {
	t.Parallel()
	c := crashes(checkout, sold)
	c.Depth = 2
	cases, failed := collect(t, c)
	if len(failed) > 0 {
		t.Errorf("failed: %q", failed)
	}
	for _, name := range []string{
		"kill_after_tax_lines_created/kill_before_reconcile_tax_lines_created",
		"kill_after_tax_lines_created/kill_after_commit_of_tax_lines_created",
		"kill_before_started/kill_before_started",
	} {
		if !slices.Contains(cases, name) {
			t.Errorf("%q is not among the cases %q", name, cases)
		}
	}
	if len(cases) < 13+60 {
		t.Errorf("%d cases only: %q", len(cases), cases)
	}
}

func TestCrashMatrixOfCompensation(t *testing.T) {
	t.Parallel()
	cases, failed := collect(t, crashes(declined, map[string]Times{"charge": Exactly(1), "refund": Exactly(1), "release": Between(1, 2)}))
	if len(failed) > 0 {
		t.Errorf("failed: %q", failed)
	}
	for _, name := range []string{
		"kill_before_compensate_tax_lines_created", "kill_after_compensate_started",
		"kill_before_commit_of_compensate_started", "kill_after_commit_of_compensate_tax_lines_created",
	} {
		if !slices.Contains(cases, name) {
			t.Errorf("%q is not among the cases %q", name, cases)
		}
	}
}

func TestCrashMatrixOfInterimAnswers(t *testing.T) {
	t.Parallel()
	cases, failed := collect(t, CrashConfig{Promise: sold, World: func(testing.TB) World {
		s := newShop()
		confirmed := false
		return World{
			Flow: func() (*redisidem.Flow, error) {
				cfg := checkout(s)
				pay := cfg.Stages[1].Work
				cfg.Stages[1].Work = func(ctx context.Context, st *redisidem.Stage) (outcome, error) {
					if !confirmed {
						return redisidem.Interim("tax_lines_created", redisidem.JSON(202, "confirm")), nil
					}
					return pay(ctx, st)
				}
				return redisidem.NewFlow(cfg)
			},
			Request: buy, Effects: s.effects,
			Interim: func(key *redisidem.Key) { confirmed = key.Response.Code == 202 },
		}
	}})
	if len(failed) > 0 {
		t.Errorf("failed: %q", failed)
	}
	if !slices.Contains(cases, "kill_after_commit_of_tax_lines_created_visit_2") {
		t.Errorf("cases are %q", cases)
	}
}

func TestCrashMatrixOfSnoozes(t *testing.T) {
	t.Parallel()
	cases, failed := collect(t, CrashConfig{Promise: sold, World: func(testing.TB) World {
		s := newShop()
		return World{
			Flow: func() (*redisidem.Flow, error) {
				cfg := checkout(s)
				pay := cfg.Stages[1].Work
				cfg.Stages[1].Work = func(ctx context.Context, st *redisidem.Stage) (outcome, error) {
					if st.Key().Revision < 4 {
						return redisidem.Snooze(time.Hour, redisidem.JSON(202, "pending")), nil
					}
					return pay(ctx, st)
				}
				return redisidem.NewFlow(cfg)
			},
			Request: buy, Effects: s.effects,
		}
	}})
	if len(failed) > 0 {
		t.Errorf("failed: %q", failed)
	}
	if !slices.Contains(cases, "kill_after_commit_of_tax_lines_created_visit_3") {
		t.Errorf("cases are %q", cases)
	}
}

// TestCrashMatrixOfActsFromOutside kills processes of flows that something else than their stages
// ends or stops: a deadline, an operator, or a completer that has tried often enough.
func TestCrashMatrixOfActsFromOutside(t *testing.T) {
	t.Parallel()
	act := redisidem.Act{Actor: "a test", Reason: "a test"}
	undone := map[string]Times{"charge": Exactly(1), "refund": Exactly(1)}
	pending := func(context.Context, *redisidem.Stage) (outcome, error) {
		return redisidem.Snooze(time.Millisecond, redisidem.JSON(202, "pending")).UntilCalled(), nil
	}
	away := func(context.Context, *redisidem.Stage) (outcome, error) { return outcome{}, errors.New("no answer") }
	for name, c := range map[string]struct {
		change  func(cfg *redisidem.FlowConfig)
		interim func(srv *Server, svc *redisidem.Service, flow *redisidem.Flow) error
		promise map[string]Times
		last    string // a boundary that must be among the cases
	}{
		"deadline": {
			func(cfg *redisidem.FlowConfig) { cfg.Deadline, cfg.Stages[2].Work = time.Hour, pending },
			func(srv *Server, _ *redisidem.Service, _ *redisidem.Flow) error {
				srv.FastForward(time.Hour)
				return nil
			},
			undone, "kill_after_compensate_tax_lines_created",
		},
		"cancel": {
			func(cfg *redisidem.FlowConfig) { cfg.Stages[2].Work = pending },
			func(_ *Server, svc *redisidem.Service, _ *redisidem.Flow) error {
				return svc.Scope(caseScope).Cancel(t.Context(), caseKey)
			},
			undone, "kill_after_compensate_tax_lines_created",
		},
		"exhausted": {
			func(cfg *redisidem.FlowConfig) {
				cfg.MaxAttempts, cfg.Exhausted.Compensate, cfg.Stages[2].Work = 2, true, away
			},
			nil, undone, "kill_after_compensate_tax_lines_created",
		},
		"exhausted, with a last stage": {
			func(cfg *redisidem.FlowConfig) {
				cfg.MaxAttempts, cfg.Exhausted.Stage, cfg.Stages[2].Work = 2, "by_hand", away
				cfg.Stages[2].Next = []string{redisidem.Finished}
				cfg.Stages = append(cfg.Stages, stage{Point: "by_hand", Work: func(context.Context, *redisidem.Stage) (outcome, error) {
					return redisidem.Finish(redisidem.JSON(202, "an operator has been asked")), nil
				}})
			},
			nil,
			map[string]Times{"charge": Exactly(1)},
			"kill_after_by_hand",
		},
		"pause": {
			func(cfg *redisidem.FlowConfig) {
				cfg.Pausable = true
				mail := cfg.Stages[2].Work
				cfg.Stages[2].Work = func(ctx context.Context, st *redisidem.Stage) (outcome, error) {
					if st.Key().Revision < 3 {
						return pending(ctx, st)
					}
					return mail(ctx, st)
				}
			},
			func(_ *Server, svc *redisidem.Service, flow *redisidem.Flow) error {
				in := redisidem.NewInspector(svc)
				if err := in.Pause(t.Context(), flow.Config().Name, true, act); err != nil {
					return err
				}
				if _, err := svc.Scope(caseScope).DoFlow(t.Context(), caseKey, buy, flow); !errors.Is(err, redisidem.ErrPaused) {
					return fmt.Errorf("the flow is not paused: %w", err)
				}
				return in.Resume(t.Context(), flow.Config().Name, act)
			},
			sold, "kill_after_payment_authorized_visit_2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := NewServer(t)
			cases, failed := collect(t, CrashConfig{
				Promise: c.promise,
				Config:  &redisidem.Config{Lease: redisidem.DefaultLease},
				Client: func(testing.TB) redis.UniversalClient {
					srv.FastForward(redisidem.DefaultLease) // the process before may have left its lease
					return redis.NewClient(srv.Options())
				},
				World: func(tb testing.TB) World {
					tb.Helper()
					s := newShop()
					newFlow := func() (*redisidem.Flow, error) {
						cfg := checkout(s)
						cfg.RecoverAfter = time.Millisecond
						c.change(&cfg)
						return redisidem.NewFlow(cfg)
					}
					return World{Flow: newFlow, Request: buy, Effects: s.effects, Interim: func(*redisidem.Key) {
						flow, err := newFlow()
						if err == nil {
							err = c.interim(srv, sameService(srv), flow)
						}
						if err != nil {
							tb.Error(err)
						}
					}}
				},
			})
			if len(failed) > 0 {
				t.Errorf("failed: %q", failed)
			}
			if !slices.Contains(cases, c.last) {
				t.Errorf("%q is not among the cases %q", c.last, cases)
			}
		})
	}
}

// sameService returns a service in the namespace of the matrix that has the server.
func sameService(srv *Server) *redisidem.Service {
	names := srv.Client().Keys(context.Background(), "idemtest-*").Val()
	namespace, _, _ := strings.Cut(names[0], ":")
	return srv.Service(&redisidem.Config{Namespace: namespace})
}

func TestCrashMatrixOfLoopsAndRetries(t *testing.T) {
	t.Parallel()
	cases, failed := collect(t, CrashConfig{
		Promise: map[string]Times{"item": Exactly(3), "shaky": AtLeast(2)}, World: func(testing.TB) World {
			s := newShop()
			return World{Request: buy, Effects: s.effects, Flow: func() (*redisidem.Flow, error) {
				return redisidem.NewFlow(redisidem.FlowConfig{Name: "list", Version: 1, Stages: []stage{
					{
						Point: redisidem.Started, Next: []string{redisidem.Started, "last"},
						Work: func(_ context.Context, st *redisidem.Stage) (outcome, error) {
							n := 0
							if err := st.State(&n); err != nil && !errors.Is(err, redisidem.ErrNoState) {
								return outcome{}, err
							}
							if key := st.OutboundKey("item"); !s.charged(key) {
								s.charge(key)
								s.count("item")
								delete(s.counts, "charge")
							}
							if n == 2 {
								return redisidem.Advance("last"), nil
							}
							return redisidem.Advance(redisidem.Started).WithState(n + 1), nil
						},
					},
					{
						Point: "last", Retry: redisidem.Retry{Attempts: 3, Backoff: time.Millisecond},
						Work: func(context.Context, *redisidem.Stage) (outcome, error) {
							s.count("shaky")
							if s.effects()["shaky"] < 2 {
								return outcome{}, errors.New("no answer")
							}
							return redisidem.Finish(redisidem.Response{Code: 204}), nil
						},
					},
				}})
			}}
		},
	})
	if len(failed) > 0 {
		t.Errorf("failed: %q", failed)
	}
	for _, name := range []string{"kill_after_started_visit_3", "kill_before_last_visit_2"} {
		if !slices.Contains(cases, name) {
			t.Errorf("%q is not among the cases %q", name, cases)
		}
	}
}

// TestNothingOfAKilledProcessReachesRedis kills a process at each kind of boundary. It checks the
// stored state, and that the key stays locked, as after SIGKILL.
func TestNothingOfAKilledProcessReachesRedis(t *testing.T) {
	t.Parallel()
	for _, auto := range []bool{false, true} {
		for _, c := range []struct {
			at       crashPoint
			revision int64
		}{
			{crashPoint{beforeWork, "tax_lines_created", 1}, 1},
			{crashPoint{afterWork, "tax_lines_created", 1}, 1},
			{crashPoint{beforeCommit, "tax_lines_created", 1}, 1},
			{crashPoint{afterCommit, "tax_lines_created", 1}, 2},
		} {
			t.Run(fmt.Sprintf("%s/auto=%t", c.at, auto), func(t *testing.T) {
				t.Parallel()
				srv, s := NewServer(t), newShop()
				flow := func() (*redisidem.Flow, error) { return redisidem.NewFlow(checkout(s)) }
				p := &crashCase{t: t, world: World{Request: buy, Flow: flow}, matrix: &matrix{
					cfg: redisidem.Config{AutoPipeline: auto, Timeout: defaultTimeout},
					// With the test's own client, the server's clock is not advanced.
					CrashConfig: CrashConfig{MaxRequests: 1, Client: func(testing.TB) redis.UniversalClient {
						return redis.NewClient(srv.Options())
					}},
				}}
				if key, _ := p.live(c.at); key != nil {
					t.Fatalf("the process lives: %+v", key)
				}
				sc := srv.Service(nil).Scope(caseScope)
				key, err := sc.Retrieve(t.Context(), caseKey)
				if err != nil || key.Revision != c.revision {
					t.Errorf("the key is %+v, %v, want revision %d", key, err, c.revision)
				}
				again, err := flow()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := sc.DoFlow(t.Context(), caseKey, buy, again); !errors.Is(err, redisidem.ErrLocked) {
					t.Errorf("the lease was given back: %v", err)
				}
			})
		}
	}
}

func TestCrashMatrixWithAutoPipeline(t *testing.T) {
	t.Parallel()
	c := crashes(checkout, sold)
	c.Config = &redisidem.Config{AutoPipeline: true}
	CrashMatrix(t, c)
}

func TestCrashMatrixOnRealServers(t *testing.T) {
	t.Parallel()
	for _, server := range []struct {
		name  string
		start func(t testing.TB) func() redis.UniversalClient
	}{
		{"redis", func(t testing.TB) func() redis.UniversalClient {
			addr := rediscase.Server(t).Addr()
			return func() redis.UniversalClient {
				return redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, DisableIdentity: true})
			}
		}},
		{"cluster", func(t testing.TB) func() redis.UniversalClient {
			addrs := rediscase.Cluster(t).Addrs()
			return func() redis.UniversalClient {
				return redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, ContextTimeoutEnabled: true, DisableIdentity: true})
			}
		}},
	} {
		for _, auto := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/auto=%t", server.name, auto), func(t *testing.T) {
				t.Parallel()
				client := server.start(t)
				c := crashes(checkout, sold)
				c.Client = func(testing.TB) redis.UniversalClient { return client() }
				c.Config = &redisidem.Config{AutoPipeline: auto, Lease: 500 * time.Millisecond}
				CrashMatrix(t, c)
				look := client()
				defer func() { _ = look.Close() }()
				s := &keyspace{t: t, namespace: "idemtest-*", client: look}
				if left := s.keys(t.Context()); len(left) > 0 {
					t.Errorf("the matrix has left the keys %q", left)
				}
			})
		}
	}
}
