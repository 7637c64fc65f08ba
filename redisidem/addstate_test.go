package redisidem_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

// stateOf returns the state of an unfinished key.
func stateOf(b *bubble, sc *redisidem.Scope, value string) (state string) {
	b.Helper()
	key, err := sc.Retrieve(ctx, value)
	mustBe(b, err, nil)
	_, err = sc.WorkStage(ctx, key, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		var raw []byte
		mustBe(b, st.State(&raw), nil)
		state = string(raw)
		return redisidem.NothingDone(), nil
	})
	mustBe(b, err, nil)
	return state
}

func TestAddedStateKeepsTheOtherFields(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		type charge struct {
			Charge string
			Cents  int64
		}
		for i, c := range []struct {
			outcome redisidem.Outcome
			want    string
		}{
			{redisidem.Advance("1").AddState(charge{"ch_1", 9007199254740993}), `{"Cents":9007199254740993,"Charge":"ch_1"}`},
			{redisidem.Advance("2").AddState(map[string]any{"Ship": nil}), `{"Cents":9007199254740993,"Charge":"ch_1","Ship":null}`},
			{redisidem.Advance("3"), `{"Cents":9007199254740993,"Charge":"ch_1","Ship":null}`},
			{redisidem.Advance("4").AddState(&struct{ Ship string }{"sh_1"}), `{"Cents":9007199254740993,"Charge":"ch_1","Ship":"sh_1"}`},
			{redisidem.Advance("5").WithState(json.RawMessage(`{"A":1}`)), `{"A":1}`},
			{redisidem.Advance("6").AddState(map[string]int{"B": 1}).AddState(map[string]int{"B": 2, "C": 3}), `{"A":1,"B":2,"C":3}`},
			{redisidem.Advance("7").WithState(map[string]int{"D": 1}).AddState(map[string]int{"E": 2}), `{"D":1,"E":2}`},
			{redisidem.Advance("8").AddState(map[string]int{"F": 1}).WithState(map[string]int{"G": 2}), `{"G":2}`},
			{redisidem.Advance("9").WithState(nil), `null`},
			{redisidem.Advance("10").AddState(map[string]int{"H": 1}), `{"H":1}`},
		} {
			_, err := sc.Do(ctx, "k", request, outcome(c.outcome))
			mustBe(b, err, nil)
			if got := stateOf(b, sc, "k"); got != c.want {
				b.Errorf("%d: the state is %s, want %s", i, got, c.want)
			}
		}
	})
}

func TestAddedStateMustBeAnObject(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		one := map[string]int{"a": 1}
		for name, o := range map[string]redisidem.Outcome{
			"to a text":   redisidem.Advance("two").WithState("text").AddState(one),
			"to bytes":    redisidem.Advance("two").WithState([]byte{1}).AddState(one),
			"a text":      redisidem.Advance("two").AddState("text"),
			"bytes":       redisidem.Advance("two").AddState([]byte(`{}`)),
			"nothing":     redisidem.Advance("two").AddState(nil),
			"a list":      redisidem.Advance("two").AddState([]int{1}),
			"a channel":   redisidem.Advance("two").AddState(make(chan int)),
			"a reader":    redisidem.Advance("two").AddState(strings.NewReader("x")),
			"with a read": redisidem.Advance("two").WithState(strings.NewReader("x")).AddState(one),
			"too much":    redisidem.Advance("two").WithState(map[string]string{"a": strings.Repeat("x", 1<<20-20)}).AddState(map[string]string{"b": "a longer text"}),
		} {
			lease, err := func() (*redisidem.Lease, error) { start(b, sc, name); return sc.Lock(ctx, name) }()
			mustBe(b, err, nil)
			_, err = lease.Commit(ctx, o)
			mustBeInvalid(b, err, "Outcome.State")
			mustBe(b, lease.Abandon(ctx), nil)
		}
		_, err := sc.Do(ctx, "idle", request, outcome(redisidem.NothingDone().AddState(one)))
		mustBeInvalid(b, err, "Outcome.State")
	})
}

// TestAddedStateOutsideRedisIsTheWholeState encodes an outcome, and commits what it decodes.
func TestAddedStateOutsideRedisIsTheWholeState(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		_, err := sc.Do(ctx, "k", request, outcome(redisidem.Advance("two").AddState(map[string]int{"a": 1})))
		mustBe(b, err, nil)
		_, err = sc.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			text, o, err := st.EncodeOutcome(redisidem.Advance("three").AddState(map[string]int{"b": 2}))
			mustBe(b, err, nil)
			decoded, err := st.DecodeOutcome(text)
			mustBe(b, err, nil)
			again, _, err := st.EncodeOutcome(o)
			mustBe(b, err, nil)
			if !bytes.Equal(again, text) {
				b.Errorf("encoded are %s, then %s", text, again)
			}
			return decoded, nil
		})
		mustBe(b, err, nil)
		if got := stateOf(b, sc, "k"); got != `{"a":1,"b":2}` {
			b.Errorf("the state is %s", got)
		}
	})
}

// TestCompensationSeesWhatEachStageAdded has stages that add to the state. Each compensation finds
// the part of its own stage, and those of the earlier ones.
func TestCompensationSeesWhatEachStageAdded(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var done []string
		seen := make(map[string]string)
		flow := mustFlow(b, undoing(&done, func(c *redisidem.FlowConfig) {
			for i := range 3 {
				point := c.Stages[i].Point
				c.Stages[i].Work = outcome(redisidem.Next().AddState(map[string]int{point: i}))
				c.Stages[i].Compensate = func(_ context.Context, st *redisidem.Stage) error {
					var raw []byte
					mustBe(b, st.State(&raw), nil)
					seen[st.Compensates().Stage] = string(raw)
					return nil
				}
			}
		}))
		_, err := b.service(redisidem.Config{}).Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		for point, want := range map[string]string{
			redisidem.Started: `{"started":0}`, "taxed": `{"started":0,"taxed":1}`, "paid": `{"paid":2,"started":0,"taxed":1}`,
		} {
			if seen[point] != want {
				b.Errorf("%s sees %s, want %s", point, seen[point], want)
			}
		}
	})
}
