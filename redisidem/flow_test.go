package redisidem_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
)

// The stages of most flows in these tests: they only lead to the next one.
var (
	next = outcome(redisidem.Next())
	last = finish("done")
)

// cart returns the configuration of a flow with the recovery points of a cart's completion.
func cart(change ...func(*redisidem.FlowConfig)) redisidem.FlowConfig {
	cfg := redisidem.FlowConfig{Name: "cart", Version: 1, Stages: []redisidem.FlowStage{
		{Point: redisidem.Started, Work: next},
		{Point: "taxed", Work: next},
		{Point: "paid", Work: next},
		{Point: "ordered", Work: last},
	}}
	for _, f := range change {
		f(&cfg)
	}
	return cfg
}

func mustFlow(t testing.TB, cfg redisidem.FlowConfig) *redisidem.Flow {
	t.Helper()
	flow, err := redisidem.NewFlow(cfg)
	mustBe(t, err, nil)
	return flow
}

// fails is a stage that returns an error.
func fails(err error) redisidem.StageFunc {
	return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return redisidem.Outcome{}, err }
}

func TestFlowOfFourStagesTakesFiveRoundTrips(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc, w := e.wired()
		sc := svc.Scope("a")
		plain := mustFlow(t, cart())
		withEffects := mustFlow(t, cart(func(c *redisidem.FlowConfig) {
			c.RecoverAfter = time.Minute
			for i := range c.Stages {
				work := c.Stages[i].Work
				c.Stages[i].Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					o, err := work(ctx, st)
					return o.WithEffects(
						effect.XAdd(st.ShardKey("outbox"), "stage", st.Key().RecoveryPoint),
						effect.IncrBy(st.ShardKey("count"), 1),
					), err
				}
			}
		}))
		for _, c := range []struct {
			what string
			want int
			run  func(value string) (*redisidem.Key, error)
		}{
			{"Run, 4 stages", 5, func(value string) (*redisidem.Key, error) {
				key := start(t, sc, value)
				w.took()
				return sc.WorkFlow(ctx, key, plain)
			}},
			{"DoFlow, 4 stages", 5, func(value string) (*redisidem.Key, error) {
				return sc.DoFlow(ctx, value, request, plain)
			}},
			{"DoFlow, 4 stages with effects, recoverable", 5, func(value string) (*redisidem.Key, error) {
				return sc.DoFlow(ctx, value, request, withEffects)
			}},
			{"DoFlow, replay", 1, func(value string) (*redisidem.Key, error) {
				_, err := sc.DoFlow(ctx, value, request, plain)
				mustBe(t, err, nil)
				w.took()
				return sc.DoFlow(ctx, value, request, plain)
			}},
		} {
			// An auto-pipeliner may send the two commands of a claim in two batches.
			tries, got := 1, 1<<30
			if e.auto {
				tries = 20
			}
			for i := 0; i < tries && got != c.want; i++ {
				w.took()
				key, err := c.run(fmt.Sprint(c.what, i))
				got = min(got, w.took())
				mustBe(t, err, nil)
				if !key.Finished() || string(key.Response.Body) != `"done"` || len(key.Journal) != 4 {
					t.Fatalf("%s ends with %+v", c.what, key)
				}
			}
			t.Logf("%-48s %d", c.what, got)
			if got != c.want {
				t.Errorf("%s takes %d round trips, want %d", c.what, got, c.want)
			}
		}
		e.mustBeTidy(e.client())
	})
}

func TestFlowContinuesWhereAnotherProcessStopped(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		type money struct{ Cents int64 }
		var runs []string
		broken := true
		flow := mustFlow(t, cart(func(c *redisidem.FlowConfig) {
			c.Stages[0].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				runs = append(runs, st.Key().RecoveryPoint)
				return redisidem.Next().WithState(money{12345678901234567}), nil
			}
			c.Stages[1].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				runs = append(runs, fmt.Sprint(st.Key().RecoveryPoint, st.Attempt()))
				if broken {
					return redisidem.Outcome{}, errStage
				}
				return redisidem.Next(), nil
			}
			c.Stages[3].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				var m money
				if err := st.State(&m); err != nil {
					return redisidem.Outcome{}, err
				}
				return redisidem.Finish(redisidem.JSON(201, m)), nil
			}
		}))
		key, err := e.service().Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(t, err, errStage)
		if key.RecoveryPoint != "taxed" || key.Answered() || key.Revision != 1 || key.Flow != "cart/1" {
			t.Errorf("the key is %+v", key)
		}
		broken = false
		other := e.service(func(c *redisidem.Config) { c.Owner = "another" }).Scope("a")
		key, err = other.WorkFlow(ctx, key, flow)
		mustBe(t, err, nil)
		if string(key.Response.Body) != `{"Cents":12345678901234567}` || key.Replayed() {
			t.Errorf("the key is %+v with %s", key, key.Response.Body)
		}
		if want := []string{"started", "taxed1", "taxed2"}; !slices.Equal(runs, want) {
			t.Errorf("ran %q, want %q", runs, want)
		}
		again, err := other.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, nil)
		if !again.Replayed() || !bytes.Equal(again.Response.Body, key.Response.Body) {
			t.Errorf("the replay is %+v", again)
		}
		// The journal has the owner, the attempt, the time and the duration of each commit.
		var who []string
		for i, entry := range again.Journal {
			who = append(who, fmt.Sprint(entry.Stage, " ", entry.Attempt, " ", entry.Owner == "another"))
			if entry.Took <= 0 || entry.Took > time.Minute || entry.At.IsZero() || entry != key.Journal[i] {
				t.Errorf("entry %d is %+v, and was %+v", i, entry, key.Journal[i])
			}
		}
		if want := []string{"started 1 false", "taxed 2 true", "paid 1 true", "ordered 1 true"}; !slices.Equal(who, want) {
			t.Errorf("the journal is %q, want %q", who, want)
		}
		e.mustBeTidy(e.client())
	})
}

func TestFlowDoesNotTouchForeignKeys(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		newer := cart(func(c *redisidem.FlowConfig) { c.Stages[1].Point = "weighed"; c.Stages[1].Work = fails(errStage) })
		key, err := sc.DoFlow(ctx, "k", request, mustFlow(b, newer))
		mustBe(b, err, errStage)
		before := b.server.Dump()

		unchanged := func(what string) {
			b.Helper()
			if after := b.server.Dump(); after != before {
				b.Errorf("%s changed the record from\n%s\nto\n%s", what, before, after)
			}
		}
		older := mustFlow(b, cart()) // the same version, but it does not know the point
		for _, run := range []func() (*redisidem.Key, error){
			func() (*redisidem.Key, error) { return sc.WorkFlow(ctx, key, older) },
			func() (*redisidem.Key, error) { return sc.DoFlow(ctx, "k", request, older) },
		} {
			got, err := run()
			mustBe(b, err, redisidem.ErrUnknownRecoveryPoint)
			if got == nil || !strings.Contains(err.Error(), "weighed") {
				b.Errorf("the key is %+v, the error %v", got, err)
			}
			unchanged("an unknown recovery point")
		}
		for _, cfg := range []redisidem.FlowConfig{
			cart(func(c *redisidem.FlowConfig) { c.Version = 2 }),
			cart(func(c *redisidem.FlowConfig) { c.Name = "swap" }),
			cart(func(c *redisidem.FlowConfig) { c.Version = 11 }),
		} {
			other := mustFlow(b, cfg)
			_, err := sc.DoFlow(ctx, "k", request, other)
			var refused *redisidem.FlowError
			if !errors.As(err, &refused) || !errors.Is(err, redisidem.ErrOtherFlow) || refused.Stored != "cart/1" ||
				refused.Wanted != other.String() || !strings.Contains(err.Error(), "cart/1") {
				b.Errorf("the error is %v", err)
			}
			unchanged("another flow")
		}
		_, err = sc.WorkFlow(ctx, nil, older)
		mustBeInvalid(b, err, "key")
		_, err = sc.WorkFlow(ctx, key, nil)
		mustBeInvalid(b, err, "flow")
		_, err = sc.DoFlow(ctx, "k", request, nil)
		mustBeInvalid(b, err, "flow")
		unchanged("nothing at all")
	})
}

func TestFlowContinuesAKeyBegunByHand(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		key, err := sc.WorkStage(ctx, start(b, sc, "k"), outcome(redisidem.Advance("paid")))
		mustBe(b, err, nil)
		key, err = sc.WorkFlow(ctx, key, mustFlow(b, cart()))
		mustBe(b, err, nil)
		if key.Flow != "cart/1" || len(key.Journal) != 3 || !key.Finished() {
			b.Errorf("the key is %+v", key)
		}
		stored, err := sc.Retrieve(ctx, "k")
		mustBe(b, err, nil)
		if stored.Flow != "cart/1" {
			b.Errorf("the stored key is %+v", stored)
		}
	})
}

func (explosive) MarshalJSON() ([]byte, error) { panic("boom") }
