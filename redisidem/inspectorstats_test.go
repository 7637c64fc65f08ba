package redisidem_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
)

// onServerOfItsOwn returns the environment of a test that counts the keys of a whole server.
func onServerOfItsOwn(t *testing.T) *env {
	t.Helper()
	server := rediscase.Server(t)
	return &env{t: t, real: true, namespace: freshNamespace(), client: func() redis.UniversalClient {
		client := redis.NewClient(options(server.Addr(), 3))
		t.Cleanup(func() { _ = client.Close() })
		return client
	}}
}

func TestStatsCountFewKeys(t *testing.T) {
	t.Parallel()
	e := onServerOfItsOwn(t)
	in := e.inEveryState()
	stats, err := in.Stats(ctx)
	mustBe(t, err, nil)
	want := make(map[redisidem.KeyState]redisidem.Estimate)
	for _, state := range redisidem.KeyStates() {
		want[state] = redisidem.Estimate{Count: 1}
	}
	want[redisidem.KeyIdle] = redisidem.Estimate{Count: 2}
	if stats.Records != (redisidem.Estimate{Count: 9}) || stats.Drawn != 0 || !maps.Equal(stats.States, want) {
		t.Errorf("%+v", stats)
	}
	_, err = in.Stats(ctx, "cart", "*")
	mustBeInvalid(t, err, "flows", "*")
	if len(stats.Flows) != 1 || stats.Flows[0] != (redisidem.FlowIndex{Name: "cart", Due: 1, Overdue: 1, Dead: 1}) {
		t.Errorf("flows: %+v", stats.Flows)
	}
	// A completer has swept the flow, which is enough to remember it.
	for _, named := range [][]string{nil, {"cart", "no-such-flow"}} {
		indexes, err := in.FlowIndexes(ctx, named...)
		mustBe(t, err, nil)
		want := slices.Clone(stats.Flows)
		if len(named) > 0 {
			want = append(want, redisidem.FlowIndex{Name: "no-such-flow"})
		}
		if !slices.Equal(indexes, want) {
			t.Errorf("the indexes are %+v, want %+v", indexes, want)
		}
	}
	_, err = in.FlowIndexes(ctx, "*")
	mustBeInvalid(t, err, "flows", "*")
}

// TestStatsEstimateManyKeys compares estimates with what is there, beside keys of another program
// and keys that have expired, which a server removes little by little.
func TestStatsEstimateManyKeys(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ copies, others, expired int }{{20000, 10000, 10000}, {8000, 2000, 90000}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			t.Parallel()
			estimatesOf(t, c.copies, c.others, c.expired)
		})
	}
}

// estimatesOf compares estimates with what is there, for numbers of unreadable records, of keys of
// another program, and of keys that have expired.
func estimatesOf(t *testing.T, copies, others, expired int) {
	t.Helper()
	e := onServerOfItsOwn(t)
	svc, raw := e.service(), e.client()
	in := redisidem.NewInspector(svc)
	key := start(t, svc.Scope("a"), "k")
	record, _ := e.place(key)
	fields := raw.HGetAll(ctx, record).Val()
	// Copies of the record under other names are unreadable, and they cost one round trip.
	const batch = 1000
	mustBe(t, raw.Do(ctx, "DEBUG", "SET-ACTIVE-EXPIRE", "0").Err(), nil)
	for i := 0; i < copies+others+expired; i += batch { // a busy machine does not send all in one write in time
		_, err := raw.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for n := i; n < i+batch; n++ {
				name := fmt.Sprintf("%s:{%03x}:%032d", e.namespace, n%1024, n)
				switch {
				case n < copies:
					pipe.HSet(ctx, name, fields)
				case n < copies+others:
					pipe.Set(ctx, fmt.Sprintf("other:%d", n), "", 0)
				default:
					pipe.Set(ctx, name, "", time.Millisecond)
				}
			}
			return nil
		})
		mustBe(t, err, nil)
	}
	flow := mustFlow(t, cart(recoverable, func(c *redisidem.FlowConfig) { c.Stages[0].Work = fails(errStage) }))
	_, err := svc.Scope("a").DoFlow(ctx, "due", request, flow)
	mustBe(t, err, errStage)
	stats, err := in.Stats(ctx, "cart", "no-such-flow")
	mustBe(t, err, nil)
	if want := []redisidem.FlowIndex{{Name: "cart", Due: 1}, {Name: "no-such-flow"}}; !slices.Equal(stats.Flows, want) {
		t.Errorf("flows: %+v", stats.Flows)
	}
	// Five times as far off as one in twenty estimates is.
	for name, c := range map[string]struct {
		e    redisidem.Estimate
		want int
	}{"records": {stats.Records, copies + 2}, "unreadable": {stats.States[redisidem.KeyUnreadable], copies}} {
		if c.e.Error < 100 || c.e.Error > 1000 || math.Abs(float64(c.e.Count-int64(c.want))) > float64(5*c.e.Error) {
			t.Errorf("%s: %+v, want about %d", name, c.e, c.want)
		}
	}
	if stats.Drawn < 2500 || stats.Drawn > 5000 {
		t.Errorf("%d records were drawn", stats.Drawn)
	}
}

// TestStatsOfRareStates has few keys in each state beside many Redis keys of another program.
func TestStatsOfRareStates(t *testing.T) {
	t.Parallel()
	e := onServerOfItsOwn(t)
	in := e.inEveryState()
	raw := e.client()
	const others, batch = 60_000, 1000
	for i := 0; i < others; i += batch {
		words := make([]any, 0, 2*batch)
		for n := i; n < i+batch; n++ {
			words = append(words, fmt.Sprint("other:", n), "")
		}
		mustBe(t, raw.MSet(ctx, words...).Err(), nil)
	}
	// The flow is neither named nor, as a rule, drawn.
	stats, err := in.Stats(ctx)
	mustBe(t, err, nil)
	if stats.States[redisidem.KeyDead] != (redisidem.Estimate{Count: 1}) {
		t.Errorf("the dead letter is not counted: %+v", stats.States[redisidem.KeyDead])
	}
	if len(stats.Flows) != 1 || stats.Flows[0] != (redisidem.FlowIndex{Name: "cart", Due: 1, Overdue: 1, Dead: 1}) {
		t.Errorf("flows: %+v", stats.Flows)
	}
	for _, state := range redisidem.KeyStates() {
		e, shown := stats.States[state]
		if !shown || state != redisidem.KeyDead && (e.Error == 0 || e.Count-e.Error > 2 || e.Count+e.Error < 1) {
			t.Errorf("%v: %+v, %v; there are one or two", state, e, shown)
		}
	}
}

// TestCompletersRememberTheirFlows has flows that completers have scanned in some way, also long
// ago.
func TestCompletersRememberTheirFlows(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		in := redisidem.NewInspector(svc)
		swept := mustCompleter(b, svc, mustFlow(b, cart(recoverable)))
		_, err := swept.Sweep(ctx)
		mustBe(b, err, nil)
		b.runFor(mustCompleter(b, svc, mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) { c.Name = "other" }))), time.Minute)
		time.Sleep(399 * 24 * time.Hour)
		want := []redisidem.FlowIndex{{Name: "cart"}, {Name: "other"}}
		if indexes, err := in.FlowIndexes(ctx); err != nil || !slices.Equal(indexes, want) {
			b.Errorf("the indexes are %+v, %v", indexes, err)
		}
		_, err = swept.Sweep(ctx)
		mustBe(b, err, nil)
		time.Sleep(399 * 24 * time.Hour)
		if indexes, err := in.FlowIndexes(ctx); err != nil || !slices.Equal(indexes, want) {
			b.Errorf("after another sweep the indexes are %+v, %v", indexes, err)
		}
		time.Sleep(48 * time.Hour)
		if indexes, err := in.FlowIndexes(ctx); err != nil || len(indexes) > 0 {
			b.Errorf("long after the last sweep the indexes are %+v, %v", indexes, err)
		}
	})
}

func TestOpenFlowsAreTheVersionsInUse(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		in := e.inEveryState()
		second := mustFlow(t, cart(func(c *redisidem.FlowConfig) { c.Version = 2 }))
		_, err := in.svc.Scope("new").DoFlow(ctx, "key", request, second)
		mustBe(t, err, nil)
		flows, err := in.OpenFlows(ctx)
		mustBe(t, err, nil)
		if len(flows) != 2 || flows[0].Flow != "" || flows[1].Flow != "cart/1" {
			t.Fatalf("%+v", flows)
		}
		if none := flows[0]; none.Open != 5 || none.States[redisidem.KeyInFlight] != 1 || none.States[redisidem.KeyInterrupted] != 1 {
			t.Errorf("without a flow: %+v", none)
		}
		if v1 := flows[1]; v1.Open != 2 || v1.States[redisidem.KeyDead] != 1 || v1.States[redisidem.KeyIdle] != 1 || time.Since(v1.Oldest) > time.Hour {
			t.Errorf("cart/1: %+v", v1)
		}
	})
}
