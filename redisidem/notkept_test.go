package redisidem_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
)

// TestResultThatCannotBeStoredIsNotMadeAgain commits what cannot be stored, in each of its parts.
func TestResultThatCannotBeStoredIsNotMadeAgain(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc := e.service()
		sc := svc.Scope("a")
		large := strings.Repeat("x", 2<<20)
		for _, c := range []struct {
			part    string
			outcome func(*redisidem.Stage) redisidem.Outcome
		}{
			{"Response.Body", func(*redisidem.Stage) redisidem.Outcome {
				return redisidem.Finish(redisidem.Response{Code: 200, Body: []byte(large)})
			}},
			{"Response.Body", func(*redisidem.Stage) redisidem.Outcome { return redisidem.Finish(redisidem.JSON(200, func() {})) }},
			{"Response.Header", func(*redisidem.Stage) redisidem.Outcome {
				return redisidem.Finish(redisidem.Response{Code: 200, Header: map[string][]string{"A": {"b\r\n"}}})
			}},
			{"Response.Code", func(*redisidem.Stage) redisidem.Outcome { return redisidem.Finish(redisidem.Response{Code: 42}) }},
			{"Outcome.State", func(*redisidem.Stage) redisidem.Outcome { return redisidem.Advance("two").WithState(large) }},
			{"Outcome.State", func(*redisidem.Stage) redisidem.Outcome {
				return redisidem.Advance("two").WithState(strings.NewReader("x"))
			}},
			{"Outcome.RecoveryPoint", func(*redisidem.Stage) redisidem.Outcome { return redisidem.Advance(large) }},
			{"Outcome.Effects[0]", func(*redisidem.Stage) redisidem.Outcome {
				return redisidem.Advance("two").WithEffects(effect.Set("elsewhere", "x"))
			}},
			{"Outcome.Effects[1]", func(st *redisidem.Stage) redisidem.Outcome { // which only the server can know
				return redisidem.Advance("two").WithEffects(
					effect.Set(st.ShardKey("word"), "x"), effect.IncrBy(st.ShardKey("number"), 1))
			}},
		} {
			t.Run(c.part, func(t *testing.T) {
				ran := 0
				work := func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					mustBe(t, e.client().Set(ctx, st.ShardKey("number"), "x", time.Minute).Err(), nil)
					ran++
					return c.outcome(st), nil
				}
				value := c.part + t.Name()
				for range 3 {
					key, err := sc.Do(ctx, value, request, work)
					var notKept *redisidem.NotKeptError
					if !errors.As(err, &notKept) || notKept.Part != c.part || !errors.Is(err, redisidem.ErrNotKept) || !key.Finished() {
						t.Fatalf("the work ends with %v at %q, want %s not kept", err, key.RecoveryPoint, c.part)
					}
				}
				flow := mustFlow(t, redisidem.FlowConfig{Name: "one", Version: 1, RecoverAfter: time.Millisecond, Stages: []redisidem.FlowStage{
					{Point: redisidem.Started, Work: work, Next: []string{"two", redisidem.Finished}, Retry: redisidem.Retry{Attempts: 2}},
					{Point: "two", Work: work},
				}})
				_, err := sc.DoFlow(ctx, value+"flow", request, flow)
				mustBe(t, err, redisidem.ErrNotKept)
				completer, err := redisidem.NewCompleter(svc, []*redisidem.Flow{flow}, nil)
				mustBe(t, err, nil)
				for range 2 {
					swept, err := completer.Sweep(ctx)
					mustBe(t, err, nil)
					if swept.Due != 0 {
						t.Errorf("a completer got %+v", swept)
					}
				}
				if ran != 2 {
					t.Errorf("two keys' work ran %d times", ran)
				}
				key, err := sc.Retrieve(ctx, value)
				mustBe(t, err, nil)
				mustBe(t, key.NotKept(), redisidem.ErrNotKept)
				_, err = sc.WorkStage(ctx, key, work)
				mustBe(t, err, redisidem.ErrNotKept)
			})
		}
	})
}

// TestFailureThatCannotBeStoredIsUndone lets a stage fail for good with an answer that is too
// large.
func TestFailureThatCannotBeStoredIsUndone(t *testing.T) {
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
				if want := []string{"paid", "taxed", redisidem.Started}; !slices.Equal(done, want) || !key.Finished() || key.Response != nil {
					t.Errorf("%s: undone %q at %q with %v", name, done, key.RecoveryPoint, key.Response)
				}
			}
		}
	})
}

func TestResultThatCanNeverBeStoredIsRefusedBeforeTheWork(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		type hidden struct{ id int }
		type holder struct{ F func() }
		mustRefuse[func()](t, sc)
		mustRefuse[chan int](t, sc)
		mustRefuse[hidden](t, sc)
		mustRefuse[*hidden](t, sc)
		mustRefuse[holder](t, sc)
		mustRefuse[complex128](t, sc)
		mustRefuse[map[struct{ A int }]int](t, sc)
		mustRefuse[[1]func()](t, sc)
		_ = hidden{id: 1}
		_, _, err := redisidem.Do(ctx, sc, "none", request, func(context.Context, *redisidem.Stage) (struct{}, error) {
			return struct{}{}, nil
		})
		mustBe(t, err, nil)
		_, _, err = redisidem.Do(ctx, sc, "time", request, func(context.Context, *redisidem.Stage) (time.Time, error) {
			return time.Time{}, nil
		})
		mustBe(t, err, nil)
	})
}

func mustRefuse[T any](t *testing.T, sc *redisidem.Scope) {
	t.Helper()
	_, _, err := redisidem.Do(ctx, sc, "k", request, func(context.Context, *redisidem.Stage) (result T, err error) {
		t.Errorf("the work for %T ran", result)
		return result, nil
	})
	mustBe(t, err, redisidem.ErrInvalid)
}

func TestParamsOfWhichNothingIsWritten(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		type form struct{ amount int }
		type order struct {
			Name string
			Form form
		}
		type embeds struct {
			form
			Name string
		}
		type optional struct {
			Name string `json:",omitempty"`
			Form *form  `json:",omitempty"`
		}
		for _, c := range []struct {
			params any
			want   string // in the error; empty: accepted
		}{
			{strings.NewReader("x"), "strings.Reader"},
			{form{1}, "form"},
			{&form{1}, "form"},
			{order{"x", form{1}}, ".Form"},
			{[]any{"x", form{1}}, "[1]"},
			{map[string]any{"body": strings.NewReader("x")}, ".body"},
			{func() {}, "func()"},
			{make(chan int), "chan int"},
			{optional{Form: &form{1}}, ".Form"},
			{errors.New("x"), "errorString"},
			{embeds{form{1}, "x"}, ""},
			{optional{}, ""},
			{struct{}{}, ""},
			{map[string]string{}, ""},
			{time.Unix(1, 0), ""},
			{[]byte{}, ""},
			{"", ""},
			{(*form)(nil), ""},
			{map[string]any{"a": nil, "b": []any{1.5, "x"}}, ""},
		} {
			key, err := sc.InitializeRequest(ctx, "", redisidem.Request{Params: c.params})
			var invalid *redisidem.InvalidError
			switch {
			case c.want == "":
				mustBe(t, err, nil)
			case !errors.As(err, &invalid) || invalid.Field != "Request.Params" || !strings.Contains(invalid.Reason, c.want):
				t.Errorf("%T makes %v and %v, want an error that names %q", c.params, key, err, c.want)
			}
		}
	})
}

func TestResultOfAnotherType(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		type charge struct{ ID, Amount string }
		_, _, err := redisidem.Do(ctx, sc, "k", request, func(context.Context, *redisidem.Stage) (charge, error) {
			return charge{"ch_1", "ten"}, nil
		})
		mustBe(t, err, nil)
		type other struct {
			ID     string
			Amount int
		}
		result, replayed, err := redisidem.Do(ctx, sc, "k", request, func(context.Context, *redisidem.Stage) (other, error) {
			return other{}, nil
		})
		mustBe(t, err, redisidem.ErrOtherType)
		if !replayed || result != (other{}) {
			t.Errorf("the result is %+v, replayed %v", result, replayed)
		}
		_, err = sc.Do(ctx, "empty", request, outcome(redisidem.Outcome{}))
		mustBe(t, err, nil)
		_, _, err = redisidem.Do(ctx, sc, "empty", request, func(context.Context, *redisidem.Stage) (int, error) { return 1, nil })
		mustBe(t, err, redisidem.ErrOtherType)
		_, err = sc.Do(ctx, "state", request, outcome(redisidem.Advance("two").WithState("word")))
		mustBe(t, err, nil)
		_, err = sc.Do(ctx, "state", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			var n int
			return redisidem.Outcome{}, st.State(&n)
		})
		mustBe(t, err, redisidem.ErrOtherType)
	})
}

// TestEffectThatIsRefusedInTheBackgroundEndsTheKey has a commit without an answer, whose repetition
// the server refuses.
func TestEffectThatIsRefusedInTheBackgroundEndsTheKey(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		ran := 0
		work := func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			ran++
			mustBe(b, b.server.Set(st.ShardKey("number"), "x"), nil)
			b.freeze()
			return redisidem.Finish(redisidem.JSON(200, "charged")).WithEffects(effect.IncrBy(st.ShardKey("number"), 1)), nil
		}
		_, err := sc.Do(ctx, "k", request, work)
		mustBe(b, err, redisidem.ErrOutcomeUnknown)
		b.thaw()
		time.Sleep(5 * time.Second)
		_, err = sc.Do(ctx, "k", request, work)
		mustBe(b, err, redisidem.ErrNotKept)
		if ran != 1 {
			b.Errorf("the work ran %d times", ran)
		}
	})
}

// TestFailWithAPartThatAFlowRefusesIsUndone has failures for good that say what only outcomes by
// hand can say.
func TestFailWithAPartThatAFlowRefusesIsUndone(t *testing.T) {
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
