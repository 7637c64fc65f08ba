package redisidem_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

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
			b.Errorf("%d keys are left in the due index, want the damaged one alone", found)
		}
		// Keys of flows that are not recoverable are in no index.
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

// TestIndexesEndWithTheirRecords checks that indexes expire where no completer runs any more.
func TestIndexesEndWithTheirRecords(t *testing.T) {
	onTwoServers(t, func(t *testing.T, e *env) {
		const retention = time.Hour
		svc, client := e.service(func(c *redisidem.Config) { c.Retention, c.DeadLetterRetention = retention, time.Second }), e.client()
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
				if strings.HasSuffix(name, "}:known") {
					continue // the names of the flows, which outlive records
				}
				left := client.PTTL(ctx, name).Val()
				if left < retention-time.Minute || left > retention+redisidem.DefaultLease {
					t.Errorf("%s has the TTL %v, want %v to %v", name, left, retention-time.Minute, retention+redisidem.DefaultLease)
				}
				if strings.Contains(name, "}:"+index+":") {
					names++
				}
			}
			if names != 1 {
				t.Errorf("there are %d sets %s in %v, want 1", names, index, e.keys(client))
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

// TestIndexStaysForRecordsThatOthersProlong locks the key of a flow now and then, without the flow.
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

// TestCompleterLeavesKeysOfAnotherFlowAlone deletes a key of one flow and uses it again with
// another flow, which gives an interim answer.
func TestCompleterLeavesKeysOfAnotherFlowAlone(t *testing.T) {
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

// TestCompletersShareTheWork lets two completers finish abandoned keys.
func TestCompletersShareTheWork(t *testing.T) {
	onTwoServers(t, func(t *testing.T, e *env) {
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

// TestFailingShardsDoNotKeepASweepFromTheOthers has more failing shards than a sweep has scanners.
func TestFailingShardsDoNotKeepASweepFromTheOthers(t *testing.T) {
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
			b.Errorf("the sweep took %v, want at most %v", took, 2*svc.Config().Timeout)
		}
		b.thaw()
	})
}

// TestHandedOutKeyWhoseClientCameMeanwhileIsLeftAlone keeps the only worker busy while the clients
// of waiting keys come back: one gets an interim answer, the other an error.
func TestHandedOutKeyWhoseClientCameMeanwhileIsLeftAlone(t *testing.T) {
	inBubble(t, func(b *bubble) {
		busy := make(chan struct{})
		does := map[string]string{"asks": "ask", "fails": "fail", "no client": "next"}
		for i := range 6 { // the worker soon takes one, and the eight scanners hand out all keys
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
			b.Errorf("the keys were run at once: %v", runs)
		}
		key, err := sc.Retrieve(ctx, "no client")
		mustBe(b, err, nil)
		if !key.Finished() || b.lock() != "" {
			b.Errorf("the key is %+v, the lock %q", key, b.lock())
		}
		time.Sleep(3 * time.Minute)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, Failed: 1}) // the one whose client is not expected back
	})
}

// shardOf returns the shard of a key in scope "a".
func shardOf(value string) uint16 {
	sum := protocol.DigestOf("a", value)
	return binary.BigEndian.Uint16(sum[24:]) >> 6
}

// TestShardWithManyKeysDoesNotHoldUpOthers has a flow whose keys are due again as soon as they were
// run.
func TestShardWithManyKeysDoesNotHoldUpOthers(t *testing.T) {
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
			b.Errorf("%d of 16 others were run, want 16, and the crowd %d times", others.Load(), crowd.Load())
		}
	})
}

// TestSweepEndsAlthoughItsKeysAreDueAgain has keys that take longer in total than the time until
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
		const keys = 300 // of one shard, of which a completer holds fewer at a time
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
