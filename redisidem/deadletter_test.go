package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// mustBePlaced checks that each unfinished key of a flow is in exactly one of the due index and the dead letters, and a finished one
// not among the dead letters that are reported.
func (b *bubble) mustBePlaced(after string) {
	b.Helper()
	for _, record := range b.server.Keys() {
		flow := b.server.HGet(record, "flow")
		if flow == "" {
			continue
		}
		open := strings.LastIndex(record, ":") + 1
		places := 0
		for _, index := range []string{"due", "dead"} {
			name, _, _ := strings.Cut(flow, "/")
			if members, err := b.server.ZMembers(record[:open] + index + ":" + name); err == nil {
				for _, member := range members {
					if member == record[open:] {
						places++
					}
				}
			}
		}
		letter, finished := b.server.HGet(record, "dead_letter") != "", b.server.HGet(record, "recovery_point") == redisidem.Finished
		if finished && letter || !finished && places != 1 {
			b.Fatalf("after %s the key is in %d indexes, finished: %v, with a letter: %v", after, places, finished, letter)
		}
	}
}

// operations are what an operator may do to a key, by hand. Each leaves errors to the caller's order.
var operations = map[string]func(b *bubble, sc *redisidem.Scope, key *redisidem.Key){
	"update": func(_ *bubble, sc *redisidem.Scope, key *redisidem.Key) {
		_, _ = sc.Update(ctx, key, redisidem.Interim(key.RecoveryPoint, redisidem.JSON(202, "looked at")))
	},
	"lock and abandon": func(b *bubble, sc *redisidem.Scope, key *redisidem.Key) {
		mustBe(b, locked(b, sc, key.Value).Abandon(ctx), nil)
	},
	"lock and commit": func(b *bubble, sc *redisidem.Scope, key *redisidem.Key) {
		_, err := locked(b, sc, key.Value).Commit(ctx, redisidem.Interim(key.RecoveryPoint, redisidem.JSON(202, "done by hand")))
		mustBe(b, err, nil)
	},
	"lock, commit and keep": func(b *bubble, sc *redisidem.Scope, key *redisidem.Key) {
		to := map[string]string{"started": "taxed", "taxed": "paid", "paid": "taxed"}[key.RecoveryPoint]
		lease := locked(b, sc, key.Value)
		_, _, err := lease.CommitKeep(ctx, redisidem.Advance(to))
		mustBe(b, err, nil)
		mustBe(b, lease.Renew(ctx), nil)
		b.mustBePlaced("the kept commit")
		mustBe(b, lease.Abandon(ctx), nil)
	},
	"lock and unlock": func(b *bubble, sc *redisidem.Scope, key *redisidem.Key) {
		lease := locked(b, sc, key.Value)
		b.mustBePlaced("the lock")
		mustBe(b, sc.Unlock(ctx, key.Value), nil)
		_ = lease.Abandon(ctx)
	},
	"work a stage": func(b *bubble, sc *redisidem.Scope, key *redisidem.Key) {
		_, err := sc.WorkStage(ctx, key, outcome(redisidem.Interim(key.RecoveryPoint, redisidem.JSON(202, "by hand"))))
		mustBe(b, err, nil)
	},
	"work a stage that fails": func(b *bubble, sc *redisidem.Scope, key *redisidem.Key) {
		_, err := sc.WorkStage(ctx, key, fails(errStage))
		mustBe(b, err, errStage)
	},
	"requeue": func(b *bubble, sc *redisidem.Scope, key *redisidem.Key) {
		err := sc.Requeue(ctx, key)
		if (err == nil) != (key.DeadLetter != nil) {
			b.Errorf("requeue: %v, of the dead letter %+v", err, key.DeadLetter)
		}
	},
}

// TestKeyStaysInOneIndexWhateverAnOperatorDoes tries each pair of operations on a dead letter and on a key that is due, and has the
// client come back behind them.
func TestKeyStaysInOneIndexWhateverAnOperatorDoes(t *testing.T) {
	inBubble(t, func(b *bubble) {
		broken := true
		var flows [2]*redisidem.Flow
		for i, attempts := range []int{1, 5} { // dead letters, and keys that are due
			flows[i] = mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
				c.Name, c.MaxAttempts = fmt.Sprintf("after%d", attempts), attempts
				work := c.Stages[1].Work
				c.Stages[1].Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					if broken {
						return redisidem.Outcome{}, errStage
					}
					return work(ctx, st)
				}
			}))
		}
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		completer := mustCompleter(b, svc, flows[:]...)
		names := slices.Sorted(maps.Keys(operations))
		each := func(do func(value, first, second string, flow *redisidem.Flow)) {
			for _, first := range names {
				for _, second := range names {
					for _, flow := range flows {
						value := fmt.Sprintf("%s, then %s on %s", first, second, flow)
						do(value, first, second, flow)
						b.mustBePlaced(value)
					}
				}
			}
		}
		each(func(value, _, _ string, flow *redisidem.Flow) {
			_, err := sc.DoFlow(ctx, value, request, flow)
			mustBe(b, err, errStage)
		})
		time.Sleep(time.Minute)
		n := int64(len(names) * len(names))
		mustSweep(b, completer, redisidem.SweepResult{Due: 2 * n, Failed: n, DeadLettered: n})
		read := func(value string) *redisidem.Key {
			key, err := sc.Retrieve(ctx, value)
			mustBe(b, err, nil)
			return key
		}
		each(func(value, first, second string, flow *redisidem.Flow) {
			operations[first](b, sc, read(value))
			b.mustBePlaced(value)
			operations[second](b, sc, read(value))
			b.mustBePlaced(value)
			_, _ = sc.DoFlow(ctx, value, request, flow)
		})

		// Whatever was done, a key is finished once it is no dead letter and its work goes.
		broken = false
		for range 2 { // what used up its attempts meanwhile becomes a dead letter first
			time.Sleep(2 * time.Hour)
			_, err := completer.Sweep(ctx)
			mustBe(b, err, nil)
			for _, flow := range flows {
				for key, err := range svc.DeadLetters(ctx, flow.Config().Name) {
					mustBe(b, err, nil)
					mustBe(b, sc.Requeue(ctx, key), nil)
				}
			}
		}
		_, err := completer.Sweep(ctx)
		mustBe(b, err, nil)
		each(func(value, _, _ string, _ *redisidem.Flow) {
			if key := read(value); !key.Finished() {
				b.Errorf("%s: the key is at %q", value, key.RecoveryPoint)
			}
		})
		if b.indexed("due")+b.indexed("dead") != 0 {
			b.Errorf("%d are due and %d dead", b.indexed("due"), b.indexed("dead"))
		}
	})
}

// TestCorrectedDeadLetterIsCarriedOn has an operator who moves the key past the stage that fails.
func TestCorrectedDeadLetterIsCarriedOn(t *testing.T) {
	onTwoServers(t, func(t *testing.T, e *env) {
		flow := mustFlow(t, cart(func(c *redisidem.FlowConfig) {
			c.RecoverAfter, c.MaxAttempts = time.Millisecond, 1
			c.Stages[1].Work = fails(errStage)
		}))
		svc := e.service()
		sc := svc.Scope("a")
		completer := mustCompleter(t, svc, flow)
		early := make(map[string]*redisidem.Key)
		for _, value := range []string{"updated", "worked", "seen before", "ended"} {
			key, err := sc.InitializeRequest(ctx, value, request)
			mustBe(t, err, nil)
			early[value] = key
			_, err = sc.DoFlow(ctx, value, request, flow)
			mustBe(t, err, errStage)
		}
		time.Sleep(10 * time.Millisecond)
		mustSweep(t, completer, redisidem.SweepResult{Due: 4, DeadLettered: 4})
		for value, key := range early {
			dead, err := sc.Retrieve(ctx, value)
			mustBe(t, err, nil)
			switch value {
			case "updated":
				key, err := sc.Update(ctx, dead, redisidem.Advance("paid"))
				mustBe(t, err, nil)
				if key.DeadLetter == nil || key.DeadLetter.Reason != dead.DeadLetter.Reason {
					t.Errorf("after the update its letter is %+v", key.DeadLetter)
				}
				mustBe(t, sc.Requeue(ctx, key), nil)
			case "worked", "seen before":
				if value == "seen before" { // when it had no flow yet, and nothing was committed since
					key.Revision, key.RecoveryPoint = dead.Revision, dead.RecoveryPoint
					dead = key
				}
				key, err := sc.WorkStage(ctx, dead, outcome(redisidem.Advance("paid")))
				mustBe(t, err, nil)
				if key.DeadLetter != nil || key.RecoveryPoint != "paid" {
					t.Errorf("after the stage the key is %+v", key)
				}
				mustBe(t, sc.Requeue(ctx, key), redisidem.ErrNotFound) // a completer comes by itself
				_, err = sc.DoFlow(ctx, value, request, flow)
				mustBe(t, err, nil)
			case "ended":
				_, err := sc.Update(ctx, dead, redisidem.Finish(redisidem.JSON(410, "given up")))
				mustBe(t, err, nil)
			}
		}
		for letter, err := range svc.DeadLetters(ctx, "cart") {
			mustBe(t, err, nil)
			t.Errorf("dead letter %q is still listed", letter.Value)
		}
		mustSweep(t, completer, redisidem.SweepResult{Due: 1, Finished: 1})
	})
}

// TestRequeueBringsBackAKeyThatNoIndexHas has lost the due index.
func TestRequeueBringsBackAKeyThatNoIndexHas(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable))
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		failing := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) { c.Stages[1].Work = fails(errStage) }))
		key, err := sc.DoFlow(ctx, "k", request, failing)
		mustBe(b, err, errStage)
		mustBe(b, sc.Requeue(ctx, key), redisidem.ErrNotFound) // which is due
		b.lose("due")
		mustBe(b, sc.Requeue(ctx, key), nil)
		mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, Finished: 1})
	})
}

// TestDeadLetterIsListedAsLongAsItsRecordLives has somebody who prolongs the record of a dead
// letter and leaves the letter where it is, and another key of that shard which becomes a dead
// letter later.
func TestDeadLetterIsListedAsLongAsItsRecordLives(t *testing.T) {
	const retention = time.Hour
	const hasty = "lock, and another process that keeps its records for less long"
	lock := func(b *bubble, sc *redisidem.Scope) *redisidem.Lease {
		lease, err := sc.Lock(ctx, "k")
		mustBe(b, err, nil)
		return lease
	}
	update := func(b *bubble, sc *redisidem.Scope) {
		key, err := sc.Retrieve(ctx, "k")
		mustBe(b, err, nil)
		_, err = sc.Update(ctx, key, redisidem.Advance("taxed"))
		mustBe(b, err, nil)
	}
	for name, prolong := range map[string]func(*bubble, *redisidem.Scope, *redisidem.Flow){
		"client that fails again": func(b *bubble, sc *redisidem.Scope, flow *redisidem.Flow) {
			_, err := sc.DoFlow(ctx, "k", request, flow)
			mustBe(b, err, errStage)
		},
		"stage that fails again": func(b *bubble, sc *redisidem.Scope, _ *redisidem.Flow) {
			key, err := sc.Retrieve(ctx, "k")
			mustBe(b, err, nil)
			_, err = sc.WorkStage(ctx, key, fails(errStage))
			mustBe(b, err, errStage)
		},
		"call without the flow": func(b *bubble, sc *redisidem.Scope, _ *redisidem.Flow) {
			_, err := sc.Do(ctx, "k", request, fails(errStage))
			mustBe(b, err, errStage)
		},
		"update": func(b *bubble, sc *redisidem.Scope, _ *redisidem.Flow) { update(b, sc) },
		"lock":   func(b *bubble, sc *redisidem.Scope, _ *redisidem.Flow) { mustBe(b, lock(b, sc).Abandon(ctx), nil) },
		hasty:    func(b *bubble, sc *redisidem.Scope, _ *redisidem.Flow) { mustBe(b, lock(b, sc).Abandon(ctx), nil) },
		"lock that is held for long, and lost": func(b *bubble, sc *redisidem.Scope, _ *redisidem.Flow) {
			lease := lock(b, sc)
			time.Sleep(50 * time.Minute)
			b.freeze()
			time.Sleep(2 * redisidem.DefaultLease)
			b.thaw()
			_ = lease.Abandon(ctx)
		},
		"lock that is taken away": func(b *bubble, sc *redisidem.Scope, _ *redisidem.Flow) {
			lease := lock(b, sc)
			mustBe(b, sc.Unlock(ctx, "k"), nil)
			_ = lease.Abandon(ctx)
		},
		"update after the list was lost": func(b *bubble, sc *redisidem.Scope, _ *redisidem.Flow) {
			b.lose("dead")
			update(b, sc)
		},
		"lock after the list was lost": func(b *bubble, sc *redisidem.Scope, _ *redisidem.Flow) {
			b.lose("dead")
			mustBe(b, lock(b, sc).Abandon(ctx), nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				svc := b.service(redisidem.Config{Retention: retention, MaxHold: -1})
				sc := svc.Scope("a")
				flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
					c.MaxAttempts = 1
					c.Stages[2].Work = fails(errStage)
				}))
				others := svc
				if name == hasty {
					others = b.service(redisidem.Config{Retention: retention / 4})
				}
				bury := func(svc *redisidem.Service, value string) {
					_, err := svc.Scope("a").DoFlow(ctx, value, request, flow)
					mustBe(b, err, errStage)
					time.Sleep(time.Minute)
					mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, DeadLettered: 1})
				}
				bury(svc, "k")
				time.Sleep(retention - 5*time.Minute)
				prolong(b, sc, flow)
				looks := 0
				for ; looks < 10; looks++ {
					key, err := sc.Retrieve(ctx, "k")
					if errors.Is(err, redisidem.ErrNotFound) {
						break
					}
					mustBe(b, err, nil)
					if key.DeadLetter == nil {
						b.Fatalf("after %d looks it is no dead letter, at %q", looks, key.RecoveryPoint)
					}
					b.mustBePlaced(fmt.Sprintf("%d looks", looks))
					other := ""
					for i := 0; shardOf(other) != shardOf("k"); i++ {
						other = fmt.Sprintf("other %d in look %d", i, looks)
					}
					bury(others, other)
					time.Sleep(20 * time.Minute)
				}
				if looks != 3 {
					b.Errorf("the record was seen %d times, want 3", looks)
				}
				// Nothing is left for ever.
				time.Sleep(2 * retention)
				if keys := b.server.Keys(); len(keys) != 0 {
					b.Errorf("%v are left", keys)
				}
			})
		})
	}
}

// lose removes the indexes of a kind.
func (b *bubble) lose(kind string) {
	for _, name := range b.server.Keys() {
		if strings.Contains(name, "}:"+kind+":") {
			b.server.Del(name)
		}
	}
}
