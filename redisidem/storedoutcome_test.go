package redisidem_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
)

// TestOutcomesSurviveAStoreOfTheProgramsOwn encodes an outcome in one run of a stage, decodes it in
// another one, and commits what was decoded.
func TestOutcomesSurviveAStoreOfTheProgramsOwn(t *testing.T) {
	inBubble(t, func(b *bubble) {
		for name, with := range map[string]redisidem.Codec{"plain": nil, "coded": mustCodec(b, secret("a"))} {
			sc := b.service(redisidem.Config{Codec: with}).Scope(name)
			answer := redisidem.Response{Code: 201, Header: map[string][]string{"X": {"a", "\xff"}}, Body: []byte("4111\x00\xfe")}
			var kept []byte
			crash := errors.New("crash")
			_, err := sc.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				o := redisidem.Finish(answer).WithState(map[string]int{"b": 2, "a": 1}).
					WithEffects(effect.Set(st.ShardKey("sum"), "\xff1"))
				stored, same, err := st.EncodeOutcome(o)
				mustBe(b, err, nil)
				again, _, err := st.EncodeOutcome(same)
				mustBe(b, err, nil)
				if with == nil && !bytes.Equal(stored, again) {
					b.Errorf("%s: the returned outcome is encoded as\n%s, not\n%s", name, again, stored)
				}
				if with != nil && bytes.Contains(stored, []byte("4111")) {
					b.Errorf("%s: the stored outcome is not encoded", name)
				}
				kept = stored
				return same, crash
			})
			mustBe(b, err, crash)
			key, err := sc.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				return st.DecodeOutcome(kept)
			})
			mustBe(b, err, nil)
			if r := key.Response; r.Code != answer.Code || !bytes.Equal(r.Body, answer.Body) || len(r.Header["X"]) != 2 || r.Header["X"][1] != "\xff" {
				b.Errorf("%s: the response is %+v", name, r)
			}
			_, err = sc.Do(ctx, "other", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				return st.DecodeOutcome(kept)
			})
			if with != nil && !errors.Is(err, redisidem.ErrDamaged) {
				b.Errorf("%s: the outcome of another visit was decoded: %v", name, err)
			}
		}
	})
}

func TestStoredOutcomesKeepTheirKind(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("s")
		wait := redisidem.JSON(202, "wait")
		flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "f", Version: 1, Stages: []redisidem.FlowStage{
			{Point: redisidem.Started, Work: kept(b, redisidem.Next().WithState([]byte(nil))), Compensate: func(context.Context, *redisidem.Stage) error { return nil }},
			{Point: "two", Work: kept(b, redisidem.Interim("two", wait)), Next: []string{"three"}},
			{Point: "three", Work: kept(b, redisidem.Fail(redisidem.JSON(402, "no")))},
		}})
		mustBe(b, err, nil)
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		if key.Response.Code != 202 || key.RecoveryPoint != "two" {
			b.Errorf("the key is %+v", key)
		}
	})
}

// kept returns a stage that returns the outcome as it was stored and read again.
func kept(b *bubble, o redisidem.Outcome) redisidem.StageFunc {
	return func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		stored, _, err := st.EncodeOutcome(o)
		mustBe(b, err, nil)
		return st.DecodeOutcome(stored)
	}
}

func TestOutcomesThatTheCommitWouldRefuseAreNotEncoded(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{MaxValueBytes: 100}).Scope("s")
		flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "f", Version: 1, Stages: []redisidem.FlowStage{
			{Point: redisidem.Started, Work: kept(b, redisidem.Next())},
		}})
		mustBe(b, err, nil)
		check := func(st *redisidem.Stage, wrong map[string]error, outcomes map[string]redisidem.Outcome) {
			for name, want := range wrong {
				if stored, _, err := st.EncodeOutcome(outcomes[name]); !errors.Is(err, want) || stored != nil {
					b.Errorf("%s: %q, %v, want %v", name, stored, err, want)
				}
			}
		}
		manyParts := redisidem.Advance("two")
		for range 10_000 {
			manyParts = manyParts.AddState(map[string]string{"field": strings.Repeat("x", 80)})
		}
		_, err = sc.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			check(st, map[string]error{
				"idle": nil, "extra": redisidem.ErrInvalid, "undo": redisidem.ErrInvalid, "large": redisidem.ErrInvalid, "same": redisidem.ErrNoProgress,
				"next": redisidem.ErrInvalid, "state": redisidem.ErrInvalid, "effect": redisidem.ErrInvalid, "parts": redisidem.ErrInvalid,
			}, map[string]redisidem.Outcome{
				"idle":   redisidem.NothingDone(),
				"extra":  redisidem.NothingDone().WithState(1),
				"undo":   redisidem.Finish(redisidem.JSON(200, "")).Undo(flow),
				"large":  redisidem.Finish(redisidem.Response{Code: 200, Body: make([]byte, 101)}),
				"same":   redisidem.Advance(redisidem.Started),
				"next":   redisidem.Next(),
				"state":  redisidem.Advance("two").WithState(func() {}),
				"effect": redisidem.Advance("two").WithEffects(effect.Set("elsewhere", "1")),
				"parts":  manyParts, // of one field: together they are more than can be decoded
			})
			return redisidem.Finish(redisidem.JSON(200, "done")), nil
		})
		mustBe(b, err, nil)
	})
}

// TestRefusedStoredOutcomeIsCommittedByALaterRun has outcomes in a store of the program's own that
// Redis refuses at first: they are still there for the next run, so the key is not finished without
// them.
func TestRefusedStoredOutcomeIsCommittedByALaterRun(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		rdb := e.client()
		sc := e.service().Scope("a")
		var kept []byte
		sum := ""
		runs := 0
		work := func(_ context.Context, st *redisidem.Stage) (o redisidem.Outcome, err error) {
			if kept != nil {
				return st.DecodeOutcome(kept)
			}
			runs++
			sum = st.ShardKey("sum")
			kept, o, err = st.EncodeOutcome(redisidem.Finish(redisidem.JSON(201, "made")).WithEffects(effect.IncrBy(sum, 1)))
			if err == nil { // meanwhile another program has written there
				mustBe(t, rdb.HSet(ctx, sum, "x", 1).Err(), nil)
			}
			return o, err
		}
		for range 2 {
			key, err := sc.Do(ctx, "k", request, work)
			mustBe(t, err, redisidem.ErrEffect)
			if key.Finished() || errors.Is(err, redisidem.ErrNotKept) {
				t.Errorf("the key is at %s: %v", key.RecoveryPoint, err)
			}
			key, err = sc.Retrieve(ctx, "k")
			mustBe(t, err, nil)
			if f := key.LastFailure; f == nil || !strings.Contains(f.Text, "holds a hash") || f.Attempt != key.Attempts {
				t.Errorf("after %d attempts, the last failure is %+v", key.Attempts, f)
			}
		}
		mustBe(t, rdb.Del(ctx, sum).Err(), nil)
		key, err := sc.Do(ctx, "k", request, work)
		mustBe(t, err, nil)
		mustHold(t, key, `"made"`)
		if n, err := rdb.Get(ctx, sum).Int(); n != 1 || err != nil || runs != 1 {
			t.Errorf("the effect was applied %d times (%v), and the work ran %d times", n, err, runs)
		}
	})
}

func TestDamagedOutcomesAreNotDecoded(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("s")
		_, err := sc.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			for _, text := range []string{"", "{", `{"version":2}`, `{"version":1,"kind":"other"}`, `{"version":1,"response":{"header":"YQ=="}}`, `{"version":1,"effects":[{}]}`} {
				if o, err := st.DecodeOutcome([]byte(text)); !errors.Is(err, redisidem.ErrDamaged) {
					b.Errorf("%q became %+v, %v", text, o, err)
				}
			}
			return redisidem.Finish(redisidem.JSON(200, "done")), nil
		})
		mustBe(b, err, nil)
	})
}

// TestStoredSnoozeSleeps lets a stage return a snooze as it was stored and read again, and go on
// afterwards.
func TestStoredSnoozeSleeps(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		for name, c := range map[string]struct {
			o    redisidem.Outcome
			runs int
		}{
			"sleeps":         {redisidem.Snooze(time.Minute, redisidem.JSON(202, "wait")), 1},
			"runs if called": {redisidem.Snooze(time.Minute, redisidem.JSON(202, "wait")).UntilCalled(), 2},
		} {
			runs := 0
			flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "f", Version: 1, Stages: []redisidem.FlowStage{
				{Point: redisidem.Started, Work: func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					runs++
					if runs < 3 {
						return kept(b, c.o)(ctx, st)
					}
					return redisidem.Finish(redisidem.JSON(200, "done")), nil
				}},
			}})
			mustBe(b, err, nil)
			for range 2 {
				key, err := svc.Scope("s").DoFlow(ctx, name, request, flow)
				mustBe(b, err, nil)
				if key.Response.Code != 202 || key.RecoveryPoint != redisidem.Started || key.SnoozedUntil.Sub(key.UpdatedAt) != time.Minute {
					b.Errorf("%s: the key is %+v", name, key)
				}
			}
			if runs != c.runs {
				b.Errorf("%s: the stage ran %d times, want %d", name, runs, c.runs)
			}
			time.Sleep(time.Minute)
			for range 2 {
				_, err = svc.Scope("s").DoFlow(ctx, name, request, flow)
				mustBe(b, err, nil)
				time.Sleep(time.Minute)
			}
			key, err := svc.Scope("s").DoFlow(ctx, name, request, flow)
			mustBe(b, err, nil)
			if !key.Finished() || key.Response.Code != 200 || runs != 3 {
				b.Errorf("%s: after %d runs the key is %+v", name, runs, key)
			}
		}
	})
}

// TestStoredStateIsAddedToTheStateOfItsRecord decodes an outcome after Redis has lost the record
// and an earlier stage has left another state in the new one.
func TestStoredStateIsAddedToTheStateOfItsRecord(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		charge, state := 1, map[string]int(nil)
		var kept []byte
		crash := errors.New("crash")
		flow := mustFlow(b, redisidem.FlowConfig{Name: "f", Version: 1, Stages: []redisidem.FlowStage{
			{Point: redisidem.Started, Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Next().AddState(map[string]int{"charge": charge, "order": 0}), nil
			}},
			{Point: "order", Work: func(_ context.Context, st *redisidem.Stage) (o redisidem.Outcome, err error) {
				if kept != nil {
					return st.DecodeOutcome(kept)
				}
				if kept, o, err = st.EncodeOutcome(redisidem.Next().AddState(map[string]int{"order": 9})); err == nil {
					err = crash
				}
				return o, err
			}},
			{Point: "end", Work: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				state = nil
				return redisidem.Finish(redisidem.JSON(200, "done")), st.State(&state)
			}},
		}})
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, crash)
		b.server.FlushAll()
		charge = 2
		_, err = sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		if state["charge"] != 2 || state["order"] != 9 {
			b.Errorf("the state is %v, want charge 2 and order 9", state)
		}
	})
}
