package redisidem_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// recoverable makes a flow's keys recoverable.
func recoverable(c *redisidem.FlowConfig) { c.RecoverAfter = 30 * time.Second }

func mustCompleter(t testing.TB, svc *redisidem.Service, flows ...*redisidem.Flow) *redisidem.Completer {
	t.Helper()
	return mustCompleterWith(t, svc, redisidem.CompleterConfig{}, flows...)
}

func mustCompleterWith(
	t testing.TB, svc *redisidem.Service, cfg redisidem.CompleterConfig, flows ...*redisidem.Flow,
) *redisidem.Completer {
	t.Helper()
	c, err := redisidem.NewCompleter(svc, flows, &cfg)
	mustBe(t, err, nil)
	return c
}

// mustSweep looks for keys once and checks what came of it.
func mustSweep(t testing.TB, c *redisidem.Completer, want redisidem.SweepResult) {
	t.Helper()
	got, err := c.Sweep(ctx)
	mustBe(t, err, nil)
	if got != want {
		t.Errorf("the sweep did %+v, want %+v", got, want)
	}
}

func TestCompletersThatAreRefused(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		flow := mustFlow(b, cart(recoverable))
		one := []*redisidem.Flow{flow}
		for _, c := range []struct {
			svc   *redisidem.Service
			flows []*redisidem.Flow
			cfg   *redisidem.CompleterConfig
			field string
			word  string
		}{
			{nil, one, nil, "svc", "nil"},
			{svc, nil, nil, "flows", "empty"},
			{svc, []*redisidem.Flow{flow, nil}, nil, "flows[1]", "nil"},
			{svc, []*redisidem.Flow{flow, flow}, nil, "flows[1]", "cart/1"},
			{svc, []*redisidem.Flow{mustFlow(b, cart())}, nil, "flows[0]", "RecoverAfter"},
			{svc, one, &redisidem.CompleterConfig{Concurrency: -1}, "CompleterConfig.Concurrency", "at least 1"},
			{svc, one, &redisidem.CompleterConfig{Interval: -1}, "CompleterConfig.Interval", "negative"},
		} {
			_, err := redisidem.NewCompleter(c.svc, c.flows, c.cfg)
			mustBeInvalid(b, err, c.field, c.word)
		}
	})
}

func TestCompleterFinishesWhatADeadProcessBegan(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var runs []string
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[2].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				runs = append(runs, fmt.Sprint(st.Key().Scope, st.Key().Value, string(st.Key().Params)))
				if len(runs) == 1 {
					b.freeze() // the process dies: nothing of it arrives any more
				}
				return redisidem.Next(), nil
			}
		}))
		dead := b.service(redisidem.Config{CommitRetry: -1})
		_, err := dead.Scope("tenant").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, redisidem.ErrOutcomeUnknown)
		b.thaw()

		svc := b.service(redisidem.Config{})
		completer := mustCompleter(b, svc, flow)
		mustSweep(b, completer, redisidem.SweepResult{}) // not yet
		time.Sleep(35 * time.Second)
		mustSweep(b, completer, redisidem.SweepResult{}) // the lease of 10 s comes first
		time.Sleep(15 * time.Second)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, Finished: 1})
		if want := []string{`tenantk{"cart":1}`, `tenantk{"cart":1}`}; !slices.Equal(runs, want) {
			b.Errorf("ran %q, want %q", runs, want)
		}
		key, err := svc.Scope("tenant").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		if !key.Replayed() || len(key.Journal) != 4 || key.Journal[2].Attempt != 2 {
			b.Errorf("the key is %+v", key)
		}
		if b.indexed("due") != 0 {
			b.Error("the due index holds a finished key")
		}
	})
}

// indexed returns how many keys the due indexes or the lists of dead letters hold.
func (b *bubble) indexed(kind string) (n int) {
	for _, k := range b.server.Keys() {
		if strings.Contains(k, "}:"+kind+":") {
			members, err := b.server.ZMembers(k)
			mustBe(b, err, nil)
			n += len(members)
		}
	}
	return n
}

func TestCompleterLeavesLiveWorkersAlone(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
				time.Sleep(5 * time.Minute)
				return redisidem.Next(), context.Cause(ctx)
			}
		}))
		done := make(chan *redisidem.Key)
		go func() {
			key, err := b.service(redisidem.Config{}).Scope("a").DoFlow(ctx, "k", request, flow)
			mustBe(b, err, nil)
			done <- key
		}()
		completer := mustCompleter(b, b.service(redisidem.Config{}), flow)
		for range 28 {
			time.Sleep(10 * time.Second)
			mustSweep(b, completer, redisidem.SweepResult{}) // renewals put it off
		}
		if key := <-done; !key.Finished() || key.Attempts != 1 {
			b.Errorf("the key is %+v", key)
		}
	})
}

func TestCompleterPutsOffWhatFails(t *testing.T) {
	inBubble(t, func(b *bubble) {
		broken := true
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.MaxAttempts = 4
			c.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if broken {
					return redisidem.Outcome{}, errStage
				}
				return redisidem.Next(), nil
			}
		}))
		events := &recorder{}
		svc := b.service(redisidem.Config{Observer: events})
		sc := svc.Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		completer := mustCompleter(b, svc, flow)
		// 30 s after the first attempt, then 60, 120, 240, each with up to a quarter of jitter on top.
		for attempt, pause := range []time.Duration{30, 60, 120} {
			time.Sleep((pause - 1) * time.Second)
			mustSweep(b, completer, redisidem.SweepResult{})
			time.Sleep(pause*time.Second/4 + 2*time.Second)
			mustSweep(b, completer, redisidem.SweepResult{Due: 1, Failed: 1})
			key, err := sc.Retrieve(ctx, "k")
			mustBe(b, err, nil)
			if key.Attempts != attempt+2 {
				b.Errorf("the key is %+v", key)
			}
		}
		time.Sleep(5 * time.Minute)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, DeadLettered: 1})
		time.Sleep(time.Hour)
		mustSweep(b, completer, redisidem.SweepResult{})
		if b.indexed("due") != 0 || b.indexed("dead") != 1 || events.count(redisidem.EventDeadLettered) != 1 {
			b.Errorf("%d due, %d dead, %v", b.indexed("due"), b.indexed("dead"), events.kinds())
		}

		letters := func() (keys []*redisidem.Key) {
			for key, err := range svc.DeadLetters(ctx, "cart") {
				mustBe(b, err, nil)
				keys = append(keys, key)
			}
			return keys
		}
		found := letters()
		if len(found) != 1 || found[0].Value != "k" || found[0].Scope != "a" || found[0].DeadLetter == nil ||
			found[0].DeadLetter.Reason != `stage "taxed" of cart/1: 4 attempts` || found[0].DeadLetter.At.IsZero() {
			b.Fatalf("the dead letters are %+v", found)
		}
		// Requeued, it has as many attempts as before.
		mustBe(b, sc.Requeue(ctx, found[0]), nil)
		mustBe(b, sc.Requeue(ctx, found[0]), redisidem.ErrNotFound)
		if len(letters()) != 0 {
			b.Error("the dead letter is still there")
		}
		for range 3 {
			mustSweep(b, completer, redisidem.SweepResult{Due: 1, Failed: 1})
			time.Sleep(time.Hour)
		}
		broken = false
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, Finished: 1})
		if b.indexed("due") != 0 || b.indexed("dead") != 0 {
			b.Errorf("%d due, %d dead", b.indexed("due"), b.indexed("dead"))
		}
		key, err := sc.Retrieve(ctx, "k")
		mustBe(b, err, nil)
		mustBe(b, sc.Requeue(ctx, key), redisidem.ErrFinished)
	})
}

// TestRenewalKeepsThePauseOfItsAttempt has processes that die after they have renewed their lease.
func TestRenewalKeepsThePauseOfItsAttempt(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				time.Sleep(5 * time.Second)
				b.freeze()
				return redisidem.Outcome{}, errStage
			}
		}))
		dies := func() *redisidem.Service { return b.service(redisidem.Config{CommitRetry: -1}) }
		_, err := dies().Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		b.thaw()
		// 30 s after the first attempt's lease of 10 s, then 60 and 120, each with up to a quarter of jitter on top.
		for _, pause := range []time.Duration{30, 60, 120} {
			time.Sleep((pause + 5) * time.Second)
			mustSweep(b, mustCompleter(b, dies(), flow), redisidem.SweepResult{})
			time.Sleep(pause*time.Second/4 + 6*time.Second)
			mustSweep(b, mustCompleter(b, dies(), flow), redisidem.SweepResult{Due: 1, Failed: 1})
			b.thaw()
		}
	})
}

// TestKeyThatFailsIsBuriedBeforeItExpires has pauses that would double beyond the retention.
func TestKeyThatFailsIsBuriedBeforeItExpires(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.RecoverAfter, c.MaxAttempts = 10*time.Minute, 6
			c.Stages[1].Work = fails(errStage)
		}))
		svc := b.service(redisidem.Config{Retention: time.Hour})
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		completer := mustCompleter(b, svc, flow)
		for range 5 {
			time.Sleep(35 * time.Minute)
			mustSweep(b, completer, redisidem.SweepResult{Due: 1, Failed: 1})
		}
		time.Sleep(35 * time.Minute)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, DeadLettered: 1})
	})
}

func TestDeadLettersAreStillTheirClients(t *testing.T) {
	inBubble(t, func(b *bubble) {
		broken := true
		cfg := cart(recoverable, func(c *redisidem.FlowConfig) {
			c.MaxAttempts = 1
			c.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if broken {
					return redisidem.Outcome{}, errStage
				}
				return redisidem.Next(), nil
			}
		})
		flow := mustFlow(b, cfg)
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		for _, value := range []string{"comes back", "is requeued", "is forgotten"} {
			_, err := sc.DoFlow(ctx, value, request, flow)
			mustBe(b, err, errStage)
		}
		time.Sleep(time.Minute)
		completer := mustCompleter(b, svc, flow)
		mustSweep(b, completer, redisidem.SweepResult{Due: 3, DeadLettered: 3})

		broken = false
		key, err := sc.DoFlow(ctx, "comes back", request, flow)
		mustBe(b, err, nil)
		if !key.Finished() {
			b.Errorf("the key is %+v", key)
		}
		n := 0
		for key, err := range svc.DeadLetters(ctx, "cart") {
			mustBe(b, err, nil)
			n++
			if key.Value == "comes back" {
				b.Error("a finished key is listed")
			}
			break // which must do no harm
		}
		if n != 1 {
			b.Errorf("listed %d", n)
		}
		mustBe(b, sc.Requeue(ctx, key), redisidem.ErrFinished)

		held, err := sc.Lock(ctx, "is requeued")
		mustBe(b, err, nil)
		dead, err := sc.Retrieve(ctx, "is requeued")
		mustBe(b, err, nil)
		mustBe(b, sc.Requeue(ctx, dead), redisidem.ErrLocked)
		mustBe(b, held.Abandon(ctx), nil)
		mustBe(b, sc.Requeue(ctx, dead), nil)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, Finished: 1})

		dead, err = sc.Retrieve(ctx, "is forgotten")
		mustBe(b, err, nil)
		mustBe(b, sc.Delete(ctx, dead), nil)
		mustBe(b, sc.Requeue(ctx, dead), redisidem.ErrNotFound)
		if b.indexed("dead") != 0 {
			b.Errorf("%d dead letters are left", b.indexed("dead"))
		}

		alien := start(b, sc, "no flow")
		mustBeInvalid(b, sc.Requeue(ctx, alien), "key", "no flow")
		for _, err := range svc.DeadLetters(ctx, "cart/1") {
			mustBeInvalid(b, err, "flow", "cart/1")
		}
	})
}

// TestDeadLetterThatWasCarriedOnIsNone has a client that comes back and gets as far as the next stage.
func TestDeadLetterThatWasCarriedOnIsNone(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		broken := "taxed"
		flow := mustFlow(t, cart(func(c *redisidem.FlowConfig) {
			c.RecoverAfter, c.MaxAttempts = time.Millisecond, 1
			for i := range c.Stages {
				work := c.Stages[i].Work
				c.Stages[i].Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					if st.Key().RecoveryPoint == broken {
						return redisidem.Outcome{}, errStage
					}
					return work(ctx, st)
				}
			}
		}))
		svc := e.service()
		sc := svc.Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, errStage)
		time.Sleep(5 * time.Millisecond)
		completer := mustCompleter(t, svc, flow)
		mustSweep(t, completer, redisidem.SweepResult{Due: 1, DeadLettered: 1})
		broken = "paid"
		_, err = sc.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, errStage)

		key, err := sc.Retrieve(ctx, "k")
		mustBe(t, err, nil)
		for letter, err := range svc.DeadLetters(ctx, "cart") {
			t.Errorf("listed is %+v, %v", letter, err)
		}
		if key.DeadLetter != nil {
			t.Errorf("the letter is %+v", key.DeadLetter)
		}
		mustBe(t, sc.Requeue(ctx, key), redisidem.ErrNotFound)
		// It gets a new one for what it does now.
		time.Sleep(5 * time.Millisecond)
		mustSweep(t, completer, redisidem.SweepResult{Due: 1, DeadLettered: 1})
		for letter, err := range svc.DeadLetters(ctx, "cart") {
			mustBe(t, err, nil)
			if letter.DeadLetter.Reason != `stage "paid" of cart/1: 1 attempts` {
				t.Errorf("the reason is %q", letter.DeadLetter.Reason)
			}
			mustBe(t, sc.Requeue(ctx, letter), nil)
		}
	})
}

// TestDamagedDeadLetterHidesNoOther has one record and one list that cannot be read.
func TestDamagedDeadLetterHidesNoOther(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.MaxAttempts = 1
			c.Stages[1].Work = fails(errStage)
		}))
		svc := b.service(redisidem.Config{})
		for i := range 10 {
			_, err := svc.Scope("a").DoFlow(ctx, fmt.Sprint(i), request, flow)
			mustBe(b, err, errStage)
		}
		time.Sleep(time.Minute)
		mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 10, DeadLettered: 10})
		damaged, lists := "", 0
		for key, err := range svc.DeadLetters(ctx, "cart") {
			mustBe(b, err, nil)
			damaged = key.ID()
			break
		}
		for _, k := range b.server.Keys() {
			if strings.HasSuffix(k, damaged) {
				b.server.HSet(k, "response_code", "7")
			}
		}
		for shard := range 2 {
			if list := fmt.Sprintf("%s:{%03x}:dead:cart", svc.Config().Namespace, shard); !b.server.Exists(list) {
				mustBe(b, b.server.Set(list, "no list"), nil)
				lists++
			}
		}
		found := make(map[string]bool)
		for key, err := range svc.DeadLetters(ctx, "cart") {
			switch {
			case key.ID() == "":
				mustBe(b, err, redisidem.ErrDamaged)
				lists--
				continue
			case key.ID() == damaged:
				mustBe(b, err, redisidem.ErrDamaged)
			default:
				mustBe(b, err, nil)
			}
			found[key.ID()] = true
		}
		if len(found) != 10 || lists != 0 {
			b.Errorf("found are %d keys, and %d damaged lists are not told", len(found), lists)
		}
		b.freeze()
		told := 0
		for key, err := range svc.DeadLetters(ctx, "cart") {
			mustBe(b, err, redisidem.ErrUnavailable)
			told++
			if key != nil {
				b.Errorf("the key is %+v", key)
			}
		}
		if told != 1 {
			b.Errorf("told %d times that Redis does not answer", told)
		}
		b.thaw()
	})
}

func TestCompleterLeavesInterimAnswersToTheirClients(t *testing.T) {
	inBubble(t, func(b *bubble) {
		confirmed := false
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.InterimFor = time.Hour
			c.Stages[2].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if !confirmed {
					return redisidem.Interim("paid", redisidem.JSON(202, "confirm")), nil
				}
				return redisidem.Next(), nil
			}
		}))
		svc := b.service(redisidem.Config{})
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		completer := mustCompleter(b, svc, flow)
		time.Sleep(59 * time.Minute)
		mustSweep(b, completer, redisidem.SweepResult{})
		time.Sleep(2 * time.Minute)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1}) // carried on, to the same interim answer
		confirmed = true
		time.Sleep(59 * time.Minute)
		mustSweep(b, completer, redisidem.SweepResult{})
		time.Sleep(2 * time.Minute)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, Finished: 1})
	})
}

func TestCompleterKnowsItsVersions(t *testing.T) {
	inBubble(t, func(b *bubble) {
		broken := true
		version := func(n int) *redisidem.Flow {
			return mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
				c.Version = n
				c.Stages[0].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					if broken {
						return redisidem.Outcome{}, errStage
					}
					return redisidem.Next(), nil
				}
				c.Stages[3].Work = finish(fmt.Sprint("version ", n))
			}))
		}
		v1, v2, v3 := version(1), version(2), version(3)
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		for value, flow := range map[string]*redisidem.Flow{"1": v1, "2": v2} {
			_, err := sc.DoFlow(ctx, value, request, flow)
			mustBe(b, err, errStage)
		}
		broken = false
		time.Sleep(time.Minute)
		before, err := sc.Retrieve(ctx, "1")
		mustBe(b, err, nil)
		mustSweep(b, mustCompleter(b, svc, v3), redisidem.SweepResult{Due: 2, Failed: 2})
		after, err := sc.Retrieve(ctx, "1")
		mustBe(b, err, nil)
		if asText(b.T, before) != asText(b.T, after) {
			b.Errorf("another version changed the key from %+v to %+v", before, after)
		}
		time.Sleep(time.Minute)
		mustSweep(b, mustCompleter(b, svc, v1, v3, v2), redisidem.SweepResult{Due: 2, Finished: 2})
		for _, value := range []string{"1", "2"} {
			key, err := sc.Retrieve(ctx, value)
			mustBe(b, err, nil)
			if want := `"version ` + value + `"`; string(key.Response.Body) != want {
				b.Errorf("key %s ends with %s", value, key.Response.Body)
			}
		}
	})
}

func TestDueIndexIsAHintAndCleansItself(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) { c.Stages[1].Work = fails(errStage) }))
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		for _, value := range []string{"finished by hand", "deleted", "damaged"} {
			_, err := sc.DoFlow(ctx, value, request, flow)
			mustBe(b, err, errStage)
		}
		key, err := sc.Retrieve(ctx, "finished by hand")
		mustBe(b, err, nil)
		_, err = sc.WorkStage(ctx, key, finish("by hand")) // knows of no flow
		mustBe(b, err, nil)
		mustBe(b, sc.Delete(ctx, &redisidem.Key{Value: "deleted", Scope: "a"}), nil) // which knows of no flow either
		key, err = sc.Retrieve(ctx, "damaged")
		mustBe(b, err, nil)
		for _, k := range b.server.Keys() {
			if strings.HasSuffix(k, key.ID()) {
				b.server.HSet(k, "scope", "another")
			}
			if strings.Contains(k, "}:due:") {
				_, err := b.server.ZAdd(k, 1, "what is this")
				mustBe(b, err, nil)
			}
		}
		time.Sleep(time.Minute)
		completer := mustCompleter(b, svc, flow)
		swept, err := completer.Sweep(ctx)
		mustBe(b, err, nil)
		if swept.Failed != 1 || swept.Finished != 0 || swept.Due < 3 {
			b.Errorf("the sweep did %+v", swept)
		}
		found := 0
		for _, k := range b.server.Keys() {
			if !strings.Contains(k, "}:due:") {
				continue
			}
			members, err := b.server.ZMembers(k)
			mustBe(b, err, nil)
			for _, m := range members {
				if m != "what is this" {
					found++
				}
			}
		}
		if found != 1 {
			b.Errorf("%d keys are left in the due index, not the damaged one alone", found)
		}
		// Keys of flows that are not recoverable cost no index.
		n := b.indexed("due")
		_, err = sc.DoFlow(ctx, "plain", request, mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Name = "plain"
			c.Stages[1].Work = fails(errStage)
		})))
		mustBe(b, err, errStage)
		if b.indexed("due") != n {
			b.Error("a key that is not recoverable is in the due index")
		}
	})
}

// TestIndexesEndWithTheirRecords is about what is left where no completer runs any more.
func TestIndexesEndWithTheirRecords(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		const retention = time.Hour
		svc, client := e.service(func(c *redisidem.Config) { c.Retention = retention }), e.client()
		sc := svc.Scope("tenant")
		flow := mustFlow(t, cart(func(c *redisidem.FlowConfig) {
			c.RecoverAfter, c.MaxAttempts = time.Millisecond, 1
			c.Stages[2].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Outcome{}, errStage
			}
		}))
		ends := func(index string) {
			t.Helper()
			names := 0
			for _, name := range e.keys(client) {
				left := client.PTTL(ctx, name).Val()
				if left < retention-time.Minute || left > retention+redisidem.DefaultLease {
					t.Errorf("%s has the TTL %v", name, left)
				}
				if strings.Contains(name, "}:"+index+":") {
					names++
				}
			}
			if names != 1 {
				t.Errorf("there are %d sets %s in %v", names, index, e.keys(client))
			}
		}
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, errStage)
		ends("due")
		time.Sleep(5 * time.Millisecond)
		mustSweep(t, mustCompleter(t, svc, flow), redisidem.SweepResult{Due: 1, DeadLettered: 1})
		ends("dead")
		mustBe(t, sc.Requeue(ctx, key), nil)
		ends("due")
	})
}

// TestIndexStaysForRecordsThatOthersProlong is about keys of a flow that are worked on without it now and then.
func TestIndexStaysForRecordsThatOthersProlong(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Retention: time.Hour})
		sc := svc.Scope("a")
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			asked := false
			c.InterimFor = 2 * time.Hour
			c.Stages[2].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if !asked {
					asked = true
					return redisidem.Interim("paid", redisidem.JSON(200, "confirm")), nil
				}
				return redisidem.Next(), nil
			}
		}))
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		for range 4 {
			time.Sleep(29 * time.Minute)
			mustBe(b, locked(b, sc, "k").Abandon(ctx), nil)
			mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{})
		}
		time.Sleep(29 * time.Minute)
		mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, Finished: 1})
	})
}

func TestCompleterGivesUpWhatGoesRoundInCircles(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = outcome(redisidem.Advance("paid"))
			c.Stages[2].Work, c.Stages[2].Next = outcome(redisidem.Advance("taxed")), []string{"taxed", "ordered"}
		}))
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, redisidem.ErrNoProgress)
		time.Sleep(time.Hour)
		mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, DeadLettered: 1})
		key, err := sc.Retrieve(ctx, "k")
		mustBe(b, err, nil)
		if key.DeadLetter == nil || !strings.Contains(key.DeadLetter.Reason, "came back") {
			b.Errorf("the letter is %+v", key.DeadLetter)
		}
	})
}

func TestCompleterGivesUpWhatGetsInterimAnswersForEver(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[2].Work = outcome(redisidem.Interim("paid", redisidem.JSON(202, "confirm")))
		}))
		svc := b.service(redisidem.Config{Retention: time.Hour})
		sc := svc.Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		completer := mustCompleter(b, svc, flow)
		for range 3 {
			time.Sleep(20 * time.Minute)
			mustSweep(b, completer, redisidem.SweepResult{Due: 1})
		}
		time.Sleep(20 * time.Minute)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, DeadLettered: 1})
		// Whoever requeues it wants more of them, for as long.
		key, err := sc.Retrieve(ctx, "k")
		mustBe(b, err, nil)
		mustBe(b, sc.Requeue(ctx, key), nil)
		for range 4 {
			mustSweep(b, completer, redisidem.SweepResult{Due: 1})
			time.Sleep(20 * time.Minute)
		}
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, DeadLettered: 1})
	})
}

// untilBuried lets a completer look each ten minutes until it gives a key up, which must be about so long from now. It returns the
// reason, if the record can be read.
func untilBuried(b *bubble, sc *redisidem.Scope, completer *redisidem.Completer, want time.Duration) string {
	b.Helper()
	began := time.Now()
	for time.Since(began) < 2*want {
		time.Sleep(10 * time.Minute)
		swept, err := completer.Sweep(ctx)
		mustBe(b, err, nil)
		if swept.DeadLettered == 0 {
			continue
		}
		if took := time.Since(began); took < want-time.Hour/2 || took > want+time.Hour/2 {
			b.Errorf("buried after %v, want %v", took, want)
		}
		if b.indexed("dead") != 1 || b.indexed("due") != 0 || b.lock() != "" {
			b.Errorf("%d dead, %d due, the lock is %q", b.indexed("dead"), b.indexed("due"), b.lock())
		}
		key, err := sc.Retrieve(ctx, "k")
		if err != nil || key.DeadLetter == nil {
			return ""
		}
		return key.DeadLetter.Reason
	}
	b.Errorf("not buried within %v", time.Since(began))
	return ""
}

// TestCompleterGivesUpWhatNeverEnds has what prolongs its record each time and uses up no attempts.
func TestCompleterGivesUpWhatNeverEnds(t *testing.T) {
	failed := false
	for _, c := range []struct {
		name   string
		work   redisidem.StageFunc
		after  time.Duration // with a retention of 1 h, and 15 min for interim answers
		reason string
	}{
		{
			"interim answers at an earlier stage", outcome(redisidem.Interim("taxed", redisidem.JSON(202, "confirm"))), 80 * time.Minute,
			"interim answers for 1h",
		},
		{"nothing to do", outcome(redisidem.NothingDone()), 80 * time.Minute, "nothing done for 1h"},
		{"nothing to do after a failure", func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			if !failed {
				failed = true
				return redisidem.Outcome{}, errStage
			}
			return redisidem.NothingDone(), nil
		}, 155 * time.Minute, "nothing done for 2h"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				flow := mustFlow(b, cart(recoverable, func(cfg *redisidem.FlowConfig) { cfg.Stages[2].Work = c.work }))
				svc := b.service(redisidem.Config{Retention: time.Hour})
				sc := svc.Scope("a")
				if _, err := sc.DoFlow(ctx, "k", request, flow); err != nil {
					mustBe(b, err, errStage)
				}
				completer := mustCompleter(b, svc, flow)
				if got := untilBuried(b, sc, completer, c.after); !strings.Contains(got, c.reason) {
					b.Errorf("the reason is %q", got)
				}
				key, err := sc.Retrieve(ctx, "k")
				mustBe(b, err, nil)
				mustBe(b, sc.Requeue(ctx, key), nil)
				mustSweep(b, completer, redisidem.SweepResult{Due: 1})
			})
		})
	}
}

func TestCompleterGivesUpWhatItCannotRead(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.MaxAttempts = 4
			c.Stages[1].Work = fails(errStage)
		}))
		sc := b.service(redisidem.Config{Retention: time.Hour, Codec: mustCodec(b, secret("k"))}).Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		events := &recorder{}
		without := b.service(redisidem.Config{Retention: time.Hour, Observer: events})
		untilBuried(b, sc, mustCompleter(b, without, flow), 50*time.Minute)
		if events.count(redisidem.EventDeadLettered) != 1 {
			b.Errorf("events: %v", events.kinds())
		}
		key, err := sc.Retrieve(ctx, "k")
		mustBe(b, err, nil)
		if key.DeadLetter == nil || key.DeadLetter.Reason != "cart/1: the record cannot be read" || key.Attempts != 1 {
			b.Errorf("%+v after %d attempts", key.DeadLetter, key.Attempts)
		}
		// It gets as many attempts again.
		mustBe(b, sc.Requeue(ctx, key), nil)
		mustSweep(b, mustCompleter(b, without, flow), redisidem.SweepResult{Due: 1, Failed: 1})
	})
}

// TestCompleterDoesNotGiveUpALongList has a stage that works off a list bit by bit for longer than a record lives, and fails then.
func TestCompleterDoesNotGiveUpALongList(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[1].Next, c.Stages[1].MaxVisits = []string{"taxed", "paid"}, 1000
			c.Stages[1].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				time.Sleep(10 * time.Minute)
				switch {
				case st.Key().Revision == 12:
					return redisidem.Outcome{}, errStage
				case st.Key().Revision > 12:
					return redisidem.Next(), nil
				}
				return redisidem.Advance("taxed"), nil
			}
		}))
		svc := b.service(redisidem.Config{Retention: time.Hour, MaxHold: -1})
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		time.Sleep(time.Minute)
		mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, Failed: 1})
	})
}

func TestCompleterLeavesAnotherRecordOfThatNameAlone(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) { c.Stages[0].Work = fails(errStage) }))
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		mustBe(b, sc.Delete(ctx, &redisidem.Key{Value: "k", Scope: "a"}), nil) // which knows of no flow
		other := request
		other.Path = "/refund"
		_, err = sc.InitializeRequest(ctx, "k", other) // which is no request for the flow
		mustBe(b, err, nil)
		time.Sleep(time.Minute)
		mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1})
		key, err := sc.Retrieve(ctx, "k")
		mustBe(b, err, nil)
		if key.Flow != "" || key.Attempts != 0 || b.indexed("due") != 0 {
			b.Errorf("the key is %+v, and %d are due", key, b.indexed("due"))
		}
	})
}

// TestCompleterLeavesKeysOfAnotherFlowToIt deletes a key of one flow and uses it again with another, which has just given an
// interim answer.
func TestCompleterLeavesKeysOfAnotherFlowToIt(t *testing.T) {
	inBubble(t, func(b *bubble) {
		old := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) { c.Stages[0].Work = fails(errStage) }))
		young := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Name = "refund"
			c.Stages[1].Work = outcome(redisidem.Interim("taxed", redisidem.JSON(202, "wait")))
		}))
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, old)
		mustBe(b, err, errStage)
		mustBe(b, sc.Delete(ctx, &redisidem.Key{Value: "k", Scope: "a"}), nil) // which knows of no flow
		_, err = sc.DoFlow(ctx, "k", request, young)
		mustBe(b, err, nil)
		time.Sleep(5 * time.Minute)
		completer := mustCompleter(b, svc, old, young)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1})
		key, err := sc.Retrieve(ctx, "k")
		mustBe(b, err, nil)
		if key.Flow != "refund/1" || key.Attempts != 1 || b.indexed("due") != 1 {
			b.Errorf("the key is %+v, and %d are due", key, b.indexed("due"))
		}
		time.Sleep(redisidem.DefaultInterimFor)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1})
	})
}

func TestCompleterOutlivesStagesThatEndTheirGoroutine(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[0].Work = fails(errStage)
		}))
		ends := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[0].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				runtime.Goexit()
				return redisidem.Next(), nil
			}
		}))
		svc := b.service(redisidem.Config{})
		for _, value := range []string{"k", "l", "m"} {
			_, err := svc.Scope("a").DoFlow(ctx, value, request, flow)
			mustBe(b, err, errStage)
		}
		time.Sleep(time.Minute)
		completer := mustCompleterWith(b, svc, redisidem.CompleterConfig{Concurrency: 1}, ends)
		mustSweep(b, completer, redisidem.SweepResult{Due: 3, Failed: 3})
		time.Sleep(time.Hour)
		mustSweep(b, mustCompleter(b, svc, mustFlow(b, cart(recoverable))), redisidem.SweepResult{Due: 3, Finished: 3})
	})
}

// TestCompleterOutlivesAnObserverThatPanics has one that does so when a key is claimed.
func TestCompleterOutlivesAnObserverThatPanics(t *testing.T) {
	inBubble(t, func(b *bubble) {
		_, err := b.service(redisidem.Config{}).Scope("a").DoFlow(ctx, "k", request, mustFlow(b, cart(recoverable,
			func(c *redisidem.FlowConfig) { c.Stages[0].Work = fails(errStage) })))
		mustBe(b, err, errStage)
		time.Sleep(time.Minute)
		flow := mustFlow(b, cart(recoverable))
		svc := b.service(redisidem.Config{Observer: nervous(redisidem.EventClaimed)})
		mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, Failed: 1})
	})
}

func TestCompleterOutlivesAPanicAndAnOutage(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var fault atomic.Value
		fault.Store("error")
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				switch fault.Load() {
				case "error":
					return redisidem.Outcome{}, errStage
				case "panic":
					panic("boom")
				case "hang":
					<-ctx.Done()
					return redisidem.Outcome{}, context.Cause(ctx)
				}
				return redisidem.Next(), nil
			}
		}))
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		fault.Store("panic")

		run, stop := context.WithCancel(ctx)
		ended := make(chan error)
		go func() { ended <- mustCompleter(b, svc, flow).Run(run) }()
		time.Sleep(time.Minute)
		b.freeze()
		time.Sleep(time.Minute)
		b.thaw()
		time.Sleep(time.Minute)
		fault.Store("")
		time.Sleep(10 * time.Minute)
		key, err := sc.Retrieve(ctx, "k")
		mustBe(b, err, nil)
		if !key.Finished() || key.Journal[1].Attempt < 2 {
			b.Errorf("the key is %+v", key)
		}

		// Its context's end reaches the stages, once they have had their time.
		fault.Store("error")
		_, err = sc.DoFlow(ctx, "hanging", request, flow)
		mustBe(b, err, errStage)
		fault.Store("hang")
		time.Sleep(2 * time.Minute)
		stop()
		time.Sleep(redisidem.DefaultDrain)
		synctest.Wait()
		select {
		case err := <-ended:
			mustBe(b, err, context.Canceled)
		default:
			b.Error("the completer still runs")
		}
		key, err = sc.Retrieve(ctx, "hanging")
		mustBe(b, err, nil)
		if key.LockedAt != (time.Time{}) {
			b.Error("the key is still locked")
		}
	})
}

func TestClosedServiceEndsItsCompleter(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		completer := mustCompleter(b, svc, mustFlow(b, cart(recoverable)))
		ended := make(chan error, 1)
		go func() { ended <- completer.Run(ctx) }()
		time.Sleep(time.Minute)
		mustBe(b, svc.Close(ctx), nil)
		time.Sleep(time.Minute)
		mustBe(b, <-ended, redisidem.ErrClosed)
		_, err := completer.Sweep(ctx)
		mustBe(b, err, redisidem.ErrClosed)
	})
}

// TestCompletersShareTheWork lets two of them finish what is abandoned on each kind of server.
func TestCompletersShareTheWork(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		const keys = 40
		var broken atomic.Bool
		broken.Store(true)
		var runs atomic.Int64
		flow := mustFlow(t, cart(func(c *redisidem.FlowConfig) {
			c.RecoverAfter = time.Millisecond
			c.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if broken.Load() {
					return redisidem.Outcome{}, errStage
				}
				runs.Add(1)
				return redisidem.Next(), nil
			}
		}))
		first := e.service()
		for i := range keys {
			_, err := first.Scope("a").DoFlow(ctx, fmt.Sprint(i), request, flow)
			mustBe(t, err, errStage)
		}
		broken.Store(false)
		deadline := time.Now().Add(30 * time.Second)
		results := make(chan int64)
		var finished atomic.Int64
		for _, svc := range []*redisidem.Service{first, e.service()} {
			completer := mustCompleter(t, svc, flow)
			go func() {
				mine := int64(0)
				for finished.Load() < keys && time.Now().Before(deadline) {
					swept, err := completer.Sweep(ctx)
					if err != nil {
						t.Error(err)
						break
					}
					mine += swept.Finished
					finished.Add(swept.Finished)
				}
				results <- mine
			}()
		}
		if n := <-results + <-results; n != keys || runs.Load() != keys {
			t.Errorf("%d keys finished in %d runs, want %d", n, runs.Load(), keys)
		}
		raw := e.client()
		for _, k := range e.keys(raw) {
			if strings.Contains(k, "}:due:") {
				t.Errorf("the due index is not empty: %s", k)
			}
		}
		e.mustBeTidy(raw)
	})
}

// TestManyCompletersLookNoMoreOftenThanOne counts what the server is asked while nothing is due.
func TestManyCompletersLookNoMoreOftenThanOne(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable))
		asked := func(processes int) int {
			before := b.requests
			during, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			var wg sync.WaitGroup
			for range processes {
				completer := mustCompleter(b, b.service(redisidem.Config{}), flow)
				wg.Go(func() { mustBe(b, completer.Run(during), context.DeadlineExceeded) })
			}
			wg.Wait()
			return b.requests - before
		}
		// A process alone pauses for 5 s on average, many take each turn after 3.75 s.
		if one, many := asked(1), asked(10); one < 5*1024 || many > one*3/2 {
			b.Errorf("one process asked %d times, ten asked %d times", one, many)
		}
	})
}

// TestDeadCompletersTurnPasses lets the process that looks stop.
func TestDeadCompletersTurnPasses(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable))
		for range 2 {
			during, cancel := context.WithTimeout(ctx, time.Second)
			mustBe(b, mustCompleter(b, b.service(redisidem.Config{}), flow).Run(during), context.DeadlineExceeded)
			cancel()
		}
		before := b.requests
		during, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		mustBe(b, mustCompleter(b, b.service(redisidem.Config{}), flow).Run(during), context.DeadlineExceeded)
		if asked := b.requests - before; asked < 1024 {
			b.Errorf("the next process asked %d times within two intervals", asked)
		}
	})
}

// TestShardsThatCannotBeAskedKeepNobodyFromTheOthers has more of them than there are scouts.
func TestShardsThatCannotBeAskedKeepNobodyFromTheOthers(t *testing.T) {
	inBubble(t, func(b *bubble) {
		failing := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) { c.Stages[1].Work = fails(errStage) }))
		svc := b.service(redisidem.Config{})
		for i := range 100 {
			_, err := svc.Scope("a").DoFlow(ctx, fmt.Sprint(i), request, failing)
			mustBe(b, err, errStage)
		}
		time.Sleep(time.Minute)
		for shard := 0; shard < 1024; shard += 16 {
			if index := fmt.Sprintf("%s:{%03x}:due:cart", svc.Config().Namespace, shard); !b.server.Exists(index) {
				mustBe(b, b.server.Set(index, "no index"), nil)
			}
		}
		swept, err := mustCompleter(b, svc, mustFlow(b, cart(recoverable))).Sweep(ctx)
		mustBe(b, err, redisidem.ErrDamaged)
		if want := (redisidem.SweepResult{Due: 100, Finished: 100}); swept != want {
			b.Errorf("the sweep did %+v, want %+v", swept, want)
		}
	})
}

func TestServerThatDoesNotAnswerCostsASweepOneTimeout(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		completer := mustCompleter(b, svc, mustFlow(b, cart(recoverable)))
		b.freeze()
		began := time.Now()
		_, err := completer.Sweep(ctx)
		mustBe(b, err, redisidem.ErrUnavailable)
		if took := time.Since(began); took > 2*svc.Config().Timeout {
			b.Errorf("the sweep took %v", took)
		}
		b.thaw()
	})
}

// TestHandedOutKeyWhoseClientCameMeanwhileIsLeftAlone has one worker, who is busy while the clients of the keys that wait for it come
// back: one gets an interim answer, the other an error.
func TestHandedOutKeyWhoseClientCameMeanwhileIsLeftAlone(t *testing.T) {
	inBubble(t, func(b *bubble) {
		busy := make(chan struct{})
		does := map[string]string{"asks": "ask", "fails": "fail", "nobody came": "next"}
		for i := range 6 { // one of which the worker takes before long, and all are handed out, since there are eight scouts
			does[fmt.Sprint("busy ", i)] = "wait"
		}
		begun := false
		runs := make(map[string]int)
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.InterimFor = time.Hour
			c.Stages[1].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				if !begun {
					return redisidem.Outcome{}, errStage
				}
				runs[st.Key().Value]++
				switch does[st.Key().Value] {
				case "wait":
					<-busy
				case "ask":
					return redisidem.Interim("taxed", redisidem.JSON(202, "confirm")), nil
				case "fail":
					return redisidem.Outcome{}, errStage
				}
				return redisidem.Next(), nil
			}
		}))
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		for value := range does {
			_, err := sc.DoFlow(ctx, value, request, flow)
			mustBe(b, err, errStage)
		}
		begun = true
		time.Sleep(time.Minute)
		completer := mustCompleterWith(b, svc, redisidem.CompleterConfig{Concurrency: 1}, flow)
		ended := make(chan struct{})
		go func() {
			_, err := completer.Sweep(ctx)
			mustBe(b, err, nil)
			close(ended)
		}()
		synctest.Wait()
		_, err := sc.DoFlow(ctx, "asks", request, flow)
		mustBe(b, err, nil)
		_, err = sc.DoFlow(ctx, "fails", request, flow)
		mustBe(b, err, errStage)
		asked, failed := runs["asks"], runs["fails"]
		close(busy)
		<-ended
		if runs["asks"] != asked || runs["fails"] != failed {
			b.Errorf("they were carried on at once: %v", runs)
		}
		key, err := sc.Retrieve(ctx, "nobody came")
		mustBe(b, err, nil)
		if !key.Finished() || b.lock() != "" {
			b.Errorf("the key is %+v, the lock %q", key, b.lock())
		}
		time.Sleep(3 * time.Minute)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, Failed: 1}) // the one whose client is not expected back
	})
}

// unlocker is an observer that takes a key's lease away as soon as somebody has it.
type unlocker struct{ sc *redisidem.Scope }

func (u *unlocker) Observe(_ context.Context, e redisidem.Event) {
	if e.Kind == redisidem.EventClaimed {
		_ = u.sc.Unlock(ctx, "k")
	}
}

func TestKeyWhoseLeaseIsGoneIsNotGivenUp(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.MaxAttempts = 1
			c.Stages[1].Work = fails(errStage)
		}))
		sc := b.service(redisidem.Config{}).Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		time.Sleep(time.Minute)
		mustSweep(b, mustCompleter(b, b.service(redisidem.Config{Observer: &unlocker{sc}}), flow), redisidem.SweepResult{Due: 1})
		key, err := sc.Retrieve(ctx, "k")
		mustBe(b, err, nil)
		if key.DeadLetter != nil || b.indexed("dead") != 0 || b.indexed("due") != 1 {
			b.Errorf("the letter is %+v; %d dead, %d due", key.DeadLetter, b.indexed("dead"), b.indexed("due"))
		}
	})
}

// shardOf returns the number of the shard that a key of scope "a" is in.
func shardOf(value string) uint16 {
	b := []byte("redisidem/key/1")
	for _, part := range []string{"a", value} {
		b = append(binary.BigEndian.AppendUint64(b, uint64(len(part))), part...)
	}
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint16(sum[24:]) >> 6
}

// TestShardWithManyKeysLetsTheOthersHaveTheirTurn has a flow whose keys are due again as soon as
// they were carried on.
func TestShardWithManyKeysLetsTheOthersHaveTheirTurn(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var crowd, others atomic.Int64
		var completing atomic.Bool
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.RecoverAfter = 200 * time.Millisecond
			c.Stages[0].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				switch {
				case !completing.Load():
				case strings.HasPrefix(st.Key().Value, "other"):
					others.Add(1)
					return redisidem.Finish(redisidem.JSON(200, nil)), nil
				default:
					crowd.Add(1)
					time.Sleep(30 * time.Millisecond)
				}
				return redisidem.NothingDone(), nil
			}
		}))
		svc := b.service(redisidem.Config{Lease: time.Second})
		sc := svc.Scope("a")
		for i, made := 0, 0; made < 8*40; i++ {
			value := fmt.Sprint("crowd", i)
			if shardOf(value) >= 8 {
				continue
			}
			_, err := sc.DoFlow(ctx, value, request, flow)
			mustBe(b, err, nil)
			made++
		}
		time.Sleep(time.Second)
		completing.Store(true)
		completer := mustCompleterWith(b, svc, redisidem.CompleterConfig{Interval: time.Second}, flow)
		during, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		ended := make(chan error)
		go func() { ended <- completer.Run(during) }()
		time.Sleep(3 * time.Second)
		completing.Store(false)
		for i, made := 0, 0; made < 16; i++ {
			value := fmt.Sprint("other", i)
			if shardOf(value) < 100 {
				continue
			}
			_, err := sc.DoFlow(ctx, value, request, flow)
			mustBe(b, err, nil)
			made++
		}
		completing.Store(true)
		mustBe(b, <-ended, context.DeadlineExceeded)
		if others.Load() != 16 {
			b.Errorf("%d of 16 others were carried on, and the crowd %d times", others.Load(), crowd.Load())
		}
	})
}

// TestSweepEndsAlthoughItsKeysAreDueAgain has keys that take longer together than it takes until
// the first is due again.
func TestSweepEndsAlthoughItsKeysAreDueAgain(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var visits atomic.Int64
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.RecoverAfter = 200 * time.Millisecond
			c.Stages[0].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				visits.Add(1)
				time.Sleep(30 * time.Millisecond)
				return redisidem.NothingDone(), nil
			}
		}))
		svc := b.service(redisidem.Config{Lease: time.Second})
		const keys = 40 // of one shard, of which a completer takes fewer at a time
		for i, made := 0, 0; made < keys; i++ {
			value := fmt.Sprint(i)
			if shardOf(value) != 0 {
				continue
			}
			_, err := svc.Scope("a").DoFlow(ctx, value, request, flow)
			mustBe(b, err, nil)
			made++
		}
		time.Sleep(time.Second)
		visits.Store(0)
		during, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		completer := mustCompleterWith(b, svc, redisidem.CompleterConfig{Concurrency: 1}, flow)
		swept, err := completer.Sweep(during)
		mustBe(b, err, nil)
		if swept.Due != keys || visits.Load() != keys {
			b.Errorf("%d keys were visited %d times: %+v", keys, visits.Load(), swept)
		}
	})
}

// TestFlowWhoseStagesHangHoldsUpNoOther has more hanging keys than there are workers.
func TestFlowWhoseStagesHangHoldsUpNoOther(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var served atomic.Int64
		var client atomic.Bool
		client.Store(true)
		named := func(name string, work redisidem.StageFunc) *redisidem.Flow {
			return mustFlow(b, cart(func(c *redisidem.FlowConfig) {
				c.Name, c.RecoverAfter = name, time.Millisecond
				c.Stages[0].Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					if client.Load() {
						return redisidem.Outcome{}, errStage
					}
					return work(ctx, st)
				}
			}))
		}
		slow := named("slow", func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
			<-ctx.Done()
			return redisidem.Outcome{}, ctx.Err()
		})
		quick := named("quick", func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			served.Add(1)
			return redisidem.Finish(redisidem.JSON(200, nil)), nil
		})
		svc := b.service(redisidem.Config{})
		for i := range 12 {
			_, err := svc.Scope("a").DoFlow(ctx, fmt.Sprint("slow", i), request, slow)
			mustBe(b, err, errStage)
		}
		time.Sleep(time.Second)
		client.Store(false)
		completer := mustCompleterWith(b, svc, redisidem.CompleterConfig{Interval: time.Second, Drain: -1}, slow, quick)
		during, cancel := context.WithTimeout(ctx, 6*time.Second)
		defer cancel()
		ended := make(chan error)
		go func() { ended <- completer.Run(during) }()
		time.Sleep(time.Second)
		client.Store(true)
		for i := range 8 {
			_, err := svc.Scope("a").DoFlow(ctx, fmt.Sprint("quick", i), request, quick)
			mustBe(b, err, errStage)
		}
		client.Store(false)
		mustBe(b, <-ended, context.DeadlineExceeded)
		if served.Load() != 8 {
			b.Errorf("%d of 8 keys of the other flow were served", served.Load())
		}
	})
}

// TestLongTurnSilencesNoCompleterWithAShorterOne has a completer with an interval of an hour, which
// ends.
func TestLongTurnSilencesNoCompleterWithAShorterOne(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable))
		looks := func(interval, during time.Duration) int {
			before := b.requests
			ctx, cancel := context.WithTimeout(ctx, during)
			defer cancel()
			completer := mustCompleterWith(b, b.service(redisidem.Config{}), redisidem.CompleterConfig{Interval: interval}, flow)
			mustBe(b, completer.Run(ctx), context.DeadlineExceeded)
			return (b.requests - before) / 1024
		}
		if looks(time.Hour, 300*time.Millisecond) != 1 {
			b.Fatal("the first completer did not look")
		}
		if n := looks(50*time.Millisecond, time.Second); n < 10 {
			b.Errorf("a completer with a shorter interval looked %d times within 20 of them", n)
		}
		looks(time.Hour, 300*time.Millisecond)
		time.Sleep(15 * time.Second)
		if looks(time.Hour, 300*time.Millisecond) != 1 {
			b.Error("the turn of a completer that is gone was not over after 15 s")
		}
	})
}

// TestShutdownOfACompleterLetsStagesEnd has stages of two lengths, and one way after the other to
// end the completer.
func TestShutdownOfACompleterLetsStagesEnd(t *testing.T) {
	for name, closes := range map[string]bool{"its context ends": false, "the service is closed": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				client, begun := true, make(chan struct{}, 8)
				var causes atomic.Int64
				flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
					c.RecoverAfter, c.MaxAttempts = time.Millisecond, 3
					c.Stages[0].Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
						if client {
							return redisidem.Outcome{}, errStage
						}
						begun <- struct{}{}
						takes := 5 * time.Second
						if st.Key().Value == "long" {
							takes = time.Hour
						}
						select {
						case <-time.After(takes):
							return redisidem.Next(), nil
						case <-ctx.Done():
							causes.Add(1)
							return redisidem.Outcome{}, ctx.Err()
						}
					}
				}))
				look := b.service(redisidem.Config{}).Scope("a")
				for _, value := range []string{"short", "long"} {
					_, err := look.DoFlow(ctx, value, request, flow)
					mustBe(b, err, errStage)
				}
				client = false
				const shutdowns = 5
				for n := range shutdowns {
					time.Sleep(time.Hour)
					svc := b.service(redisidem.Config{MaxHold: -1})
					completer := mustCompleterWith(b, svc, redisidem.CompleterConfig{Drain: 10 * time.Second}, flow)
					during, cancel := context.WithCancel(ctx)
					ended := make(chan error)
					go func() { ended <- completer.Run(during) }()
					<-begun
					if n == 0 {
						<-begun
					}
					began := time.Now()
					want := context.Canceled
					if closes {
						want = redisidem.ErrClosed
						go func() { _ = svc.Close(ctx) }()
					} else {
						cancel()
					}
					err := <-ended
					cancel()
					mustBe(b, err, want)
					if text := err.Error(); text != want.Error() {
						b.Errorf("it ends with %q", text)
					}
					if took := time.Since(began); took < 9*time.Second || took > 12*time.Second {
						b.Errorf("it took %v to end", took)
					}
				}
				if causes.Load() != shutdowns {
					b.Errorf("%d stages were cancelled", causes.Load())
				}
				short, err := look.Retrieve(ctx, "short")
				mustBe(b, err, nil)
				long, err := look.Retrieve(ctx, "long")
				mustBe(b, err, nil)
				if !short.Finished() || long.DeadLetter != nil || long.Attempts != 1+shutdowns {
					b.Errorf("the short one is at %q, the long one %+v after %d attempts", short.RecoveryPoint, long.DeadLetter, long.Attempts)
				}
			})
		})
	}
}

// TestStageThatNamesItselfMayDoSoAsOftenAsItWants works off a list.
func TestStageThatNamesItselfMayDoSoAsOftenAsItWants(t *testing.T) {
	inBubble(t, func(b *bubble) {
		client := true
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[1].Next = []string{"taxed", "paid"}
			c.Stages[1].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				switch {
				case client:
					return redisidem.Outcome{}, errStage
				case st.Key().Revision < 40:
					return redisidem.Advance("taxed"), nil
				}
				return redisidem.Next(), nil
			}
		}))
		svc := b.service(redisidem.Config{})
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		client = false
		time.Sleep(time.Minute)
		mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, Finished: 1})
	})
}

// TestKeyThatNoProgramCanRunBecomesADeadLetter has a version and a stage that are not deployed any
// more.
func TestKeyThatNoProgramCanRunBecomesADeadLetter(t *testing.T) {
	for name, c := range map[string]struct {
		version int
		stages  func(*redisidem.FlowConfig)
		reason  string
	}{
		"version": {2, func(*redisidem.FlowConfig) {}, "no program for cart/1"},
		"stage": {1, func(c *redisidem.FlowConfig) {
			c.Stages = slices.Delete(c.Stages, 1, 2)
			c.Stages[0].Next = nil
		}, `no program for cart/1 at recovery point "taxed"`},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				var attempts []int
				broken := true
				old := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
					c.Stages[1].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
						attempts = append(attempts, st.Attempt())
						if broken {
							return redisidem.Outcome{}, errStage
						}
						return redisidem.Next(), nil
					}
				}))
				deployed := mustFlow(b, cart(recoverable, func(cfg *redisidem.FlowConfig) {
					cfg.Version, cfg.MaxAttempts = c.version, 6
				}, c.stages))
				events := &recorder{}
				svc := b.service(redisidem.Config{Retention: time.Hour, Observer: events})
				sc := svc.Scope("a")
				_, err := sc.DoFlow(ctx, "k", request, old)
				mustBe(b, err, errStage)
				completer := mustCompleter(b, svc, deployed)
				looks, began := 0, time.Now()
				var swept redisidem.SweepResult
				for swept.DeadLettered == 0 && looks < 20 {
					time.Sleep(time.Minute)
					swept, err = completer.Sweep(ctx)
					mustBe(b, err, nil)
					looks += int(swept.Due)
					b.mustBePlaced("a look")
				}
				// It is put off by 30 s and ever more, beyond the retention.
				if took := time.Since(began); looks != 6 || took < 15*time.Minute {
					b.Errorf("%d looks within %v", looks, took)
				}
				key, err := sc.Retrieve(ctx, "k")
				mustBe(b, err, nil)
				if key.DeadLetter == nil || key.DeadLetter.Reason != c.reason || key.Attempts != 1 || events.count(redisidem.EventDeadLettered) != 1 {
					b.Errorf("the letter is %+v after %d attempts; events: %v", key.DeadLetter, key.Attempts, events.kinds())
				}
				// When its program is back, one attempt was begun.
				broken = false
				mustBe(b, sc.Requeue(ctx, key), nil)
				mustSweep(b, mustCompleter(b, svc, old), redisidem.SweepResult{Due: 1, Finished: 1})
				if want := []int{1, 2}; !slices.Equal(attempts, want) {
					b.Errorf("the attempts were %v, want %v", attempts, want)
				}
			})
		})
	}
}
