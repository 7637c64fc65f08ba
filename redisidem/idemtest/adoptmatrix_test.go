package idemtest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

// renamed is the second version of the checkout: its payment has another name, and its state
// another form.
func renamed(s *shop) redisidem.FlowConfig {
	first, err := redisidem.NewFlow(checkout(s))
	if err != nil {
		panic(err)
	}
	cfg := checkout(s)
	cfg.Version = 2
	cfg.Stages[0].Work = func(context.Context, *redisidem.Stage) (outcome, error) {
		return redisidem.Next().WithState(map[string]int{"cents": 1200}), nil
	}
	cfg.Stages[2].Point = "charged"
	cfg.Stages[2].Work = func(_ context.Context, st *redisidem.Stage) (outcome, error) {
		var order struct{ Cents int }
		if err := st.State(&order); err != nil {
			return outcome{}, err
		}
		s.count("mail")
		return redisidem.Finish(redisidem.JSON(201, map[string]any{"order": 1, "cents": order.Cents})), nil
	}
	cfg.Earlier = []redisidem.EarlierVersion{{Flow: first, Adopt: func(_ context.Context, st *redisidem.Stage) (outcome, error) {
		point := st.Key().RecoveryPoint
		if point == "payment_authorized" {
			point = "charged"
		}
		var cents int
		if err := st.State(&cents); errors.Is(err, redisidem.ErrNoState) {
			return redisidem.Advance(point), nil
		} else if err != nil {
			return outcome{}, err
		}
		return redisidem.Advance(point).WithState(map[string]int{"cents": cents}), nil
	}}}
	return cfg
}

func collectAdoptions(t testing.TB, c CrashConfig) (cases []string, failed map[string]string) {
	t.Helper()
	return runSubtests(t, func(r runner) { adoptMatrix(r, c) })
}

func TestAdoptMatrixOfACorrectFlow(t *testing.T) {
	t.Parallel()
	AdoptMatrix(t, crashes(renamed, sold))
}

func TestAdoptMatrixTriesEachBoundaryOfEachPoint(t *testing.T) {
	t.Parallel()
	cases, failed := collectAdoptions(t, crashes(renamed, sold))
	if len(failed) > 0 {
		t.Errorf("failed: %q", failed)
	}
	for _, name := range []string{
		"from_1_at_started/undisturbed", "from_1_at_tax_lines_created/undisturbed",
		"from_1_at_payment_authorized/kill_before_adopt_payment_authorized",
		"from_1_at_payment_authorized/kill_after_adopt_payment_authorized",
		"from_1_at_payment_authorized/kill_before_commit_of_adopt_payment_authorized",
		"from_1_at_payment_authorized/kill_after_commit_of_adopt_payment_authorized",
		"from_1_at_payment_authorized/kill_before_charged",
	} {
		if !slices.Contains(cases, name) {
			t.Errorf("%q is not among the %d cases", name, len(cases))
		}
	}
}

func TestAdoptMatrixFindsMistakes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*redisidem.FlowConfig)
		words  string
	}{
		"no Adopt": {func(c *redisidem.FlowConfig) { c.Earlier[0].Adopt = nil }, "no earlier version of World.Flow has an Adopt"},
		"error": {func(c *redisidem.FlowConfig) {
			c.Earlier[0].Adopt = func(context.Context, *redisidem.Stage) (outcome, error) { return outcome{}, errors.New("no idea") }
		}, `Adopt at "started": no idea`},
		"unknown point": {func(c *redisidem.FlowConfig) {
			c.Earlier[0].Adopt = func(_ context.Context, st *redisidem.Stage) (outcome, error) {
				return redisidem.Advance(st.Key().RecoveryPoint), nil
			}
		}, `the outcome of Adopt at "payment_authorized" was refused`},
		"old state": {func(c *redisidem.FlowConfig) {
			c.Earlier[0].Adopt = func(context.Context, *redisidem.Stage) (outcome, error) { return redisidem.Advance("charged"), nil }
		}, "the last error is"},
		"charge again": {func(c *redisidem.FlowConfig) {
			adopt := c.Earlier[0].Adopt
			c.Earlier[0].Adopt = func(ctx context.Context, st *redisidem.Stage) (outcome, error) {
				if st.Key().RecoveryPoint == "payment_authorized" {
					return redisidem.Advance("tax_lines_created").WithState(map[string]int{"cents": 1200}), nil
				}
				return adopt(ctx, st)
			}
		}, `the effect "charge" happened 2 times`},
		"lazy": {func(c *redisidem.FlowConfig) {
			c.Earlier[0].Adopt = func(context.Context, *redisidem.Stage) (outcome, error) { return redisidem.NothingDone(), nil }
		}, "no key of checkout/1 was adopted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, failed := collectAdoptions(t, crashes(func(s *shop) redisidem.FlowConfig {
				cfg := renamed(s)
				c.change(&cfg)
				return cfg
			}, sold))
			all := ""
			for name, why := range failed {
				all += name + ": " + why + "\n"
			}
			if !strings.Contains(all, c.words) {
				t.Errorf("the failures are %q, want %q", all, c.words)
			}
		})
	}
}
