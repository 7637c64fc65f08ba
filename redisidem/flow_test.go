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

// The stages of most flows here: they do nothing but lead to the next one.
var (
	next = outcome(redisidem.Next())
	last = finish("done")
)

// cart is the description of a flow with the recovery points of a cart's completion.
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

var errStage = errors.New("the provider is away")

func TestFlowDescriptionsThatAreRefused(t *testing.T) {
	t.Parallel()
	stages := func(s ...redisidem.FlowStage) func(*redisidem.FlowConfig) {
		return func(c *redisidem.FlowConfig) { c.Stages = s }
	}
	first := redisidem.FlowStage{Point: redisidem.Started, Work: next}
	for _, c := range []struct {
		change func(*redisidem.FlowConfig)
		field  string
		words  []string
	}{
		{func(c *redisidem.FlowConfig) { c.Name = "" }, "FlowConfig.Name", []string{"64"}},
		{func(c *redisidem.FlowConfig) { c.Name = "a/b" }, "FlowConfig.Name", []string{`"a/b"`}},
		{func(c *redisidem.FlowConfig) { c.Version = 0 }, "FlowConfig.Version", []string{"at least 1"}},
		{stages(), "FlowConfig.Stages", []string{"empty"}},
		{stages(redisidem.FlowStage{Point: "taxed", Work: last}), "FlowConfig.Stages[0].Point", []string{"started"}},
		{stages(first, redisidem.FlowStage{Work: last}), "FlowConfig.Stages[1].Point", []string{"empty"}},
		{stages(first, first), "FlowConfig.Stages[1].Point", []string{"earlier"}},
		{stages(first, redisidem.FlowStage{Point: redisidem.Finished, Work: last}), "FlowConfig.Stages[1].Point", nil},
		{stages(first, redisidem.FlowStage{Point: "compensate:1", Work: last}), "FlowConfig.Stages[1].Point", nil},
		{stages(first, redisidem.FlowStage{Point: "a\nb", Work: last}), "FlowConfig.Stages[1].Point", nil},
		{stages(first, redisidem.FlowStage{Point: "a"}), "FlowConfig.Stages[1].Work", []string{"nil"}},
		{stages(first, redisidem.FlowStage{Point: "a", Work: last, Next: []string{}}), "FlowConfig.Stages[1].Next", []string{"empty"}},
		{stages(first, redisidem.FlowStage{Point: "a", Work: last, Next: []string{"b"}}), "FlowConfig.Stages[1].Next", []string{`"b"`}},
		{stages(first, redisidem.FlowStage{Point: "a", Work: last, Timeout: -1}), "FlowConfig.Stages[1].Timeout", nil},
		{stages(first, redisidem.FlowStage{Point: "a", Work: last, MaxVisits: -1}), "FlowConfig.Stages[1].MaxVisits", nil},
		{stages(first, redisidem.FlowStage{Point: "a", Work: last, Retry: redisidem.Retry{Attempts: -1}}), "FlowConfig.Stages[1].Retry.Attempts", nil},
		{stages(first, redisidem.FlowStage{Point: "a", Work: last, Retry: redisidem.Retry{Backoff: 2, MaxBackoff: 1}}), "FlowConfig.Stages[1].Retry.Backoff", nil},
		{stages( // nobody leads to b
			redisidem.FlowStage{Point: redisidem.Started, Work: next, Next: []string{"a"}},
			redisidem.FlowStage{Point: "b", Work: next},
			redisidem.FlowStage{Point: "a", Work: last},
		), "FlowConfig.Stages[1]", []string{`"b"`, "reached"}},
		{stages( // a and b lead to each other only
			redisidem.FlowStage{Point: redisidem.Started, Work: next, Next: []string{redisidem.Finished, "a"}},
			redisidem.FlowStage{Point: "a", Work: next},
			redisidem.FlowStage{Point: "b", Work: next, Next: []string{"a"}},
		), "FlowConfig.Stages[1]", []string{`"a"`, "finished"}},
		{func(c *redisidem.FlowConfig) { c.RecoverAfter = -1 }, "FlowConfig.RecoverAfter", []string{"1ms"}},
		{func(c *redisidem.FlowConfig) { c.InterimFor = -1 }, "FlowConfig.InterimFor", []string{"1ms"}},
		{func(c *redisidem.FlowConfig) { c.MaxAttempts = -1 }, "FlowConfig.MaxAttempts", []string{"at least 1"}},
	} {
		flow, err := redisidem.NewFlow(cart(c.change))
		if flow != nil {
			t.Errorf("%s: there is a flow", c.field)
		}
		mustBeInvalid(t, err, c.field, c.words...)
	}
	flow := mustFlow(t, cart())
	if got := flow.Config(); flow.String() != "cart/1" || got.MaxAttempts != 10 || got.InterimFor != 15*time.Minute ||
		got.Stages[1].MaxVisits != 16 || !slices.Equal(got.Stages[3].Next, []string{redisidem.Finished}) {
		t.Errorf("the flow is %s, %+v", flow, got)
	}
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
			// An auto-pipeliner may catch the two commands of a claim halfway, and send them in two batches.
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
		// The journal tells who committed which stage, in which attempt, when, and how long it took.
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

func TestKeysThatAFlowMustNotTouch(t *testing.T) {
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

func TestFlowCarriesOnAKeyThatWasBegunByHand(t *testing.T) {
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

func TestFlowThatComesBackForEverIsStopped(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		visits := 0
		work := func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			visits++
			return redisidem.Advance(map[string]string{"taxed": "paid", "paid": "taxed"}[st.Key().RecoveryPoint]), nil
		}
		key, err := sc.DoFlow(ctx, "ring", request, mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[1].Work, c.Stages[1].MaxVisits = work, 3
			c.Stages[2].Work, c.Stages[2].Next = work, []string{"taxed", "ordered"}
		})))
		mustBe(b, err, redisidem.ErrNoProgress)
		if visits != 6 || key.RecoveryPoint != "taxed" || !strings.Contains(err.Error(), `"taxed"`) {
			b.Errorf("%d visits, %v, %+v", visits, err, key)
		}

		// A stage may come back to its own point only if it says so beforehand.
		own := func(c *redisidem.FlowConfig) { c.Stages[1].Work = outcome(redisidem.Advance("taxed")) }
		_, err = sc.DoFlow(ctx, "own", request, mustFlow(b, cart(own)))
		mustBe(b, err, redisidem.ErrNoProgress)
		left := 3
		key, err = sc.DoFlow(ctx, "cursor", request, mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[1].Next = []string{"taxed", "paid"}
			c.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				left--
				if left > 0 {
					return redisidem.Advance("taxed").WithState(left), nil
				}
				return redisidem.Next(), nil
			}
		})))
		mustBe(b, err, nil)
		if !key.Finished() || key.Revision != 6 {
			b.Errorf("the cursor ends with %+v", key)
		}

		_, err = sc.DoFlow(ctx, "astray", request, mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = outcome(redisidem.Advance("ordered"))
		})))
		mustBeInvalid(b, err, "Outcome.RecoveryPoint", `"ordered"`, `"taxed"`)
		_, err = sc.DoFlow(ctx, "beyond", request, mustFlow(b, cart(func(c *redisidem.FlowConfig) { c.Stages[3].Work = next })))
		mustBeInvalid(b, err, "Outcome", "last stage")
		_, err = sc.Do(ctx, "no flow", request, next)
		mustBeInvalid(b, err, "Outcome", "Next")
	})
}

func TestStateOfAFlowKeepsValuesThatLookLikeNone(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		for i, v := range []any{nil, 0, false, "", []byte{}, []byte("\x00\xff")} {
			var seen any
			_, err := sc.DoFlow(ctx, fmt.Sprint(i), request, mustFlow(b, cart(func(c *redisidem.FlowConfig) {
				c.Stages[0].Work = outcome(redisidem.Next().WithState(v))
				c.Stages[2].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					var raw []byte
					if _, bytes := v.([]byte); bytes {
						err := st.State(&raw)
						seen = raw
						return redisidem.Next(), err
					}
					return redisidem.Next(), st.State(&seen)
				}
			})))
			mustBe(b, err, nil)
			if want := fmt.Sprint(v); fmt.Sprint(seen) != want {
				b.Errorf("state %q arrives as %v", want, seen)
			}
		}
		// State that no longer decodes is the stage's error: the key stays.
		key, err := sc.DoFlow(ctx, "changed", request, mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[0].Work = outcome(redisidem.Next().WithState("text"))
			c.Stages[1].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				var n int
				return redisidem.Next(), st.State(&n)
			}
		})))
		if err == nil || key.RecoveryPoint != "taxed" || !strings.Contains(err.Error(), "state left by an earlier stage") {
			b.Errorf("error is %v, key %+v", err, key)
		}
	})
}

func TestInterimAnswerKeepsTheFlowOpen(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		confirmed := false
		flow := mustFlow(t, cart(func(c *redisidem.FlowConfig) {
			c.Stages[2].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				if !confirmed {
					// Back to an earlier point: the tax may change meanwhile.
					return redisidem.Interim("taxed", redisidem.JSON(202, "please confirm")), nil
				}
				return redisidem.Next(), nil
			}
		}))
		sc := e.service().Scope("a")
		for range 2 {
			key, err := sc.DoFlow(ctx, "k", request, flow)
			mustBe(t, err, nil)
			if !key.Answered() || key.Finished() || key.Response.Code != 202 || key.RecoveryPoint != "taxed" {
				t.Errorf("the interim answer is %+v", key)
			}
		}
		confirmed = true
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, nil)
		if !key.Finished() || string(key.Response.Body) != `"done"` || key.Replayed() {
			t.Errorf("the answer is %+v", key)
		}
		e.mustBeTidy(e.client())
	})
}

func TestIdleStageChangesNothing(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		ready := false
		var attempts []int
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[1].Reconcile = fails(errors.New("reconcile was asked"))
			c.Stages[1].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				attempts = append(attempts, st.Attempt())
				if !ready {
					return redisidem.NothingDone(), nil
				}
				return redisidem.Next(), nil
			}
		}))
		for range 2 {
			key, err := sc.DoFlow(ctx, "k", request, flow)
			mustBe(b, err, nil)
			if key.Answered() || key.RecoveryPoint != "taxed" || key.Revision != 1 {
				b.Errorf("the idle key is %+v", key)
			}
		}
		ready = true
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		if !key.Finished() || !slices.Equal(attempts, []int{1, 1, 1}) {
			b.Errorf("attempts %v, key %+v", attempts, key)
		}

		key, err = sc.Do(ctx, "stage", request, outcome(redisidem.NothingDone()))
		mustBe(b, err, nil)
		if key.Answered() || key.Revision != 0 {
			b.Errorf("the idle key is %+v", key)
		}
		lease, err := sc.Lock(ctx, "stage")
		mustBe(b, err, nil)
		_, err = lease.Commit(ctx, redisidem.NothingDone())
		mustBeInvalid(b, err, "Outcome", "Abandon")
		mustBe(b, lease.Abandon(ctx), nil)
	})
}

func TestReconcileIsAskedAboutAnEarlierAttempt(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		var runs, asked int
		var answer redisidem.StageFunc
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[2].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				runs++
				if st.Attempt() == 1 {
					return redisidem.Outcome{}, errStage
				}
				return redisidem.Next(), nil
			}
			c.Stages[2].Reconcile = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				asked++
				return answer(ctx, st)
			}
		}))
		for _, c := range []struct {
			name   string
			answer redisidem.StageFunc
			err    error
			runs   int
		}{
			{"done", outcome(redisidem.Next()), nil, 1},
			{"not done", fails(redisidem.ErrNothingDone), nil, 2},
			{"wrapped not done", fails(fmt.Errorf("provider: %w", redisidem.ErrNothingDone)), nil, 2},
			{"unknown", fails(errStage), redisidem.ErrOutcomeUnknown, 1},
			{"panic", func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { panic("boom") }, redisidem.ErrOutcomeUnknown, 1},
		} {
			runs, asked, answer = 0, 0, c.answer
			_, err := sc.DoFlow(ctx, c.name, request, flow)
			mustBe(b, err, errStage)
			if asked != 0 {
				b.Errorf("%s: Reconcile is asked about the first attempt", c.name)
			}
			key, err := sc.DoFlow(ctx, c.name, request, flow)
			mustBe(b, err, c.err)
			if runs != c.runs || asked != 1 || key.Finished() != (c.err == nil) {
				b.Errorf("%s: %d runs, asked %d times, %+v", c.name, runs, asked, key)
			}
			if c.err != nil && (key.RecoveryPoint != "paid" || key.Revision != 2) {
				b.Errorf("%s: the key has not stayed: %+v", c.name, key)
			}
			if c.name == "panic" && !strings.Contains(err.Error(), "boom") {
				b.Errorf("the error does not tell of the panic: %v", err)
			}
		}
	})
}

func TestStageIsTriedAgainWithinOneRun(t *testing.T) {
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
						b.Errorf("%s: run %d is attempt %d", c.name, runs, st.Attempt())
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

// TestIdleAfterAFailureIsAnAttempt lets a stage fail, and find nothing to do when it is tried again: what the first run did is
// unknown still.
func TestIdleAfterAFailureIsAnAttempt(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		var did []string
		results := []redisidem.StageFunc{fails(errStage), outcome(redisidem.NothingDone()), outcome(redisidem.NothingDone()), next}
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			s := &c.Stages[1]
			s.Retry.Attempts = 2
			s.Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				did = append(did, fmt.Sprint("work ", st.Attempt()))
				work := results[0]
				results = results[1:]
				return work(ctx, st)
			}
			s.Reconcile = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				did = append(did, fmt.Sprint("ask ", st.Attempt()))
				return redisidem.Outcome{}, redisidem.ErrNothingDone
			}
		}))
		for range 3 {
			_, err := sc.DoFlow(ctx, "k", request, flow)
			mustBe(b, err, nil)
		}
		if want := []string{"work 1", "ask 2", "work 2", "ask 2", "work 2", "ask 2", "work 2"}; !slices.Equal(did, want) {
			b.Errorf("it did %q, want %q", did, want)
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
			b.Errorf("two runs of 3 s took %v", took)
		}
	})
}

func TestPanicOfAStageGoesOnAndGivesTheKeyBack(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { panic("boom") }
		}))
		func() {
			defer func() {
				if v := recover(); v != "boom" {
					b.Errorf("recovered %v", v)
				}
			}()
			_, _ = sc.DoFlow(ctx, "k", request, flow)
		}()
		key, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart()))
		mustBe(b, err, nil)
		if !key.Finished() || key.Journal[1].Attempt != 2 {
			b.Errorf("the key is %+v", key)
		}
	})
}

func TestLostLeaseStopsTheFlow(t *testing.T) {
	inBubble(t, func(b *bubble) {
		mine, other := b.service(redisidem.Config{}).Scope("a"), b.service(redisidem.Config{}).Scope("a")
		ran := false
		key, err := mine.DoFlow(ctx, "k", request, mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				mustBe(b, other.Unlock(ctx, "k"), nil)
				return redisidem.Next(), nil
			}
			c.Stages[2].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				ran = true
				return redisidem.Next(), nil
			}
		})))
		mustBe(b, err, redisidem.ErrFenced)
		if ran || key.Revision != 1 {
			b.Errorf("ran on: %v, %+v", ran, key)
		}
		key, err = other.DoFlow(ctx, "k", request, mustFlow(b, cart()))
		mustBe(b, err, nil)
		if !key.Finished() || len(key.Journal) != 4 {
			b.Errorf("the key is %+v", key)
		}
	})
}

// explosive panics when it is to be stored.
type explosive struct{}

func (explosive) MarshalJSON() ([]byte, error) { panic("boom") }

func TestValueThatPanicsWhenItIsStoredGivesTheLeaseBack(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = outcome(redisidem.Next().WithState(explosive{}))
		}))
		func() {
			defer func() {
				if v := recover(); v != "boom" {
					b.Errorf("recovered %v", v)
				}
			}()
			_, _ = sc.DoFlow(ctx, "k", request, flow)
		}()
		_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart()))
		mustBe(b, err, nil)
	})
}

func TestObserverThatPanicsEndsTheLease(t *testing.T) {
	inBubble(t, func(b *bubble) {
		for _, kind := range []redisidem.EventKind{redisidem.EventCommitted, redisidem.EventAbandoned} {
			sc := b.service(redisidem.Config{Observer: nervous(kind)}).Scope("a")
			flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
				if kind == redisidem.EventAbandoned {
					c.Stages[1].Work = fails(errStage)
				}
			}))
			func() {
				defer func() {
					if v := recover(); v != kind {
						b.Errorf("recovered %v", v)
					}
				}()
				_, _ = sc.DoFlow(ctx, kind.String(), request, flow)
			}()
			time.Sleep(redisidem.DefaultLease)
			_, err := b.service(redisidem.Config{}).Scope("a").DoFlow(ctx, kind.String(), request, mustFlow(b, cart()))
			mustBe(b, err, nil)
		}
	})
}

// nervous is an observer that panics at one kind of event.
type nervous redisidem.EventKind

func (n nervous) Observe(_ context.Context, e redisidem.Event) {
	if e.Kind == redisidem.EventKind(n) {
		panic(e.Kind)
	}
}

func TestTimeoutIsThatOfEachRun(t *testing.T) {
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

func TestFlowHeldForTooLongSaysSo(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{MaxHold: 30 * time.Second}).Scope("a")
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				time.Sleep(time.Minute)
				return redisidem.Next(), nil
			}
		}))
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, redisidem.ErrMaxHold)
		if key.RecoveryPoint != "paid" {
			b.Errorf("the key is at %q", key.RecoveryPoint)
		}
	})
}

func TestConfigOfAFlowIsACopy(t *testing.T) {
	t.Parallel()
	flow := mustFlow(t, cart())
	flow.Config().Stages[1].Next[0] = "x"
	if got := flow.Config().Stages[1].Next[0]; got != "paid" {
		t.Errorf("the flow has changed: %q", got)
	}
}
