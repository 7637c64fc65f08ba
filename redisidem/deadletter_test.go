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

// mustBePlaced checks that each unfinished key of a flow is in exactly one of the due index and the
// dead letters, and that no finished key is reported as a dead letter.
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
			b.Fatalf("after %s the key is in %d indexes, finished: %v, a dead letter: %v", after, places, finished, letter)
		}
	}
}

// operations are the calls that an operator may make on a key by hand. Whether they succeed depends
// on the calls before them.
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
			b.Errorf("requeue returns %v for the dead letter %+v", err, key.DeadLetter)
		}
	},
}

// TestKeyStaysInOneIndexWhateverAnOperatorDoes tries each pair of operations on a dead letter and
// on a key that is due. The client comes back after them.
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

		// Whatever was done, a key can be finished once it is not a dead letter and its work
		// succeeds.
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

// TestCorrectedDeadLetterIsCompleted has an operator who moves the key past the stage that fails.
func TestCorrectedDeadLetterIsCompleted(t *testing.T) {
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
					t.Errorf("after the update the dead letter is %+v, want the one before", key.DeadLetter)
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
				mustBe(t, sc.Requeue(ctx, key), redisidem.ErrNotFound) // it is due already
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

// TestRequeueBringsBackAKeyThatNoIndexHas requeues a key after the due index was lost.
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

// TestDeadLetterIsListedAsLongAsItsRecordLives extends the record of a dead letter without moving
// the letter, while other keys of its shard become dead letters.
func TestDeadLetterIsListedAsLongAsItsRecordLives(t *testing.T) {
	const retention = time.Hour
	const shorter = "lock, and another process that keeps its records for less long"
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
		shorter:  func(b *bubble, sc *redisidem.Scope, _ *redisidem.Flow) { mustBe(b, lock(b, sc).Abandon(ctx), nil) },
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
				svc := b.service(redisidem.Config{Retention: retention, DeadLetterRetention: time.Second, MaxHold: -1})
				sc := svc.Scope("a")
				flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
					c.MaxAttempts = 1
					c.Stages[2].Work = fails(errStage)
				}))
				others := svc
				if name == shorter {
					others = b.service(redisidem.Config{Retention: retention / 4, DeadLetterRetention: time.Second})
				}
				deadLetter := func(svc *redisidem.Service, value string) {
					_, err := svc.Scope("a").DoFlow(ctx, value, request, flow)
					mustBe(b, err, errStage)
					time.Sleep(time.Minute)
					mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, DeadLettered: 1})
				}
				deadLetter(svc, "k")
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
						b.Fatalf("at look %d it is not a dead letter, at %q", looks, key.RecoveryPoint)
					}
					b.mustBePlaced(fmt.Sprintf("%d looks", looks))
					other := ""
					for i := 0; shardOf(other) != shardOf("k"); i++ {
						other = fmt.Sprintf("other %d in look %d", i, looks)
					}
					deadLetter(others, other)
					time.Sleep(20 * time.Minute)
				}
				if looks != 3 {
					b.Errorf("the record was found %d times, want 3", looks)
				}
				// Nothing stays for ever.
				time.Sleep(2 * retention)
				// The names of flows stay for longer.
				keys := slices.DeleteFunc(b.server.Keys(), func(k string) bool { return strings.HasSuffix(k, ":known") })
				if len(keys) != 0 {
					b.Errorf("%v are left, want no key", keys)
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

// TestFailingKeyBecomesADeadLetterBeforeItExpires has pauses that would double beyond the
// retention.
func TestFailingKeyBecomesADeadLetterBeforeItExpires(t *testing.T) {
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

func TestClientCanContinueADeadLetter(t *testing.T) {
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
			b.Errorf("listed %d, want 1", n)
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
			b.Errorf("%d dead letters are left, want 0", b.indexed("dead"))
		}

		alien := start(b, sc, "no flow")
		mustBeInvalid(b, sc.Requeue(ctx, alien), "key", "no flow")
		for _, err := range svc.DeadLetters(ctx, "cart/1") {
			mustBeInvalid(b, err, "flow", "cart/1")
		}
	})
}

// TestContinuedDeadLetterIsNoLongerOne has a client that comes back and reaches the next stage.
func TestContinuedDeadLetterIsNoLongerOne(t *testing.T) {
	onTwoServers(t, func(t *testing.T, e *env) {
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
			t.Errorf("%+v, %v is listed, want no dead letter", letter, err)
		}
		if key.DeadLetter != nil {
			t.Errorf("the dead letter is %+v, want none", key.DeadLetter)
		}
		mustBe(t, sc.Requeue(ctx, key), redisidem.ErrNotFound)
		// It becomes a dead letter again for its new reason.
		time.Sleep(5 * time.Millisecond)
		mustSweep(t, completer, redisidem.SweepResult{Due: 1, DeadLettered: 1})
		for letter, err := range svc.DeadLetters(ctx, "cart") {
			mustBe(t, err, nil)
			if letter.DeadLetter.Reason != `stage "paid" of cart/1: 1 attempt` {
				t.Errorf("the reason is %q", letter.DeadLetter.Reason)
			}
			mustBe(t, sc.Requeue(ctx, letter), nil)
		}
	})
}

// TestRevivedDeadLetterIsDueAsLongAsItsRecordLives has a dead letter, which lives longer than other
// keys, a stage that its client's retry commits, and one that fails again.
func TestRevivedDeadLetterIsDueAsLongAsItsRecordLives(t *testing.T) {
	onTwoServers(t, func(t *testing.T, e *env) {
		const days = 24 * time.Hour
		svc, client := e.service(func(c *redisidem.Config) { c.Retention, c.DeadLetterRetention = time.Hour, 30*days }), e.client()
		failing := 1
		var life, left time.Duration // of the record and of the due index, right after the commit
		flow := mustFlow(t, cart(func(c *redisidem.FlowConfig) {
			c.RecoverAfter, c.MaxAttempts = time.Millisecond, 1
			for i := range c.Stages {
				work := c.Stages[i].Work
				c.Stages[i].Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					if i == failing {
						record, _ := e.place(st.Key())
						life = client.PTTL(ctx, record).Val()
						left = client.PTTL(ctx, record[:strings.LastIndex(record, ":")]+":due:cart").Val()
						return redisidem.Outcome{}, errStage
					}
					return work(ctx, st)
				}
			}
		}))
		sc := svc.Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, errStage)
		time.Sleep(5 * time.Millisecond)
		mustSweep(t, mustCompleter(t, svc, flow), redisidem.SweepResult{Due: 1, DeadLettered: 1})
		failing = 2
		_, err = sc.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, errStage)
		if life < 29*days || left < life-time.Minute {
			t.Errorf("the record lives for %v, and the due index for %v", life, left)
		}
		time.Sleep(5 * time.Millisecond)
		mustSweep(t, mustCompleter(t, svc, flow), redisidem.SweepResult{Due: 1, DeadLettered: 1})
	})
}

// TestDamagedDeadLetterDoesNotHideOthers damages one record and two lists of dead letters.
func TestDamagedDeadLetterDoesNotHideOthers(t *testing.T) {
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
			b.Errorf("%d keys are listed, want 10; %d damaged lists are not reported", len(found), lists)
		}
		b.freeze()
		reported := 0
		for key, err := range svc.DeadLetters(ctx, "cart") {
			mustBe(b, err, redisidem.ErrUnavailable)
			reported++
			if key != nil {
				b.Errorf("the key is %+v", key)
			}
		}
		if reported != 1 {
			b.Errorf("the outage is reported %d times, want once", reported)
		}
		b.thaw()
	})
}

func TestUnreadableKeyBecomesADeadLetter(t *testing.T) {
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
		untilDeadLettered(b, sc, mustCompleter(b, without, flow), 50*time.Minute)
		found := 0
		for _, e := range events.all() {
			if e.Kind == redisidem.EventDeadLettered {
				found++
				if e.Scope != "a" || e.Stage != "taxed" || e.Flow != "cart/1" || !errors.Is(e.Err, redisidem.ErrDamaged) {
					b.Errorf("the event is %+v", e)
				}
			}
		}
		if found != 1 {
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

// unlocker is an observer that unlocks a key as soon as it is claimed.
type unlocker struct{ sc *redisidem.Scope }

func (u *unlocker) Observe(_ context.Context, e redisidem.Event) {
	if e.Kind == redisidem.EventClaimed {
		_ = u.sc.Unlock(ctx, "k")
	}
}

func TestKeyWhoseLeaseIsGoneIsNotDeadLettered(t *testing.T) {
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
			b.Errorf("the dead letter is %+v; %d dead, %d due, want 0 and 1", key.DeadLetter, b.indexed("dead"), b.indexed("due"))
		}
	})
}

// TestKeyThatNoProgramCanRunBecomesADeadLetter has a version and a stage that are no longer
// deployed.
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
					b.mustBePlaced("a sweep")
				}
				// It is postponed by 30 s and ever more, beyond the retention.
				if took := time.Since(began); looks != 6 || took < 15*time.Minute {
					b.Errorf("%d looks within %v, want 6 in at least 15m", looks, took)
				}
				key, err := sc.Retrieve(ctx, "k")
				mustBe(b, err, nil)
				if key.DeadLetter == nil || key.DeadLetter.Reason != c.reason || key.Attempts != 1 || events.count(redisidem.EventDeadLettered) != 1 {
					b.Errorf("the dead letter is %+v after %d attempts; events: %v", key.DeadLetter, key.Attempts, events.kinds())
				}
				// When its program is back, one attempt has begun.
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

func TestFlowThatLoopsBecomesADeadLetter(t *testing.T) {
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
			b.Errorf("the dead letter is %+v", key.DeadLetter)
		}
	})
}

func TestEndlessInterimAnswersBecomeADeadLetter(t *testing.T) {
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
		// A requeued key gets interim answers for as long again.
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

// TestKeyThatNeverEndsBecomesADeadLetter has stages that extend their record each time and use up
// no attempts.
func TestKeyThatNeverEndsBecomesADeadLetter(t *testing.T) {
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
		{"nothing done", outcome(redisidem.NothingDone()), 80 * time.Minute, "nothing done for 1h"},
		{"nothing done after a failure", func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
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
				if got := untilDeadLettered(b, sc, completer, c.after); !strings.Contains(got, c.reason) {
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

// TestLongListDoesNotBecomeADeadLetter has a stage that processes a list item by item for longer
// than a record lives, and then fails.
func TestLongListDoesNotBecomeADeadLetter(t *testing.T) {
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

// untilDeadLettered sweeps every ten minutes until a key becomes a dead letter, and checks that
// this takes about as long as wanted. It returns the reason, or "" if the record cannot be read.
func untilDeadLettered(b *bubble, sc *redisidem.Scope, completer *redisidem.Completer, want time.Duration) string {
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
			b.Errorf("dead-lettered after %v, want %v", took, want)
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
	b.Errorf("not dead-lettered within %v", time.Since(began))
	return ""
}
