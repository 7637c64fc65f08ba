package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
)

// TestWorkWithAnUnstorableResultIsNotRepeated commits a result that cannot be stored, for each of
// its parts.
func TestWorkWithAnUnstorableResultIsNotRepeated(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc := e.service()
		sc := svc.Scope("a")
		large := strings.Repeat("x", 2<<20)
		cases := []struct {
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
		}
		raw, ran := e.client(), 0
		doing := func(o func(*redisidem.Stage) redisidem.Outcome) redisidem.StageFunc {
			return func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				mustBe(t, raw.Set(ctx, st.ShardKey("number"), "x", time.Minute).Err(), nil)
				ran++
				return o(st), nil
			}
		}
		for i, c := range cases {
			t.Run(c.part, func(t *testing.T) {
				ran = 0
				work, value := doing(c.outcome), fmt.Sprint(i)
				for range 3 {
					key, err := sc.Do(ctx, value, request, work)
					var notKept *redisidem.NotKeptError
					if !errors.As(err, &notKept) || notKept.Part != c.part || !errors.Is(err, redisidem.ErrNotKept) || !key.Finished() {
						t.Fatalf("the work ends with %v at %q, want %s not kept", err, key.RecoveryPoint, c.part)
					}
				}
				key, err := sc.Retrieve(ctx, value)
				mustBe(t, err, nil)
				mustBe(t, key.NotKept(), redisidem.ErrNotKept)
				_, err = sc.WorkStage(ctx, key, work)
				mustBe(t, err, redisidem.ErrNotKept)
				if ran != 1 {
					t.Errorf("the work ran %d times, want once", ran)
				}
			})
		}
		// Neither a flow nor a completer repeats the work.
		ran = 0
		work := func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			i, err := strconv.Atoi(strings.TrimPrefix(st.Key().Value, "flow "))
			mustBe(t, err, nil)
			return doing(cases[i].outcome)(ctx, st)
		}
		flow := mustFlow(t, redisidem.FlowConfig{Name: "one", Version: 1, RecoverAfter: time.Millisecond, Stages: []redisidem.FlowStage{
			{Point: redisidem.Started, Work: work, Next: []string{"two", redisidem.Finished}, Retry: redisidem.Retry{Attempts: 2}},
			{Point: "two", Work: work},
		}})
		for i, c := range cases {
			_, err := sc.DoFlow(ctx, fmt.Sprint("flow ", i), request, flow)
			mustBe(t, err, redisidem.ErrNotKept)
			if ran != i+1 {
				t.Errorf("after the flow of case %d, %s, the work ran %d times, want %d", i, c.part, ran, i+1)
			}
		}
		time.Sleep(5 * time.Millisecond)
		mustSweep(t, mustCompleter(t, svc, flow), redisidem.SweepResult{})
	})
}
