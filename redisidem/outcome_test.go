package redisidem_test

import (
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

// TestKeyOfAFlowIsEndedByHand checks that each way to end a key requires a decision about the
// stages that were committed.
func TestKeyOfAFlowIsEndedByHand(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		update := func(key *redisidem.Key, o redisidem.Outcome) (*redisidem.Key, error) { return sc.Update(ctx, key, o) }
		commit := func(key *redisidem.Key, o redisidem.Outcome) (*redisidem.Key, error) {
			lease, err := sc.Lock(ctx, key.Value)
			mustBe(t, err, nil)
			key, err = lease.Commit(ctx, o)
			if err != nil {
				mustBe(t, lease.Abandon(ctx), nil)
			}
			return key, err
		}
		stage := func(key *redisidem.Key, o redisidem.Outcome) (*redisidem.Key, error) {
			return sc.WorkStage(ctx, key, outcome(o))
		}
		all := []string{"paid", "taxed", redisidem.Started}
		for name, end := range map[string]func(*redisidem.Key, redisidem.Outcome) (*redisidem.Key, error){
			"Update": update, "Lock": commit, "WorkStage": stage,
		} {
			for kind, o := range map[string]redisidem.Outcome{
				"Fail": redisidem.Fail(redisidem.JSON(410, "x")), "Finish": redisidem.Finish(redisidem.JSON(410, "x")), "zero": {},
			} {
				var done []string
				value := name + kind
				flow, key := halfway(t, sc, value, &done)
				_, err := end(key, o)
				mustBe(t, err, redisidem.ErrUndecided)
				key, err = sc.Retrieve(ctx, value)
				mustBe(t, err, nil)
				if key.Finished() {
					t.Fatalf("%s(%s) has ended the key", name, kind)
				}
				key, err = end(key, o.Undo(flow))
				mustBe(t, err, nil)
				if key.RecoveryPoint != "compensate:2" {
					t.Fatalf("%s(%s) to undo leads to %q", name, kind, key.RecoveryPoint)
				}
				_, err = end(key, o)
				mustBe(t, err, redisidem.ErrUndecided)
				_, err = end(key, redisidem.Advance("paid"))
				mustBe(t, err, redisidem.ErrUndecided)
				key, err = sc.Retrieve(ctx, value)
				mustBe(t, err, nil)
				key, err = sc.WorkFlow(ctx, key, flow)
				mustBe(t, err, nil)
				if !slices.Equal(done, all) || !key.Finished() {
					t.Errorf("%s(%s): undone %q at %q", name, kind, done, key.RecoveryPoint)
				}

				done = nil
				_, key = halfway(t, sc, value+"leave", &done)
				key, err = end(key, o.Leave())
				mustBe(t, err, nil)
				if done != nil || !key.Finished() {
					t.Errorf("%s(%s) to leave: undone %q at %q", name, kind, done, key.RecoveryPoint)
				}
			}
		}
	})
}

// TestUndoByHandCompensatesTheOpenAttempt checks that the attempt that was not committed is undone
// as it is when the flow itself fails there.
func TestUndoByHandCompensatesTheOpenAttempt(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		var done []string
		flow := mustFlow(t, undoing(&done, func(c *redisidem.FlowConfig) {
			s := &c.Stages[3]
			s.Work = fails(errStage)
			s.CompensateFailed, s.Compensate = true, func(_ context.Context, st *redisidem.Stage) error {
				if st.Compensates().Stage != s.Point {
					b.Errorf("it undoes %+v", st.Compensates())
				}
				done = append(done, s.Point)
				return nil
			}
		}))
		for _, byLease := range []bool{false, true} {
			done = nil
			value := fmt.Sprint("by a lease: ", byLease)
			key, err := sc.DoFlow(ctx, value, request, flow)
			mustBe(t, err, errStage)
			o := redisidem.Fail(redisidem.JSON(410, "called off")).Undo(flow)
			if byLease {
				_, err = locked(b, sc, value).Commit(ctx, o)
			} else {
				_, err = sc.Update(ctx, key, o)
			}
			mustBe(t, err, nil)
			key, err = sc.DoFlow(ctx, value, request, flow)
			mustBe(t, err, nil)
			mustHold(t, key, `"called off"`)
			if want := []string{flow.Config().Stages[3].Point, "paid", "taxed", redisidem.Started}; !slices.Equal(done, want) {
				t.Errorf("undone %q, want %q", done, want)
			}
		}
	})
}

func TestUndoIsForTheKeysOwnFlow(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		var done []string
		flow, key := halfway(t, sc, "k", &done)
		other := mustFlow(t, redisidem.FlowConfig{Name: "other", Version: 1, Stages: []redisidem.FlowStage{
			{Point: redisidem.Started, Work: outcome(redisidem.Finish(redisidem.JSON(200, 1)))},
		}})
		_, err := sc.Update(ctx, key, redisidem.Fail(redisidem.JSON(410, "x")).Undo(other))
		mustBe(t, err, redisidem.ErrOtherFlow)
		_, err = sc.Update(ctx, key, redisidem.Advance("paid").Undo(flow))
		mustBe(t, err, redisidem.ErrInvalid)
		_, err = sc.InitializeRequest(ctx, "none", request)
		mustBe(t, err, nil)
		lease, err := sc.Lock(ctx, "none")
		mustBe(t, err, nil)
		_, err = lease.Commit(ctx, redisidem.Fail(redisidem.JSON(410, "x")))
		mustBe(t, err, nil) // of a key without a flow nothing is to be undone
	})
}

// TestOutcomeWithAnUnusablePartIsRefused checks that the error names the part.
func TestOutcomeWithAnUnusablePartIsRefused(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		with := func(o redisidem.Outcome, change func(*redisidem.Outcome)) redisidem.Outcome {
			change(&o)
			return o
		}
		answer := redisidem.JSON(200, "x")
		point := func(o *redisidem.Outcome) { o.RecoveryPoint = "two" }
		respond := func(o *redisidem.Outcome) { o.Response = &answer }
		interim := func(o *redisidem.Outcome) { o.Interim = true }
		for name, c := range map[string]struct {
			part    string
			outcome redisidem.Outcome
		}{
			"idle with state":    {"Outcome.State", redisidem.NothingDone().WithState("x")},
			"idle with effects":  {"Outcome.Effects", redisidem.NothingDone().WithEffects(effect.Set("x", "x"))},
			"idle with response": {"Outcome.Response", with(redisidem.NothingDone(), respond)},
			"idle with point":    {"Outcome.RecoveryPoint", with(redisidem.NothingDone(), point)},
			"idle for now":       {"Outcome.Interim", with(redisidem.NothingDone(), interim)},
			"fail with point":    {"Outcome.RecoveryPoint", with(redisidem.Fail(answer), point)},
			"fail for now":       {"Outcome.Interim", with(redisidem.Fail(answer), interim)},
			"next with point":    {"Outcome.RecoveryPoint", with(redisidem.Next(), point)},
			"zero":               {"Outcome.RecoveryPoint", redisidem.Outcome{}},
			"zero with state":    {"Outcome.RecoveryPoint", redisidem.Outcome{}.WithState("x")},
			"undo in a flow":     {"Outcome.Undo", redisidem.Fail(answer).Leave()},
		} {
			flow := mustFlow(t, redisidem.FlowConfig{Name: "two", Version: 1, Stages: []redisidem.FlowStage{
				{Point: redisidem.Started, Work: outcome(c.outcome)},
				{Point: "two", Work: outcome(redisidem.Finish(answer))},
			}})
			key, err := sc.DoFlow(ctx, name, request, flow)
			var invalid *redisidem.InvalidError
			if !errors.As(err, &invalid) || invalid.Field != c.part || !key.Response.IsZero() {
				t.Errorf("%s: %v, want an error that names %s", name, err, c.part)
			}
		}
	})
}

func TestFailOutsideOfAFlowIsFinish(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		for i := range 2 {
			key, err := sc.Do(ctx, "k", request, outcome(redisidem.Fail(redisidem.JSON(402, "declined"))))
			mustBe(b, err, nil)
			if !key.Finished() || key.Response.Code != 402 || key.Replayed() != (i == 1) {
				b.Errorf("%d: the key is %+v", i, fmt.Sprint(key))
			}
		}
	})
}

// badOutcomes returns outcomes that cannot be stored, under a limit of 1 MiB.
func badOutcomes() map[string]struct {
	field, word string
	outcome     redisidem.Outcome
} {
	type bad = struct {
		field, word string
		outcome     redisidem.Outcome
	}
	header := func(name, value string) redisidem.Outcome {
		return redisidem.Finish(redisidem.Response{Code: 200, Header: map[string][]string{name: {"good", value}}})
	}
	big := strings.Repeat("x", 1<<20+1)
	all := map[string]bad{
		"body too long":        {"Response.Body", "1048576", redisidem.Finish(redisidem.Response{Body: []byte(big)})},
		"body no JSON":         {"Response.Body", "chan", redisidem.Finish(redisidem.JSON(200, make(chan int)))},
		"header too long":      {"Response.Header", "1048576", header("X", big)},
		"CR LF in a value":     {"Response.Header", "line break", header("X", "a\r\nSet-Cookie: b")},
		"CR in a value":        {"Response.Header", "line break", header("X", "a\rb")},
		"LF in a value":        {"Response.Header", "line break", header("X", "a\nb")},
		"NUL in a value":       {"Response.Header", "NUL", header("X", "a\x00b")},
		"line break in a name": {"Response.Header", "name", header("X\r\nY", "a")},
		"colon in a name":      {"Response.Header", "name", header("X:", "a")},
		"space in a name":      {"Response.Header", "name", header("X Y", "a")},
		"no name":              {"Response.Header", "name", header("", "a")},
		"interim without":      {"Outcome.Response", "interim", redisidem.Outcome{RecoveryPoint: "x", Interim: true}},
		"interim with nothing": {"Outcome.Response", "interim", redisidem.Interim("x", redisidem.Response{})},
		"interim and finished": {"Outcome.Interim", "finished", redisidem.Interim("finished", redisidem.JSON(202, 1))},
		"interim and empty":    {"Outcome.Interim", "finished", redisidem.Interim("", redisidem.JSON(202, 1))},
		"state no JSON":        {"Outcome.State", "func", redisidem.Advance("x").WithState(func() {})},
		"state too long":       {"Outcome.State", "1048576", redisidem.Advance("x").WithState([]byte(big))},
		"point too long":       {"Outcome.RecoveryPoint", "1048576", redisidem.Advance(big)},
	}
	for _, code := range []int{99, 600, -1, 1} {
		all[fmt.Sprint("code ", code)] = bad{"Response.Code", fmt.Sprint(code), redisidem.Finish(redisidem.Response{Code: code})}
	}
	return all
}

func TestInvalidOutcomeChangesNothing(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		// The lease is long, so that no renewal changes Redis in the meantime.
		sc := e.service(func(c *redisidem.Config) { c.Lease = time.Hour }).Scope("a")
		raw := e.client()
		free := start(t, sc, "free")
		start(t, sc, "leased")
		lease, err := sc.Lock(ctx, "leased")
		mustBe(t, err, nil)
		for name, c := range badOutcomes() {
			e.mustNotChange(raw, name, func() {
				_, err := lease.Commit(ctx, c.outcome)
				mustBeInvalid(t, err, c.field, c.word)
				_, held, err := lease.CommitKeep(ctx, c.outcome)
				mustBeInvalid(t, err, c.field, c.word)
				if !held {
					t.Errorf("%s: the lease is gone", name)
				}
				_, err = sc.Update(ctx, free, c.outcome)
				mustBeInvalid(t, err, c.field, c.word)
			})
		}
		e.mustNotChange(raw, "no progress", func() {
			_, err := lease.Commit(ctx, redisidem.Advance(redisidem.Started))
			mustBe(t, err, redisidem.ErrNoProgress)
			_, err = sc.Update(ctx, free, redisidem.Advance(redisidem.Started))
			mustBe(t, err, redisidem.ErrNoProgress)
		})
		_, err = lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "good")))
		mustBe(t, err, nil)
	})
}

func TestStageWithAnInvalidOutcomeDoesNotRunAgain(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		for name, c := range badOutcomes() {
			key := start(t, sc, name)
			runs := 0
			work := func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				runs++
				return c.outcome, nil
			}
			got, err := sc.WorkStage(ctx, key, work)
			mustBeInvalid(t, err, c.field, c.word)
			mustBe(t, err, redisidem.ErrNotKept)
			if got == nil || !got.Finished() || !got.Response.IsZero() {
				t.Errorf("%s: the key is %+v", name, got)
			}
			for range 2 {
				_, err = sc.WorkStage(ctx, key, work)
				mustBe(t, err, redisidem.ErrNotKept)
			}
			now, err := sc.Retrieve(ctx, name)
			mustBe(t, err, nil)
			if runs != 1 || now.Revision != 1 || now.Attempts != 1 || !now.Finished() || !now.Response.IsZero() {
				t.Errorf("%s: stored after %d runs is %+v", name, runs, now)
			}
		}
		e.mustBeTidy(e.client())
	})
}

func TestSeedM8InterimAnswerIsNotFinal(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		confirmed := false
		stages := map[string]redisidem.StageFunc{
			redisidem.Started: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if !confirmed {
					return redisidem.Interim(redisidem.Started, redisidem.JSON(200, "requires more")), nil
				}
				return redisidem.Finish(redisidem.JSON(201, "paid")), nil
			},
		}
		for _, want := range []string{`"requires more"`, `"requires more"`, `"paid"`, `"paid"`} {
			key, err := drive(sc, "k", request, stages)
			mustBe(t, err, nil)
			mustHold(t, key, want)
			confirmed = key.Revision >= 2
		}
	})
}

func TestTrapS1PointAndResponseAreBothKept(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		r := redisidem.JSON(202, "accepted")
		key, err := sc.Do(ctx, "k", request, returns(redisidem.Outcome{RecoveryPoint: "next", Response: &r}))
		mustBe(t, err, nil)
		for _, k := range []*redisidem.Key{key, start(t, sc, "k")} {
			mustStandAt(t, k, "next", 1)
			mustHold(t, k, `"accepted"`)
			if k.Answered() {
				t.Error("a response with a recovery point ends the request, want no answer yet")
			}
		}
		// An outcome without a response keeps the earlier one.
		_, err = sc.Do(ctx, "k", request, returns(redisidem.Outcome{}))
		mustBe(t, err, nil)
		mustHold(t, start(t, sc, "k"), `"accepted"`)
	})
}

func TestTrapS2EachCombinationOfPointAndResponseIsDefined(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		r := redisidem.JSON(201, "made")
		for name, c := range map[string]struct {
			outcome  redisidem.Outcome
			point    string
			response bool
		}{
			"neither":            {redisidem.Outcome{}, redisidem.Finished, false},
			"response":           {redisidem.Outcome{Response: &r}, redisidem.Finished, true},
			"point":              {redisidem.Outcome{RecoveryPoint: "next"}, "next", false},
			"both":               {redisidem.Outcome{RecoveryPoint: "next", Response: &r}, "next", true},
			"finished":           {redisidem.Outcome{RecoveryPoint: redisidem.Finished}, redisidem.Finished, false},
			"finished, response": {redisidem.Outcome{RecoveryPoint: redisidem.Finished, Response: &r}, redisidem.Finished, true},
		} {
			key, err := sc.Do(ctx, name, request, returns(c.outcome))
			mustBe(t, err, nil)
			for _, k := range []*redisidem.Key{key, start(t, sc, name)} {
				if k.RecoveryPoint != c.point || k.Response.IsZero() == c.response || k.Finished() && k.Response == nil || k.Answered() != (c.point == redisidem.Finished) {
					t.Errorf("%s: the key is %+v", name, k)
				}
			}
		}
	})
}

func TestTrapS2InterimResponseIsNotLeftAsTheFinalAnswer(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		_, err := sc.Do(ctx, "k", request, returns(redisidem.Interim("confirm", redisidem.JSON(200, "requires more"))))
		mustBe(t, err, nil)
		_, err = sc.Do(ctx, "k", request, returns(redisidem.Outcome{}))
		mustBe(t, err, nil)
		if key := start(t, sc, "k"); !key.Finished() || key.Response == nil || !key.Response.IsZero() {
			t.Errorf("finished %v with the response %+v", key.Finished(), key.Response)
		}
	})
}
