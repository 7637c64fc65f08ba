package redisidem_test

import (
	"context"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// TestReindexFindsKeysThatNoIndexHas deletes the indexes of a flow, in which a key is a dead letter
// and the others are due, and rebuilds them.
func TestReindexFindsKeysThatNoIndexHas(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		in := e.inEveryState()
		raw := e.client()
		failing := mustFlow(t, cart(recoverable, func(c *redisidem.FlowConfig) { c.Stages[0].Work = fails(errStage) }))
		keys := e.many(300)
		for i := range keys {
			_, err := in.svc.Scope("lost").DoFlow(ctx, fmt.Sprint(i), request, failing)
			mustBe(t, err, errStage)
		}
		lost := 0
		for _, pattern := range []string{"*:due:cart", "*:dead:cart"} {
			for _, index := range e.everything(raw) {
				if matched, _ := path.Match(pattern, index); !matched {
					continue
				}
				lost += int(raw.ZCard(ctx, index).Val())
				mustBe(t, raw.Del(ctx, index).Err(), nil)
			}
		}
		if lost != keys+2 { // with one that is due and a dead letter
			t.Fatalf("the indexes had %d keys", lost)
		}
		// It is left and continued after the first step, and done again.
		entered, cursor := 0, ""
		for p, err := range in.Reindex(ctx, "cart", time.Hour, cursor, act) {
			mustBe(t, err, nil)
			entered, cursor = p.Entered, p.Next
			break
		}
		for range 2 {
			more := 0
			for p, err := range in.Reindex(ctx, "cart", time.Hour, cursor, act) {
				mustBe(t, err, nil)
				more, cursor = p.Entered, p.Next
			}
			entered += more
		}
		// A give-back whose reply was late may be repeated meanwhile, and enters its key itself.
		if entered > lost || entered < lost/2 {
			t.Errorf("%d keys were entered, and %d lost", entered, lost)
		}
		if key := in.mustGet(t, "due", redisidem.KeyIdle); key.Due.Before(key.At.Add(59 * time.Minute)) {
			t.Errorf("the key is due at %v", key.Due)
		}
		indexes, err := in.FlowIndexes(ctx, "cart")
		mustBe(t, err, nil)
		if len(indexes) != 1 || indexes[0].Due != int64(keys+1) || indexes[0].Dead != 1 {
			t.Errorf("the indexes are %+v", indexes)
		}
	})
}

// TestReindexEntersADeadLetterInWork loses the list of dead letters while a client works on one.
func TestReindexEntersADeadLetterInWork(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		flow := mustFlow(b, cart(recoverable, failsAt("taxed"), func(c *redisidem.FlowConfig) { c.MaxAttempts = 1 }))
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		untilDeadLettered(b, svc.Scope("a"), mustCompleter(b, svc, flow), time.Minute)
		_, err = svc.Scope("a").DoFlow(ctx, "k", request, mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				for _, name := range b.server.Keys() {
					if strings.Contains(name, "}:dead:") {
						b.server.Del(name)
					}
				}
				for _, err := range redisidem.NewInspector(svc).Reindex(ctx, "cart", time.Hour, "", act) {
					mustBe(b, err, nil)
				}
				return redisidem.Outcome{}, errStage
			}
		})))
		mustBe(b, err, errStage)
		if b.indexed("dead") != 1 || b.indexed("due") != 0 {
			b.Errorf("%d dead letters, %d due", b.indexed("dead"), b.indexed("due"))
		}
	})
}
