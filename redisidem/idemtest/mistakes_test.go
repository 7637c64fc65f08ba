package idemtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// TestCrashMatrixFindsMistakes runs the matrix over flows with common mistakes.
func TestCrashMatrixFindsMistakes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		flow  func(*shop) redisidem.FlowConfig
		cases []string // the cases that must fail
		words string   // of the failure
	}{
		{
			"charge that is repeated", func(s *shop) redisidem.FlowConfig {
				cfg := checkout(s)
				cfg.Stages[1].Reconcile = nil
				cfg.Stages[1].Work = func(context.Context, *redisidem.Stage) (outcome, error) {
					s.count("charge")
					return redisidem.Next(), nil
				}
				return cfg
			},
			[]string{"kill_after_tax_lines_created", "kill_before_commit_of_tax_lines_created"},
			`the effect "charge" happened 2 times; promised: exactly 1`,
		},
		{
			"reconcile that does not check", func(s *shop) redisidem.FlowConfig {
				cfg := checkout(s)
				cfg.Stages[1].Reconcile = func(context.Context, *redisidem.Stage) (outcome, error) { return redisidem.Next(), nil }
				return cfg
			},
			// When the lease is kept, the commit of a stage begins the first attempt of the next
			// stage.
			[]string{"kill_after_commit_of_started", "kill_before_tax_lines_created"},
			`the effect "charge" happened 0 times`,
		},
		{
			"reconcile that always fails", func(s *shop) redisidem.FlowConfig {
				cfg := checkout(s)
				cfg.Stages[1].Reconcile = func(context.Context, *redisidem.Stage) (outcome, error) {
					return outcome{}, errors.New("no answer")
				}
				return cfg
			},
			[]string{
				"kill_after_commit_of_started", "kill_before_tax_lines_created", "kill_after_tax_lines_created",
				"kill_before_commit_of_tax_lines_created",
			},
			"not answered",
		},
		{
			"state in memory", func(s *shop) redisidem.FlowConfig {
				cents := 0
				cfg := checkout(s)
				cfg.Stages[0].Work = func(context.Context, *redisidem.Stage) (outcome, error) {
					cents = 1200
					return redisidem.Next(), nil
				}
				cfg.Stages[2].Work = func(context.Context, *redisidem.Stage) (outcome, error) {
					s.count("mail")
					return redisidem.Finish(redisidem.JSON(201, cents)), nil
				}
				return cfg
			},
			[]string{
				"kill_after_commit_of_started", "kill_before_tax_lines_created", "kill_after_tax_lines_created",
				"kill_before_commit_of_tax_lines_created", "kill_after_commit_of_tax_lines_created",
				"kill_before_payment_authorized", "kill_after_payment_authorized", "kill_before_commit_of_payment_authorized",
			},
			`the response is 201 Content-Type: ["application/json"] "0"`,
		},
		{
			"answer that depends on the run", func(s *shop) redisidem.FlowConfig {
				cfg := checkout(s)
				cfg.Stages[2].Work = func(_ context.Context, st *redisidem.Stage) (outcome, error) {
					s.count("mail")
					return redisidem.Finish(redisidem.JSON(201, st.Attempt())), nil
				}
				return cfg
			},
			[]string{
				"kill_after_commit_of_tax_lines_created", "kill_before_payment_authorized", "kill_after_payment_authorized",
				"kill_before_commit_of_payment_authorized",
			},
			`the response is 201 Content-Type: ["application/json"] "2"`,
		},
		{
			"compensation of the wrong charge", func(s *shop) redisidem.FlowConfig {
				cfg := declined(s)
				cfg.Stages[0].Compensate = nil
				cfg.Stages[1].Compensate = func(context.Context, *redisidem.Stage) error { s.count("refund"); return nil }
				cfg.Stages[2].Work = func(context.Context, *redisidem.Stage) (outcome, error) {
					s.count("mail")
					return redisidem.Fail(redisidem.JSON(402, "declined")), nil
				}
				return cfg
			},
			[]string{"kill_after_compensate_tax_lines_created", "kill_before_commit_of_compensate_tax_lines_created"},
			`the effect "refund" happened 2 times; promised: at most 1`,
		},
		{
			"stage that is skipped the second time", func(s *shop) redisidem.FlowConfig {
				cfg := checkout(s)
				first := cfg.Stages[0].Work
				cfg.Stages[0].Next = []string{"tax_lines_created", "payment_authorized"}
				cfg.Stages[0].Work = func(ctx context.Context, st *redisidem.Stage) (outcome, error) {
					if st.Attempt() > 1 {
						s.count("charge")
						return redisidem.Advance("payment_authorized").WithState(1200), nil
					}
					return first(ctx, st)
				}
				return cfg
			},
			[]string{"kill_before_started", "kill_after_started", "kill_before_commit_of_started"},
			`the stages committed are ["started" "payment_authorized"]`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			promise := maps.Clone(sold)
			promise["refund"] = AtMost(1)
			_, failed := collect(t, crashes(c.flow, promise))
			names := slices.Sorted(maps.Keys(failed))
			slices.Sort(c.cases)
			if !slices.Equal(names, c.cases) {
				t.Errorf("failed: %q, want %q", names, c.cases)
			}
			for name, text := range failed {
				if !strings.Contains(text, c.words) {
					t.Errorf("%s fails with %q, want %q", name, text, c.words)
				}
			}
		})
	}
}

// TestCrashMatrixFindsLeftoversInRedis changes the keys without the client's knowledge.
func TestCrashMatrixFindsLeftoversInRedis(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		words  string
		meddle func(ctx context.Context, other *redis.Client, record string) error
	}{
		{"has no expiry", func(ctx context.Context, other *redis.Client, record string) error {
			return other.Persist(ctx, record).Err()
		}},
		{"a lock is left", func(ctx context.Context, other *redis.Client, record string) error {
			return other.Set(ctx, record+":lock", "other worker", time.Hour).Err()
		}},
		{"is due for recovery", func(ctx context.Context, other *redis.Client, record string) error {
			due := record[:strings.LastIndex(record, ":")] + ":due:checkout"
			return other.ZAdd(ctx, due, redis.Z{Member: "x"}).Err()
		}},
		{"was not replayed", func(ctx context.Context, other *redis.Client, record string) error {
			return other.Del(ctx, record).Err()
		}},
	} {
		t.Run(c.words, func(t *testing.T) {
			t.Parallel()
			srv := NewServer(t)
			other := srv.Client()
			one := crashes(checkout, map[string]Times{"charge": Exactly(1), "mail": AtLeast(1)})
			one.Client = func(testing.TB) redis.UniversalClient {
				client := redis.NewClient(srv.Options())
				client.AddHook(meddler{lua.Commit, func(ctx context.Context, cmd redis.Cmder) {
					record, _ := cmd.Args()[3].(string)
					if other.HGet(ctx, record, "recovery_point").Val() != redisidem.Finished {
						return
					}
					if err := c.meddle(ctx, other, record); err != nil {
						t.Error(err)
					}
				}})
				return client
			}
			_, failed := collect(t, one)
			if len(failed) != 1 || !strings.Contains(failed["undisturbed"], c.words) {
				t.Errorf("the failure is %q, want %q", failed, c.words)
			}
		})
	}
}

func TestCrashMatrixFindsEffectsOfReplays(t *testing.T) {
	t.Parallel()
	_, failed := collect(t, CrashConfig{Promise: sold, World: func(testing.TB) World {
		s := newShop()
		return World{
			Request: buy, Effects: s.effects,
			Flow: func() (*redisidem.Flow, error) {
				if s.effects()["mail"] > 0 {
					s.count("mail") // each time a process starts
				}
				return redisidem.NewFlow(checkout(s))
			},
		}
	}})
	if !strings.Contains(failed["undisturbed"], "the replay had effects") {
		t.Errorf("the failure is %q", failed)
	}
}

func TestCrashMatrixComparesMaskedResponses(t *testing.T) {
	t.Parallel()
	worlds := 0
	for _, masked := range []bool{false, true} {
		c := crashes(checkout, sold)
		c.World = func(testing.TB) World {
			s := newShop()
			worlds++
			id := fmt.Sprint("order ", worlds)
			w := World{Request: buy, Effects: s.effects, Flow: func() (*redisidem.Flow, error) {
				cfg := checkout(s)
				cfg.Stages[2].Work = func(context.Context, *redisidem.Stage) (outcome, error) {
					s.count("mail")
					return redisidem.Finish(redisidem.JSON(201, id)), nil
				}
				return redisidem.NewFlow(cfg)
			}}
			if masked {
				w.Mask = func(r *redisidem.Response) { r.Body = bytes.ReplaceAll(r.Body, []byte(id), []byte("ORDER")) }
			}
			return w
		}
		cases, failed := collect(t, c)
		if want := map[bool]int{false: len(cases) - 1, true: 0}[masked]; len(failed) != want {
			t.Errorf("masked %t: %d of %d cases failed, want %d: %q", masked, len(failed), len(cases), want, failed)
		}
	}
}

func TestCrashMatrixRefusesInvalidConfigurations(t *testing.T) {
	t.Parallel()
	good := crashes(checkout, sold)
	for _, c := range []struct {
		name  string
		c     CrashConfig
		words string
	}{
		{"no world", CrashConfig{Promise: sold}, "CrashConfig.World"},
		{"no promise", CrashConfig{World: good.World}, "CrashConfig.Promise"},
		{"negative depth", CrashConfig{World: good.World, Promise: sold, Depth: -1}, "CrashConfig.Depth"},
		{"no flow", CrashConfig{Promise: sold, World: func(testing.TB) World { return World{} }}, "World.Flow"},
		{"flow that is refused", crashes(func(*shop) redisidem.FlowConfig { return redisidem.FlowConfig{} }, sold), "FlowConfig.Name"},
		{"effect without a promise", crashes(checkout, map[string]Times{"charge": Exactly(1)}), `"mail"`},
		{"promise that is broken at once", crashes(checkout, map[string]Times{"charge": Exactly(2), "mail": AtLeast(1)}), "exactly 2"},
		{"invalid config", CrashConfig{World: good.World, Promise: sold, Config: &redisidem.Config{Retention: 1}}, "Config.Retention"},
		{"flow that never ends", crashes(func(s *shop) redisidem.FlowConfig {
			cfg := checkout(s)
			cfg.Stages[0].Work = func(context.Context, *redisidem.Stage) (outcome, error) { return outcome{}, errors.New("away") }
			return cfg
		}, sold), "sent 10 times"},
		{"flow that idles", crashes(func(s *shop) redisidem.FlowConfig {
			cfg := checkout(s)
			cfg.Stages[0].Work = func(context.Context, *redisidem.Stage) (outcome, error) { return redisidem.NothingDone(), nil }
			return cfg
		}, sold), `idle at "started"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cases, failed := collect(t, c.c)
			if len(failed) != 1 || len(cases) > 1 {
				t.Fatalf("cases %q, failed %q", cases, failed)
			}
			for _, text := range failed {
				if !strings.Contains(text, c.words) {
					t.Errorf("the failure is %q, want %q", text, c.words)
				}
			}
		})
	}
}

func TestCrashMatrixFindsRunsThatDiffer(t *testing.T) {
	t.Parallel()
	processes := 0
	_, failed := collect(t, crashes(func(s *shop) redisidem.FlowConfig {
		cfg := checkout(s)
		processes++
		if processes > 2 { // after the undisturbed run and its replay
			cfg.Stages[0].Next = []string{"payment_authorized", "tax_lines_created"}
			cfg.Stages[0].Work = func(context.Context, *redisidem.Stage) (outcome, error) {
				s.charge("")
				return redisidem.Advance("payment_authorized").WithState(1200), nil
			}
		}
		return cfg
	}, sold))
	for _, name := range []string{"kill_before_tax_lines_created", "kill_after_commit_of_tax_lines_created"} {
		if !strings.Contains(failed[name], "did not reach the boundary \""+name+"\"") {
			t.Errorf("%s says %q", name, failed[name])
		}
	}
}
