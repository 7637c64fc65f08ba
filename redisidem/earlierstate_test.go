package redisidem_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
)

var declined = outcome(redisidem.Fail(redisidem.JSON(402, "declined")))

// states makes the first three stages of a cart return these outcomes, and the last one fail. What
// each compensation reads goes to undone, as "stage: state".
func states(undone *[]string, outcomes ...redisidem.Outcome) func(*redisidem.FlowConfig) {
	return func(c *redisidem.FlowConfig) {
		for i := range outcomes {
			c.Stages[i].Work = outcome(outcomes[i])
			c.Stages[i].Compensate = readsState(undone)
		}
		c.Stages[3].Work = declined
	}
}

// readsState is a compensation that records the state that it gets.
func readsState(undone *[]string) func(context.Context, *redisidem.Stage) error {
	return func(_ context.Context, st *redisidem.Stage) error {
		var state []byte
		if err := st.State(&state); errors.Is(err, redisidem.ErrNoState) {
			state = []byte("none")
		} else if err != nil {
			return err
		}
		*undone = append(*undone, st.Compensates().Stage+": "+string(state))
		return nil
	}
}

// earlierStates returns the earlier states that the only record has.
func (b *bubble) earlierStates() map[string]string {
	found := make(map[string]string)
	for _, name := range b.server.Keys() {
		if b.server.Type(name) != "hash" {
			continue
		}
		fields, err := b.server.HKeys(name)
		mustBe(b, err, nil)
		for _, field := range fields {
			if strings.HasPrefix(field, "before:") {
				found[field] = b.server.HGet(name, field)
			}
		}
	}
	return found
}

// TestCompensationGetsTheStateOfItsStage fails a flow in the process that has run its stages, and
// in another one.
func TestCompensationGetsTheStateOfItsStage(t *testing.T) {
	key := codec.EncryptionKey{ID: "1", Secret: make([]byte, 32)}
	encrypted, err := codec.NewEncryption(key)
	mustBe(t, err, nil)
	replaced := []redisidem.Outcome{redisidem.Next().WithState(1), redisidem.Next().WithState(2), redisidem.Next().WithState(3)}
	onEveryServer(t, func(t *testing.T, e *env) {
		for _, c := range []struct {
			name     string
			outcomes []redisidem.Outcome
			want     []string
		}{
			{"replaced", replaced, []string{"paid: 3", "taxed: 2", "started: 1"}},
			{
				"added",
				[]redisidem.Outcome{redisidem.Next().AddState(map[string]int{"A": 1}), redisidem.Next(), redisidem.Next().AddState(map[string]int{"A": 3})},
				[]string{`paid: {"A":3}`, `taxed: {"A":1}`, `started: {"A":1}`},
			},
			{"none at first", []redisidem.Outcome{redisidem.Next(), redisidem.Next().WithState("="), redisidem.Next()}, []string{`paid: "="`, `taxed: "="`, "started: none"}},
			{"emptied", []redisidem.Outcome{redisidem.Next().WithState([]byte{}), redisidem.Next().WithState(0), redisidem.Next()}, []string{"paid: 0", "taxed: 0", "started: "}},
			{
				"behind a point of no return", replaced, // of the first stage, which is set below
				[]string{"paid: 3", "taxed: 2"},
			},
			{"none", []redisidem.Outcome{redisidem.Next(), redisidem.Next(), redisidem.Next()}, []string{"paid: none", "taxed: none", "started: none"}},
		} {
			for what, change := range map[string]func(*redisidem.Config){
				"plain": func(*redisidem.Config) {}, "encrypted": func(c *redisidem.Config) { c.Codec = encrypted },
			} {
				name := c.name + ", " + what
				sc := e.service(change).Scope("a")
				var undone []string
				change2 := func(cfg *redisidem.FlowConfig) {
					cfg.Stages[0].NoReturn = len(c.want) == 2
					if cfg.Stages[0].NoReturn { // the stage that fails changes the state, too
						cfg.Stages[3].Work = outcome(redisidem.Fail(redisidem.JSON(402, "declined")).WithState(4))
					}
				}
				flow := mustFlow(t, cart(states(&undone, c.outcomes...), change2))
				_, err := sc.DoFlow(ctx, name, request, flow)
				mustBe(t, err, nil)
				if !slices.Equal(undone, c.want) {
					t.Errorf("%s: %q, want %q", name, undone, c.want)
				}

				undone = nil
				name += ", another process"
				_, err = sc.DoFlow(ctx, name, request, mustFlow(t, cart(states(&undone, c.outcomes...), change2, stopsAt("ordered"))))
				mustBe(t, err, nil)
				_, err = e.service(change).Scope("a").DoFlow(ctx, name, request, flow)
				mustBe(t, err, nil)
				if !slices.Equal(undone, c.want) {
					t.Errorf("%s: %q, want %q", name, undone, c.want)
				}
			}
		}
	})
}

// TestEarlierStatesAreKeptOnlyForCompensations looks at what the records have before the last
// stage, and at the end.
func TestEarlierStatesAreKeptOnlyForCompensations(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*redisidem.FlowConfig)
		want   map[string]string
	}{
		"each stage can be undone": {func(*redisidem.FlowConfig) {}, map[string]string{"before:1": "=1", "before:2": "=2"}},
		"no stage can be undone": {func(c *redisidem.FlowConfig) {
			c.Stages[0].Compensate, c.Stages[1].Compensate, c.Stages[2].Compensate = nil, nil, nil
		}, map[string]string{}},
		"only the last one can be undone": {func(c *redisidem.FlowConfig) { c.Stages[0].Compensate, c.Stages[1].Compensate = nil, nil }, map[string]string{}},
		"only the first can be undone":    {func(c *redisidem.FlowConfig) { c.Stages[1].Compensate, c.Stages[2].Compensate = nil, nil }, map[string]string{"before:1": "=1"}},
		"a point of no return":            {func(c *redisidem.FlowConfig) { c.Stages[1].NoReturn = true }, map[string]string{"before:1": "=1"}},
		"an early point of no return":     {func(c *redisidem.FlowConfig) { c.Stages[0].NoReturn = true }, map[string]string{"before:2": "=2"}},
		"the same state":                  {func(c *redisidem.FlowConfig) { c.Stages[1].Work = outcome(redisidem.Next().WithState(1)) }, map[string]string{"before:2": "=1"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				var undone []string
				cfg := cart(states(&undone, redisidem.Next().WithState(1), redisidem.Next().WithState(2), redisidem.Next().WithState(3)), c.change, stopsAt("ordered"))
				sc := b.service(redisidem.Config{}).Scope("a")
				_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cfg))
				mustBe(b, err, nil)
				if got := b.earlierStates(); !maps.Equal(got, c.want) {
					b.Errorf("%s: %q, want %q", name, got, c.want)
				}
				cfg.Stages[3].Work = last
				_, err = sc.DoFlow(ctx, "k", request, mustFlow(b, cfg))
				mustBe(b, err, nil)
				for field, value := range b.earlierStates() {
					if value != "" {
						b.Errorf("%s: finished, the record has %s %q", name, field, value)
					}
				}
			})
		})
	}
}

// TestPollingKeepsOneEarlierState has a snoozed stage that changes the state each time.
func TestPollingKeepsOneEarlierState(t *testing.T) {
	inBubble(t, func(b *bubble) {
		asked, undone := 0, []string(nil)
		flow := mustFlow(b, polling(time.Minute, &asked, func() bool { return asked > 4 }, func(c *redisidem.FlowConfig) {
			c.Stages[0].Work = outcome(redisidem.Next().WithState(100))
			c.Stages[0].Compensate, c.Stages[2].Compensate = readsState(&undone), readsState(&undone)
			c.Stages[3].Work = declined
		}))
		sc := b.service(redisidem.Config{}).Scope("a")
		for range 4 {
			_, err := sc.DoFlow(ctx, "k", request, flow)
			mustBe(b, err, nil)
			time.Sleep(time.Minute + time.Second)
		}
		if got, want := b.earlierStates(), map[string]string{"before:2": "=100"}; !maps.Equal(got, want) {
			b.Errorf("%q, want %q", got, want)
		}
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		if want := []string{"paid: 4", "paid: 4", "started: 100"}; !slices.Equal(undone, want) || !key.Finished() {
			b.Errorf("%q at %s, want %q", undone, key.RecoveryPoint, want)
		}
	})
}

// TestEarlierStatesAreBounded has a stage that names itself and changes a large state each time.
// The compensations of the commits whose state was not kept get an error, and the record stays
// small.
func TestEarlierStatesAreBounded(t *testing.T) {
	inBubble(t, func(b *bubble) {
		const visits, size, most = 20, 300, 1000
		var logged bytes.Buffer
		sc := b.service(redisidem.Config{MaxValueBytes: most, Logger: slog.New(slog.NewTextHandler(&logged, nil))}).Scope("a")
		states, lost := 0, 0
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			first := &c.Stages[0]
			first.Next, first.MaxVisits = []string{redisidem.Started, "taxed"}, visits
			first.Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				if st.Key().Revision == visits {
					return redisidem.Advance("taxed"), nil
				}
				return redisidem.Advance(redisidem.Started).WithState(bytes.Repeat([]byte{'a' + byte(st.Key().Revision)}, size)), nil
			}
			first.Compensate = func(_ context.Context, st *redisidem.Stage) error {
				var state []byte
				switch err := st.State(&state); {
				case errors.Is(err, redisidem.ErrDamaged):
					lost++
				case err != nil:
					return err
				case state[0] != 'a'+byte(min(st.Compensates().Revision, visits-1)):
					b.Errorf("revision %d gets %q", st.Compensates().Revision, state)
				default:
					states++
				}
				return nil
			}
			c.Stages[1].Work = declined
		}))
		_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			*c = flow.Config()
			c.Stages[1].Work = outcome(redisidem.NothingDone())
		})))
		mustBe(b, err, nil)
		total := 0
		for _, state := range b.earlierStates() {
			total += len(state)
		}
		if total > most || strings.Count(logged.String(), "earlier states") != 1 {
			b.Errorf("the earlier states have %d bytes, and the log says %q", total, logged.String())
		}
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		// Three states fit beside the current one, which two commits have.
		if !key.Finished() || states != 3+2 || lost != visits-1-3 {
			b.Errorf("at %s, %d compensations got their state, and %d did not", key.RecoveryPoint, states, lost)
		}
	})
}

// TestStateByHandIsForEachCompensation corrects the state that compensations read, with an update
// and with the commit of a lease.
func TestStateByHandIsForEachCompensation(t *testing.T) {
	for name, correct := range map[string]func(sc *redisidem.Scope, key *redisidem.Key, o redisidem.Outcome) error{
		"update": func(sc *redisidem.Scope, key *redisidem.Key, o redisidem.Outcome) error {
			_, err := sc.Update(ctx, key, o)
			return err
		},
		"lease": func(sc *redisidem.Scope, key *redisidem.Key, o redisidem.Outcome) error {
			lease, err := sc.Lock(ctx, key.Value)
			if err == nil {
				_, err = lease.Commit(ctx, o)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				var undone []string
				change := states(&undone, redisidem.Next().WithState(1), redisidem.Next().WithState(2), redisidem.Next().WithState(3))
				flow := mustFlow(b, cart(change))
				sc := b.service(redisidem.Config{}).Scope("a")
				for value, c := range map[string]struct {
					corrected redisidem.Outcome
					want      []string
				}{
					"state": {redisidem.Advance("ordered").WithState(9), []string{"paid: 9", "paid: 9", "taxed: 9", "started: 9"}},
					"point": {redisidem.Advance("ordered"), []string{"paid: 3", "paid: 3", "taxed: 2", "started: 1"}},
					"undo":  {redisidem.Fail(redisidem.JSON(410, "called off")).Undo(flow).WithState(8), []string{"paid: 8", "taxed: 8", "started: 8"}},
				} {
					undone = nil
					key, err := sc.DoFlow(ctx, value, request, mustFlow(b, cart(change, stopsAt("ordered"))))
					mustBe(b, err, nil)
					if value != "undo" {
						key, err = sc.Update(ctx, key, redisidem.Advance("paid"))
						mustBe(b, err, nil)
					}
					mustBe(b, correct(sc, key, c.corrected), nil)
					key, err = sc.DoFlow(ctx, value, request, flow)
					mustBe(b, err, nil)
					if !slices.Equal(undone, c.want) || !key.Finished() {
						b.Errorf("%s, %s: %q at %s, want %q", name, value, undone, key.RecoveryPoint, c.want)
					}
				}
			})
		})
	}
}

// TestAdoptedStateIsForEachCompensation adopts a key with another form of state, and with none.
func TestAdoptedStateIsForEachCompensation(t *testing.T) {
	for name, c := range map[string]struct {
		adopt redisidem.StageFunc
		want  []string
	}{
		"mapped": {outcome(redisidem.Advance("paid").WithState("mapped")), []string{"paid: 3", `taxed: "mapped"`, `started: "mapped"`}},
		"same":   {same, []string{"paid: 3", "taxed: 2", "started: 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				var undone []string
				change := states(&undone, redisidem.Next().WithState(1), redisidem.Next().WithState(2), redisidem.Next().WithState(3))
				old := mustFlow(b, cart(change, stopsAt("paid")))
				sc := b.service(redisidem.Config{}).Scope("a")
				_, err := sc.DoFlow(ctx, "k", request, old)
				mustBe(b, err, nil)
				key, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(after(old, c.adopt), change)))
				mustBe(b, err, nil)
				if !slices.Equal(undone, c.want) || !key.Finished() {
					b.Errorf("%s: %q at %s, want %q", name, undone, key.RecoveryPoint, c.want)
				}
			})
		})
	}
}

// TestEarlierStateThatCannotBeDecodedIsForItsCompensationOnly damages one.
func TestEarlierStateThatCannotBeDecodedIsForItsCompensationOnly(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var undone []string
		change := states(&undone, redisidem.Next().WithState(1), redisidem.Next().WithState(2), redisidem.Next().WithState(3))
		sc := b.service(redisidem.Config{Codec: mustCodec(b, secret("a"))}).Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(change, stopsAt("ordered"))))
		mustBe(b, err, nil)
		for _, name := range b.server.Keys() {
			if b.server.Type(name) == "hash" {
				b.server.HSet(name, "before:1", "=x")
			}
		}
		careless := mustFlow(b, cart(change, func(c *redisidem.FlowConfig) {
			c.Stages[0].Compensate = func(context.Context, *redisidem.Stage) error {
				undone = append(undone, redisidem.Started)
				return nil
			}
		}))
		_, err = sc.DoFlow(ctx, "k", request, mustFlow(b, cart(change)))
		mustBe(b, err, redisidem.ErrDamaged)
		key, err := sc.DoFlow(ctx, "k", request, careless)
		mustBe(b, err, nil)
		if want := []string{"paid: 3", "taxed: 2", redisidem.Started}; !slices.Equal(undone, want) || !key.Finished() {
			b.Errorf("undone %q, want %q", undone, want)
		}
	})
}

// failingCodec cannot encode earlier states.
type failingCodec struct{ redisidem.Codec }

func (c failingCodec) Encode(plain, associated []byte) ([]byte, error) {
	if bytes.Contains(associated, []byte("before:")) {
		return nil, errors.New("no answer of the key service")
	}
	return c.Codec.Encode(plain, associated)
}

// TestEarlierStateThatCannotBeEncodedIsNotKept keeps the result of the stage in any case.
func TestEarlierStateThatCannotBeEncodedIsNotKept(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var logged bytes.Buffer
		var undone []string
		sc := b.service(redisidem.Config{Codec: failingCodec{mustCodec(b, secret("a"))}, Logger: slog.New(slog.NewTextHandler(&logged, nil))}).Scope("a")
		change := states(&undone, redisidem.Next().WithState(1), redisidem.Next().WithState(2), redisidem.Next())
		key, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(change, func(c *redisidem.FlowConfig) { c.Stages[3].Work = last })))
		mustBe(b, err, nil)
		mustHold(b, key, `"done"`)
		if strings.Count(logged.String(), "no answer of the key service") != 1 {
			b.Errorf("the log says %q", logged.String())
		}
		_, err = sc.DoFlow(ctx, "l", request, mustFlow(b, cart(change)))
		if want := []string{"paid: 2", "taxed: 2"}; !errors.Is(err, redisidem.ErrDamaged) || !slices.Equal(undone, want) {
			b.Errorf("%v, undone %q, want %q", err, undone, want)
		}
	})
}

// TestKeyOfACompensationIsThatOfTheRecord hands the key of a compensation to an update.
func TestKeyOfACompensationIsThatOfTheRecord(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var undone []string
		var seen *redisidem.Key
		sc := b.service(redisidem.Config{}).Scope("a")
		flow := mustFlow(b, cart(states(&undone, redisidem.Next().AddState(map[string]int{"A": 1}), redisidem.Next().AddState(map[string]int{"A": 2}), redisidem.Next()),
			func(c *redisidem.FlowConfig) {
				c.Stages[0].Compensate = func(_ context.Context, st *redisidem.Stage) error {
					seen = st.Key()
					return errStage
				}
			}))
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		_, err = sc.Update(ctx, seen, redisidem.Fail(redisidem.JSON(410, "called off")).Undo(flow).AddState(map[string]int{"B": 3}))
		mustBe(b, err, nil)
		if got := stateOf(b, sc, "k"); got != `{"A":2,"B":3}` {
			b.Errorf("the state is %s", got)
		}
	})
}

// TestDamagedEarlierStateIsRefused has fields that no commit writes.
func TestDamagedEarlierStateIsRefused(t *testing.T) {
	for field, value := range map[string]string{"before:x": "=1", "before:-1": "=1", "before:1": "1", "before:2": "-1"} {
		t.Run(field, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				sc := b.service(redisidem.Config{}).Scope("a")
				start(b, sc, "k")
				for _, name := range b.server.Keys() {
					if b.server.Type(name) == "hash" {
						b.server.HSet(name, field, value)
					}
				}
				_, err := sc.Retrieve(ctx, "k")
				if !errors.Is(err, redisidem.ErrDamaged) || !strings.Contains(fmt.Sprint(err), "before:") {
					b.Errorf("%s %q: %v", field, value, err)
				}
			})
		})
	}
}
