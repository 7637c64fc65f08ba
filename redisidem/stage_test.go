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

// TestOutboundKeysNeverMove pins outbound keys. Computed in another way, a stage that runs again would
// repeat the calls of its first run with a new key.
func TestOutboundKeysNeverMove(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("tenant-42")
		for generation, want := range []string{
			"9f2d825f-837f-8e1a-9408-9a00f48a5323", "301a2e3e-0180-8405-8e86-762d9a9db698", "c67fae2f-546a-882b-b733-fc00af2eab9c",
		} {
			for _, point := range []string{"two", "three", "ride_created"} {
				_, err := sc.Do(ctx, "key-from-the-client", request, returns(redisidem.Advance(point)))
				mustBe(b, err, nil)
			}
			key, err := sc.Do(ctx, "key-from-the-client", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				entry := redisidem.JournalEntry{Stage: "ride_created", Revision: 3}
				if got, committed := st.OutboundKey("charge"), st.CommittedKey(entry, "charge"); got != want || committed != want {
					b.Errorf("in generation %d the keys are %s and %s, want %s", generation, got, committed, want)
				}
				return redisidem.Finish(redisidem.JSON(200, "done")), nil
			})
			mustBe(b, err, nil)
			mustBe(b, sc.Delete(ctx, key), nil)
		}
	})
}
