package redisidem_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

func TestSeedM10StateReachesLaterStages(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		_, err := e.service().Scope("a").Do(ctx, "k", request, returns(redisidem.Advance("ordered").WithState(map[string]int{"order": 7})))
		mustBe(t, err, nil)
		_, err = e.service().Scope("a").Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			var state struct{ Order int }
			if err := st.State(&state); err != nil || state.Order != 7 {
				t.Errorf("state is %+v, %v", state, err)
			}
			return redisidem.Outcome{}, nil
		})
		mustBe(t, err, nil)
	})
}

func TestSeedM11SecondRunCanBeRecognised(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		type run struct {
			attempt  int
			fence    int64
			outbound string
		}
		var runs []run
		for range 2 {
			_, err := e.service().Scope("a").Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				runs = append(runs, run{st.Attempt(), st.Fence(), st.OutboundKey("charge")})
				return redisidem.Outcome{}, errUpstream // the charge was made, and then the database refused
			})
			mustBe(t, err, errUpstream)
		}
		if runs[0].attempt != 1 || runs[1].attempt != 2 || runs[1].fence <= runs[0].fence || runs[0].outbound != runs[1].outbound {
			t.Errorf("the runs are %+v", runs)
		}
	})
}

func TestTrapS12EmptyStateIsAValue(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		look := func(value string) (stored []byte, err error) {
			_, workErr := sc.Do(ctx, value, request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				err = st.State(&stored)
				return redisidem.Outcome{}, nil
			})
			mustBe(t, workErr, nil)
			return stored, err
		}
		for i, c := range []struct {
			state any
			want  string
		}{{nil, "null"}, {0, "0"}, {false, "false"}, {"", `""`}, {[]int{}, "[]"}, {struct{}{}, "{}"}, {[]byte{}, ""}, {[]byte(nil), ""}} {
			value := fmt.Sprint(i)
			_, err := sc.Do(ctx, value, request, returns(redisidem.Advance("next").WithState(c.state)))
			mustBe(t, err, nil)
			if got, err := look(value); err != nil || string(got) != c.want {
				t.Errorf("%#v came back as %q, %v", c.state, got, err)
			}
		}
		_, err := look("none")
		mustBe(t, err, redisidem.ErrNoState)
	})
}
