package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// mustRunFirst runs a stage and checks that this is the first attempt, of the stage and of the key.
func mustRunFirst(t testing.TB, sc *redisidem.Scope, value string) {
	t.Helper()
	ran := false
	key, err := sc.Do(ctx, value, request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		ran = true
		if st.Attempt() != 1 || st.Key().Attempts != 1 {
			t.Errorf("%s: the first callback has attempt %d of the stage, %d of the key, want 1 of each", value, st.Attempt(), st.Key().Attempts)
		}
		return redisidem.Finish(redisidem.JSON(200, "done")), nil
	})
	mustBe(t, err, nil)
	if !ran || key.Attempts != 1 {
		t.Errorf("%s: ran %t, and the key has %d attempts", value, ran, key.Attempts)
	}
}

func TestClaimWithoutAReplyDoesNotCount(t *testing.T) {
	for _, pause := range []time.Duration{0, 3 * time.Second, 30 * time.Second} {
		t.Run(pause.String(), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				sc := b.service(redisidem.Config{Timeout: 2 * time.Second}).Scope("a")
				for range 3 {
					// The connection is open, and the server knows the scripts.
					_, err := sc.Do(ctx, "other", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
						return redisidem.Outcome{}, errUpstream
					})
					mustBe(b, err, errUpstream)
					b.mute()
					time.AfterFunc(time.Second, b.freeze) // the claim arrives, and the first tries to give it back do not
					_, err = sc.Do(ctx, "k", request, never(b))
					mustBe(b, err, redisidem.ErrUnavailable)
					time.Sleep(pause)
					b.thaw()
					time.Sleep(2 * time.Second)
					if lock := b.lock(); lock != "" {
						b.Fatalf("%s is left", lock)
					}
				}
				mustRunFirst(b, sc, "k")
			})
		})
	}
}

func TestClaimThatTooFewReplicasHaveDoesNotCount(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	raw := server.Client()
	t.Cleanup(func() { _ = raw.Close() })
	strict := serviceOn(t, options(server.Addr(), 3), redisidem.Config{Durability: 1, Timeout: 2 * time.Second})
	plain := serviceOn(t, options(server.Addr(), 3), redisidem.Config{Timeout: 5 * time.Second})
	flow := mustFlow(t, cart(func(c *redisidem.FlowConfig) { c.RecoverAfter, c.MaxAttempts = time.Millisecond, 1 }))
	for range 3 {
		_, err := strict.Scope("a").Do(ctx, "k", request, never(t))
		mustBe(t, err, redisidem.ErrNotDurable)
		_, err = strict.Scope("a").DoFlow(ctx, "flow", request, flow)
		mustBe(t, err, redisidem.ErrNotDurable)
		waitForNoLock(t, raw)
	}
	mustRunFirst(t, plain.Scope("a"), "k")
	key, err := plain.Scope("a").DoFlow(ctx, "flow", request, flow)
	mustBe(t, err, nil)
	if key.Attempts != 1 || key.Journal[0].Attempt != 1 {
		t.Errorf("the first run was attempt %d of the key, and %d of its stage", key.Attempts, key.Journal[0].Attempt)
	}
}

// waitForNoLock waits until every claim was abandoned.
func waitForNoLock(t testing.TB, raw redis.UniversalClient) {
	t.Helper()
	for deadline := time.Now().Add(9 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		left := raw.Keys(ctx, "*:lock").Val()
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("locks are left: %v", left)
		}
	}
}

// TestCallerThatLeavesDuringTheClaimBeginsNothing cancels callers while their claims are under way,
// as clients do that close their connection at once.
func TestCallerThatLeavesDuringTheClaimBeginsNothing(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		// All calls that began nothing are given back at once. The embedded server, which reads a
		// script anew each time, would take as long as the lease for a hundred on a busy machine.
		sc := e.service(func(c *redisidem.Config) { c.Wait, c.Timeout = 20*time.Second, 15*time.Second }).Scope("a")
		calls := 100
		if !e.real {
			calls = 20
		}
		var unbegun []string
		for i := range calls {
			value := fmt.Sprint(i)
			gone, cancel := context.WithCancel(ctx)
			timer := time.AfterFunc(time.Duration(rand.IntN(500))*time.Microsecond, cancel)
			began := false
			_, err := sc.Do(gone, value, request, func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
				began = true
				return redisidem.Finish(redisidem.JSON(200, "done")), nil
			})
			timer.Stop()
			cancel()
			if !began {
				mustBe(t, err, redisidem.ErrUnavailable)
				mustBe(t, err, context.Canceled)
				unbegun = append(unbegun, value)
			}
		}
		t.Logf("%d of %d began nothing", len(unbegun), calls)
		for _, value := range unbegun {
			mustRunFirst(t, sc, value)
		}
	})
}

func TestNothingBeginsUnderAContextThatHasEnded(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc, w := e.wired()
		flow := mustFlow(t, cart())
		for name, run := range map[string]func(context.Context, *redisidem.Scope, string) error{
			"Do": func(ctx context.Context, sc *redisidem.Scope, value string) error {
				_, err := sc.Do(ctx, value, request, never(t))
				return err
			},
			"WorkStage": func(ctx context.Context, sc *redisidem.Scope, value string) error {
				_, err := sc.WorkStage(ctx, start(t, sc, value), never(t))
				return err
			},
			"DoFlow": func(ctx context.Context, sc *redisidem.Scope, value string) error {
				_, err := sc.DoFlow(ctx, value, request, flow)
				return err
			},
		} {
			sc := svc.Scope(name)
			reason := errors.New("the client has left")
			gone, cancel := context.WithCancelCause(ctx)
			w.mu.Lock()
			w.lose, w.then = lua.Claim, func() { cancel(reason) } // when the server has given the lease
			w.mu.Unlock()
			err := run(gone, sc, "k")
			for _, want := range []error{redisidem.ErrUnavailable, context.Canceled, reason} {
				mustBe(t, err, want)
			}
			mustRunFirst(t, sc.Wait(9*time.Second), "k")
		}
	})
}

// TestCallerThatLeavesAtAColdScriptCacheLeavesNoLock cancels the caller before the claim, which the
// server does not know, is sent again as text.
func TestCallerThatLeavesAtAColdScriptCacheLeavesNoLock(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	raw := server.Client()
	t.Cleanup(func() { _ = raw.Close() })
	client := redis.NewClient(options(server.Addr(), 3))
	t.Cleanup(func() { _ = client.Close() })
	gone, cancel := context.WithCancel(ctx)
	client.AddHook(afterCommand(cancel))
	svc, err := redisidem.New(client, &redisidem.Config{Timeout: 5 * time.Second})
	mustBe(t, err, nil)
	t.Cleanup(func() { mustBe(t, svc.Close(ctx), nil) })
	_, err = svc.Scope("a").Do(gone, "k", request, never(t))
	mustBe(t, err, context.Canceled)
	waitForNoLock(t, raw)
	mustRunFirst(t, svc.Scope("a"), "k")
}

// afterCommand is a hook that runs after each command.
type afterCommand func()

func (afterCommand) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f afterCommand) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		f()
		return err
	}
}

func (afterCommand) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestLeaseOfACallerThatLeftIsAbandoned(t *testing.T) {
	inBubble(t, func(b *bubble) {
		gone, cancel := context.WithCancel(ctx)
		leaves := observes(func(e redisidem.Event) {
			if e.Kind == redisidem.EventClaimed {
				cancel() // between the claim and the callback
			}
		})
		_, err := b.service(redisidem.Config{Observer: leaves}).Scope("a").Do(gone, "k", request, never(b))
		mustBe(b, err, redisidem.ErrUnavailable)
		mustBe(b, err, context.Canceled)
		mustRunFirst(b, b.service(redisidem.Config{}).Scope("a"), "k")
	})
}

// TestCallbackOnACompensatingKeyNeedsItsCaller checks that only compensations continue after the
// caller has left: no other callback begins.
func TestCallbackOnACompensatingKeyNeedsItsCaller(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		flow := mustFlow(b, undoing(new([]string), func(c *redisidem.FlowConfig) {
			c.Stages[3].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Outcome{}, errStage
			}
		}))
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		_, err = sc.Update(ctx, key, redisidem.Fail(redisidem.JSON(410, "called off")).Undo(flow))
		mustBe(b, err, nil)
		gone, cancel := context.WithCancel(ctx)
		leaves := observes(func(e redisidem.Event) {
			if e.Kind == redisidem.EventClaimed {
				cancel()
			}
		})
		_, err = b.service(redisidem.Config{Observer: leaves}).Scope("a").Do(gone, "k", request, never(b))
		mustBe(b, err, context.Canceled)
	})
}

type observes func(redisidem.Event)

func (o observes) Observe(_ context.Context, e redisidem.Event) { o(e) }

func TestClientThatLeavesBetweenStagesStartsNoFurtherStage(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		gone, cancel := context.WithCancel(ctx)
		attempts := map[string][]int{}
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			for i := range c.Stages {
				s := &c.Stages[i]
				work := s.Work
				s.Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					attempts[s.Point] = append(attempts[s.Point], st.Attempt())
					if s.Point == "taxed" {
						cancel()
					}
					return work(ctx, st)
				}
				s.Reconcile = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					b.Errorf("Reconcile of %q is asked about work that has not begun", s.Point)
					return redisidem.Outcome{}, redisidem.ErrNothingDone
				}
			}
		}))
		key, err := sc.DoFlow(gone, "k", request, flow)
		mustBe(b, err, context.Canceled)
		if errors.Is(err, redisidem.ErrUnavailable) { // which promises that nothing has run
			b.Errorf("the error is %v", err)
		}
		mustStandAt(b, key, "paid", 2)
		key, err = sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		want := map[string][]int{redisidem.Started: {1}, "taxed": {1}, "paid": {1}, "ordered": {1}}
		if !reflect.DeepEqual(attempts, want) || key.Attempts != 2 {
			b.Errorf("the stages ran as attempts %v, and the key has %d", attempts, key.Attempts)
		}
	})
}

// TestKeptCommitWithoutAReplyBeginsNoAttempt loses the reply of a commit that keeps the lease. The
// attempt of the next stage that it begins never runs, and does not count.
func TestKeptCommitWithoutAReplyBeginsNoAttempt(t *testing.T) {
	for _, silence := range []time.Duration{0, redisidem.DefaultLease + time.Second} {
		t.Run(silence.String(), func(t *testing.T) { keptCommitWithoutAReply(t, silence) })
	}
}

func keptCommitWithoutAReply(t *testing.T, silence time.Duration) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				b.mute()
				return redisidem.Next(), nil
			}
			c.Stages[2].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				if st.Attempt() != 1 {
					b.Errorf("attempt %d, want 1: no other has begun", st.Attempt())
				}
				return redisidem.Next(), nil
			}
		}))
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, redisidem.ErrOutcomeUnknown)
		time.Sleep(silence)
		b.thaw()
		time.Sleep(3 * time.Second)
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		mustStandAt(b, key, redisidem.Finished, 4)
	})
}

func TestLeaseLostBeforeTheCallbackDoesNotCount(t *testing.T) {
	inBubble(t, func(b *bubble) {
		stalls := observes(func(e redisidem.Event) {
			if e.Kind == redisidem.EventClaimed {
				time.Sleep(redisidem.DefaultMaxHold + time.Hour) // the process is frozen
			}
		})
		_, err := b.service(redisidem.Config{Observer: stalls}).Scope("a").Do(ctx, "k", request, never(b))
		mustBe(b, err, redisidem.ErrLeaseLost)
		mustRunFirst(b, b.service(redisidem.Config{}).Scope("a"), "k")
	})
}

// mustBeginFirst runs the key with its own program, and checks that this is the first attempt of
// the stage where the key is.
func mustBeginFirst(b *bubble, sc *redisidem.Scope) {
	b.Helper()
	ran := false
	_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
		c.Stages[1].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			ran = true
			if st.Attempt() != 1 {
				b.Errorf("the first callback has attempt %d, want 1", st.Attempt())
			}
			return redisidem.Next(), nil
		}
		c.Stages[1].Reconcile = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			b.Error("reconcile is asked about work that never began")
			return redisidem.Outcome{}, redisidem.ErrNothingDone
		}
	})))
	mustBe(b, err, nil)
	if !ran {
		b.Error("the stage did not run")
	}
}

// keyless is a codec without the key to decode what it finds.
type keyless struct{ asked func() }

func (keyless) Encode(plain, _ []byte) ([]byte, error) { return plain, nil }

func (k keyless) Decode([]byte, []byte, int) ([]byte, error) {
	k.asked()
	return nil, errors.New("no such key")
}

// unservable are completers that cannot run a key of the flow cart/1. They call claimed once they
// have its lease.
var unservable = map[string]func(b *bubble, attempts int, events *recorder, claimed func()) *redisidem.Completer{
	"no program": func(b *bubble, attempts int, events *recorder, claimed func()) *redisidem.Completer {
		svc := b.service(redisidem.Config{Codec: mustCodec(b, secret("k")), Observer: observes(func(e redisidem.Event) {
			events.Observe(ctx, e)
			if e.Kind == redisidem.EventClaimed {
				claimed()
			}
		})})
		return mustCompleter(b, svc, mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) { c.Version, c.MaxAttempts = 2, attempts })))
	},
	"no codec": func(b *bubble, attempts int, events *recorder, claimed func()) *redisidem.Completer {
		svc := b.service(redisidem.Config{Codec: keyless{claimed}, Observer: events})
		return mustCompleter(b, svc, mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) { c.MaxAttempts = attempts })))
	},
}

// betweenStages leaves a key at the second stage of a flow, before its first attempt.
func betweenStages(b *bubble) *redisidem.Scope {
	b.Helper()
	sc := b.service(redisidem.Config{Codec: mustCodec(b, secret("k"))}).Scope("a")
	gone, leave := context.WithCancel(ctx)
	_, err := sc.DoFlow(gone, "k", request, mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
		c.Stages[0].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			leave()
			return redisidem.Next(), nil
		}
	})))
	mustBe(b, err, context.Canceled)
	return sc
}

func TestSweepThatCannotRunAKeyCountsNoAttempt(t *testing.T) {
	for name, newCompleter := range unservable {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				sc := betweenStages(b)
				completer := newCompleter(b, 4, &recorder{}, func() {})
				for n := range 4 {
					time.Sleep(15 * time.Minute)
					want := redisidem.SweepResult{Due: 1, Failed: 1}
					if n == 3 {
						want = redisidem.SweepResult{Due: 1, DeadLettered: 1}
					}
					mustSweep(b, completer, want)
					b.mustBePlaced("a sweep")
				}
				mustBeginFirst(b, sc)
			})
		})
	}
}

// TestDeadLetteringWithoutAReplyIsRepeated loses the request that makes a dead letter, or its
// reply. It is repeated, and counts as no attempt.
func TestDeadLetteringWithoutAReplyIsRepeated(t *testing.T) {
	for name, newCompleter := range unservable {
		for lost, lose := range map[string]func(*bubble){"request": (*bubble).freeze, "reply": (*bubble).mute} {
			t.Run(name+", lost "+lost, func(t *testing.T) {
				inBubble(t, func(b *bubble) {
					sc := betweenStages(b)
					events := &recorder{}
					var once sync.Once
					completer := newCompleter(b, 1, events, func() { once.Do(func() { lose(b) }) })
					time.Sleep(5 * time.Minute)
					// The sweep fails only if shards are left that it cannot ask, which depends on
					// their order.
					if _, err := completer.Sweep(ctx); err != nil {
						mustBe(b, err, redisidem.ErrUnavailable)
					}
					b.thaw()
					time.Sleep(10 * time.Second)
					key, err := sc.Retrieve(ctx, "k")
					mustBe(b, err, nil)
					if key.DeadLetter == nil || b.lock() != "" || events.count(redisidem.EventDeadLettered) != 1 {
						b.Errorf("the dead letter is %+v, the lock %q, the events are %v, want a dead letter, no lock and one event", key.DeadLetter, b.lock(), events.kinds())
					}
					b.mustBePlaced("the outage")
					mustBeginFirst(b, sc)
				})
			})
		}
	}
}

// TestLateClaimOnADeletedKeyIsGivenBack delays a claim on a finished key until the key is deleted.
func TestLateClaimOnADeletedKeyIsGivenBack(t *testing.T) {
	inBubble(t, func(b *bubble) {
		const timeout = 300 * time.Millisecond
		sc := b.service(redisidem.Config{Timeout: timeout}).Scope("a")
		key, err := sc.Do(ctx, "k", request, finish("done"))
		mustBe(b, err, nil)
		b.hold(timeout - time.Millisecond)
		_, err = sc.Do(ctx, "k", request, never(b))
		mustBe(b, err, redisidem.ErrUnavailable)
		synctest.Wait() // the give-back finds a finished key
		mustBe(b, sc.Delete(ctx, key), nil)
		time.Sleep(timeout)
		if b.deliver() == 0 {
			b.Fatal("nothing was held")
		}
		time.Sleep(2 * timeout)
		if lock := b.lock(); lock != "" {
			b.Errorf("%v after the claim arrived, %s is still held", 2*timeout, lock)
		}
		mustRunFirst(b, sc, "k")
	})
}

// TestAbandonThatOvertakesItsClaimIsRepeated delays claims until after their abandon. Such a claim
// locks its key for about two timeouts at most.
func TestAbandonThatOvertakesItsClaimIsRepeated(t *testing.T) {
	const timeout = 300 * time.Millisecond
	for _, retries := range []int{0, 3, 4} { // the last of 4 when the record remembers the give-back
		for _, delay := range []time.Duration{0, timeout / 2, timeout + 50*time.Millisecond, 3*time.Second + 50*time.Millisecond} {
			t.Run(fmt.Sprintf("%d retries/%v", retries, delay), func(t *testing.T) {
				inBubble(t, func(b *bubble) {
					svc := b.service(redisidem.Config{Timeout: timeout})
					sc := svc.Scope("a")
					_, err := sc.Do(ctx, "warm up", request, finish("the server knows the script"))
					mustBe(b, err, nil)
					b.hold(timeout - time.Millisecond)
					_, err = sc.Do(ctx, "k", request, never(b))
					mustBe(b, err, redisidem.ErrUnavailable)
					synctest.Wait() // the give-back finds no record
					runs := 0
					for n := range retries {
						if n == 3 {
							time.Sleep(4 * timeout)
						}
						_, err = sc.Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
							runs++
							return redisidem.Outcome{}, errUpstream
						})
						mustBe(b, err, errUpstream)
					}
					time.Sleep(delay)
					if b.deliver() == 0 {
						b.Fatal("nothing was held")
					}
					if retries == 0 && b.lock() == "" {
						b.Fatal("the claim has not arrived")
					}
					time.Sleep(2 * timeout)
					if lock := b.lock(); lock != "" {
						b.Errorf("%v after its claim arrived, %s is still held", 2*timeout, lock)
					}
					_, err = sc.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
						if st.Attempt() != runs+1 || st.Key().Attempts != runs+1 {
							b.Errorf("attempt %d of %d, after %d runs", st.Attempt(), st.Key().Attempts, runs)
						}
						return redisidem.Finish(redisidem.JSON(200, "done")), nil
					})
					mustBe(b, err, nil)
				})
			})
		}
	}
}

func TestCloseWaitsForPendingAbandons(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		start(b, svc.Scope("a"), "other")
		b.mute()
		_, err := svc.Scope("a").Do(ctx, "k", request, never(b))
		mustBe(b, err, redisidem.ErrUnavailable)
		time.AfterFunc(20*time.Second, b.thaw)
		began := time.Now()
		mustBe(b, svc.Close(ctx), nil)
		if took := time.Since(began); took < 20*time.Second || took > 23*time.Second {
			b.Errorf("closed after %v, want %v to %v", took, 20*time.Second, 23*time.Second)
		}
		mustRunFirst(b, b.service(redisidem.Config{}).Scope("a"), "k")
	})
}

// TestCloseDoesNotLookOutForClaims checks that Close waits for the reply to an abandon, and not for
// a claim that may still arrive.
func TestCloseDoesNotLookOutForClaims(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		b.hold(redisidem.DefaultTimeout - time.Millisecond)
		_, err := svc.Scope("a").Do(ctx, "k", request, never(b))
		mustBe(b, err, redisidem.ErrUnavailable)
		began := time.Now()
		mustBe(b, svc.Close(ctx), nil)
		if took := time.Since(began); took > redisidem.DefaultTimeout {
			b.Errorf("closed after %v, want at most %v", took, redisidem.DefaultTimeout)
		}
	})
}

func TestPendingAbandonsAreBounded(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{CommitRetry: 10 * time.Second})
		svc.SetMaxBackground(2)
		sc := svc.Scope("a")
		_, err := sc.Do(ctx, "warm up", request, finish("the server knows the script"))
		mustBe(b, err, nil)
		b.mute()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				_, err := sc.Do(ctx, fmt.Sprint(i), request, never(b))
				mustBe(b, err, redisidem.ErrUnavailable)
			})
		}
		wg.Wait()
		time.Sleep(2 * redisidem.DefaultTimeout) // for the first try of each
		before := b.sent()
		time.Sleep(time.Second)
		if n := b.sent() - before; n > 4*2 {
			b.Errorf("%d requests in a second to give 2 back, want at most 8", n)
		}
		time.Sleep(20 * time.Second)
		before = b.sent()
		time.Sleep(time.Minute)
		if n := b.sent() - before; n != 0 {
			b.Errorf("%d requests after CommitRetry, want 0", n)
		}
		b.thaw()
	})
}

// TestEndedContextSendsNothing checks that a call whose context has ended sends nothing, so there
// is nothing to abandon.
func TestEndedContextSendsNothing(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		key := start(b, sc, "k")
		flow := mustFlow(b, cart())
		ended, cancel := context.WithCancel(ctx)
		cancel()
		before := b.sent()
		for range 100 {
			for _, sc := range []*redisidem.Scope{sc, sc.Wait(time.Minute)} {
				_, err := sc.Do(ended, "k", request, never(b))
				mustBe(b, err, context.Canceled)
				_, err = sc.WorkStage(ended, key, never(b))
				mustBe(b, err, context.Canceled)
				_, err = sc.DoFlow(ended, "k", request, flow)
				mustBe(b, err, context.Canceled)
				_, err = sc.Lock(ended, "k")
				mustBe(b, err, context.Canceled)
			}
		}
		time.Sleep(time.Minute)
		if n := b.sent() - before; n != 0 {
			b.Errorf("%d requests were sent, want 0", n)
		}
	})
}

// TestRefusedConnectionLeavesNothingToAbandon checks that no abandon is sent to a server that
// refused the connection and so received no claim.
func TestRefusedConnectionLeavesNothingToAbandon(t *testing.T) {
	// In a bubble no deadline passes in the middle of a try, which would leave open what was sent.
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Timeout: 100 * time.Millisecond})
		b.freeze()
		_, err := svc.Scope("a").Do(ctx, "k", request, never(b))
		mustBe(b, err, redisidem.ErrUnavailable)
		began := time.Now()
		mustBe(b, svc.Close(ctx), nil)
		if took := time.Since(began); took > 10*time.Second { // an abandon would be repeated for CommitRetry
			b.Errorf("closed after %v", took)
		}
	})
}

func TestTrapL7EveryWayOutReleasesTheLease(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, raw := e.service().Scope("a"), e.client()
		for name, end := range map[string]func() (redisidem.Outcome, error){
			"return":            func() (redisidem.Outcome, error) { return redisidem.Advance("next"), nil },
			"error":             func() (redisidem.Outcome, error) { return redisidem.Outcome{}, errUpstream },
			"unstorable":        func() (redisidem.Outcome, error) { return redisidem.Finish(redisidem.JSON(999, "")), nil },
			"no progress":       func() (redisidem.Outcome, error) { return redisidem.Advance(redisidem.Started), nil },
			"panic":             func() (redisidem.Outcome, error) { panic("a bug") },
			"panic with nil":    func() (redisidem.Outcome, error) { panic(nil) },
			"ErrAbortHandler":   func() (redisidem.Outcome, error) { panic(http.ErrAbortHandler) },
			"runtime.Goexit":    func() (redisidem.Outcome, error) { runtime.Goexit(); return redisidem.Outcome{}, nil },
			"panic in deferred": func() (redisidem.Outcome, error) { defer panic("second"); panic("first") },
		} {
			start(t, sc, name)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				defer func() { _ = recover() }()
				_, _ = sc.Do(ctx, name, request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return end() })
			}()
			<-ended
			e.mustBeTidy(raw)
			_, err := sc.Do(ctx, name, request, finish("done"))
			if want := name == "unstorable"; err != nil && !want || errors.Is(err, redisidem.ErrNotKept) != want {
				t.Errorf("after %s: %v", name, err)
			}
		}
	})
}
