package redisidem_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestWaiterGetsTheWinnersAnswer(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := redisidem.Config{Wait: 30 * time.Second}
		one, two := b.service(cfg).Scope("a"), b.service(cfg).Scope("a")
		key := start(b, one, "k")
		running := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := one.WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				close(running)
				time.Sleep(5 * time.Second)
				return redisidem.Finish(redisidem.JSON(201, "one")), nil
			})
			mustBe(b, err, nil)
		}()
		<-running
		began := time.Now()
		got, err := two.WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			b.Error("ran a second time")
			return redisidem.Outcome{}, nil
		})
		mustBe(b, err, nil)
		if !got.Replayed() || string(got.Response.Body) != `"one"` {
			b.Errorf("got %+v", got)
		}
		if took := time.Since(began); took < 5*time.Second || took > 5*time.Second+300*time.Millisecond {
			b.Errorf("waited %v, want %v to %v", took, 5*time.Second, 5*time.Second+300*time.Millisecond)
		}
		<-done
	})
}

// dumpWithoutWaiting returns the contents of the server without the channels of waiters.
func dumpWithoutWaiting(b *bubble) string {
	var lines []string
	for line := range strings.Lines(b.server.Dump()) {
		if !strings.Contains(line, "waiting: ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// TestManyReplaysOfOneKeyWhileWaitingIsAllowed lets callers join a flight that is ending.
func TestManyReplaysOfOneKeyWhileWaitingIsAllowed(t *testing.T) {
	onRealServers(t, func(t *testing.T, e *env) {
		sc := e.service(func(c *redisidem.Config) { c.Wait = 10 * time.Second }).Scope("a")
		_, err := sc.Do(ctx, "k", request, finish("done"))
		mustBe(t, err, nil)
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for range 100 {
					if _, err := sc.Do(ctx, "k", request, never(t)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestOutageReachesAllWaitersAtOnce(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{Wait: 30 * time.Second}).Scope("a")
		b.freeze()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				began := time.Now()
				_, err := sc.Do(ctx, "k", request, never(b))
				mustBe(b, err, redisidem.ErrUnavailable)
				if took := time.Since(began); took > time.Second {
					b.Errorf("the outage is reported after %v, want at most a second", took)
				}
			})
		}
		wg.Wait()
		b.thaw()
	})
}

func TestWaitersShareNoMemory(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Wait: 30 * time.Second})
		hold(b, "k", 5*time.Second, redisidem.Finish(redisidem.JSON(200, "done")))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				key, err := svc.Scope("a").Do(ctx, "k", request, never(b))
				mustBe(b, err, nil)
				if string(key.Response.Body) != `"done"` || len(key.Response.Header) != 1 || key.Value != "k" {
					b.Errorf("another caller's changes are in %+v", key)
				}
				key.Value = "mine"
				key.Response.Header["X-Served"] = []string{"me"}
				key.Response.Body[1] = 'X'
				key.Journal[0].Stage = "mine"
			})
		}
		wg.Wait()
	})
}

// confirming is a stage that takes some time and then asks the customer to confirm.
func confirming(d time.Duration, runs *atomic.Int64) redisidem.StageFunc {
	return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		runs.Add(1)
		time.Sleep(d)
		return redisidem.Interim(redisidem.Started, redisidem.JSON(202, "confirm")), nil
	}
}

// confirmed makes a flow of one stage.
func confirmed(t testing.TB, work redisidem.StageFunc) *redisidem.Flow {
	t.Helper()
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "confirmed", Version: 1, Stages: []redisidem.FlowStage{{Point: redisidem.Started, Work: work}},
	})
	mustBe(t, err, nil)
	return flow
}

func TestWaitersGetTheInterimAnswer(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		var runs, entered atomic.Int64
		// The first run ends when all callers have come and Redis has refused one of each process,
		// which then waits for the others. A caller whose claim comes later runs the work again.
		raw := e.client()
		work := func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			if runs.Load() == 0 {
				record, _ := e.place(st.Key())
				for range 2000 {
					waiting := strings.Fields(raw.HGet(ctx, record, "waiting").Val())
					if entered.Load() == 16 && len(waiting) == 2 {
						break
					}
					time.Sleep(5 * time.Millisecond)
				}
			}
			return confirming(100*time.Millisecond, &runs)(ctx, st)
		}
		flow := confirmed(t, work)
		patient := func(c *redisidem.Config) { c.Wait, c.Timeout = 20*time.Second, 5*time.Second }
		processes := []*redisidem.Scope{e.service(patient).Scope("a"), e.service(patient).Scope("a")}
		for name, call := range map[string]func(*redisidem.Scope, string) (*redisidem.Key, error){
			"Do": func(sc *redisidem.Scope, value string) (*redisidem.Key, error) {
				entered.Add(1)
				return sc.Do(ctx, value, request, work)
			},
			"DoFlow": func(sc *redisidem.Scope, value string) (*redisidem.Key, error) {
				entered.Add(1)
				return sc.DoFlow(ctx, value, request, flow)
			},
			"Run": func(sc *redisidem.Scope, value string) (*redisidem.Key, error) {
				key, err := sc.InitializeRequest(ctx, value, request)
				if err != nil {
					return key, err
				}
				entered.Add(1)
				return sc.WorkFlow(ctx, key, flow)
			},
			"WorkStage": func(sc *redisidem.Scope, value string) (*redisidem.Key, error) {
				key, err := sc.InitializeRequest(ctx, value, request)
				if err != nil {
					return key, err
				}
				entered.Add(1)
				return sc.WorkStage(ctx, key, work)
			},
		} {
			runs.Store(0)
			entered.Store(0)
			var replayed atomic.Int64
			var wg sync.WaitGroup
			for i := range 16 {
				wg.Go(func() {
					key, err := call(processes[i%2], name)
					switch {
					case err != nil:
						t.Errorf("%s: %v", name, err)
						return
					case !key.Answered() || key.Finished() || key.Response == nil || string(key.Response.Body) != `"confirm"`:
						t.Errorf("%s: the key is %+v", name, key)
					case key.Replayed():
						replayed.Add(1)
					}
				})
			}
			wg.Wait()
			if runs.Load() != 1 || replayed.Load() != 15 {
				t.Errorf("%s: %d runs, %d of 15 waiters got the winner's answer", name, runs.Load(), replayed.Load())
			}
			// A caller that comes afterwards continues the work.
			for i := range 2 {
				key, err := call(processes[i], name)
				mustBe(t, err, nil)
				if runs.Load() != int64(2+i) || key.Replayed() || !key.Answered() {
					t.Errorf("%s: %d runs, and the key is %+v", name, runs.Load(), key)
				}
			}
		}
		e.mustBeTidy(e.client())
	})
}

func TestWaiterIsAnsweredAlthoughAnotherCallerWorksOnAlready(t *testing.T) {
	inBubble(t, func(b *bubble) {
		one := b.service(redisidem.Config{}).Scope("a")
		first, err := one.InitializeRequest(ctx, "k", request)
		mustBe(b, err, nil)
		lease, err := one.Lock(ctx, "k")
		mustBe(b, err, nil)
		began := time.Now()
		go func() {
			time.Sleep(5 * time.Second)
			_, err := lease.Commit(ctx, redisidem.Interim(redisidem.Started, redisidem.JSON(202, "confirm")))
			if err != nil {
				b.Error(err)
			}
			_, err = one.Wait(time.Minute).Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				time.Sleep(time.Minute)
				return redisidem.Finish(redisidem.JSON(200, "done")), nil
			})
			if err != nil {
				b.Error(err)
			}
		}()
		two := b.service(redisidem.Config{Wait: time.Hour}).Scope("a")
		var wg sync.WaitGroup
		for _, call := range []func() (*redisidem.Key, error){
			func() (*redisidem.Key, error) { return two.Do(ctx, "k", request, never(b)) },
			func() (*redisidem.Key, error) { return two.WorkStage(ctx, first, never(b)) },
		} {
			wg.Go(func() {
				key, err := call()
				if err != nil || !key.Replayed() || key.Finished() || string(key.Response.Body) != `"confirm"` {
					b.Errorf("the key is %+v, %v", key, err)
				}
				if took := time.Since(began); took > 6*time.Second {
					b.Errorf("answered after %v, want at most %v", took, 6*time.Second)
				}
			})
		}
		wg.Wait()
		time.Sleep(2 * time.Minute)
	})
}

// TestInterimAnswerIsWholeForWaiters lets a waiter use the key that it received.
func TestInterimAnswerIsWholeForWaiters(t *testing.T) {
	inBubble(t, func(b *bubble) {
		rec := &recorder{}
		hold(b, "k", 5*time.Second, redisidem.Interim("asked", redisidem.JSON(202, "confirm")).WithState("offer 7"))
		sc := b.service(redisidem.Config{Wait: time.Hour, Observer: rec}).Scope("a")
		key, err := sc.Do(ctx, "k", request, never(b))
		mustBe(b, err, nil)
		if kinds := rec.kinds(); len(kinds) != 1 || kinds[0] != redisidem.EventReplayed {
			b.Errorf("events: %v", kinds)
		}
		if key.Attempts != 1 || key.Revision != 1 || key.RecoveryPoint != "asked" {
			b.Errorf("the key is %+v", key)
		}
		key, err = sc.WorkStage(ctx, key, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			var offer string
			if err := st.State(&offer); err != nil || offer != "offer 7" {
				b.Errorf("the state is %q, %v", offer, err)
			}
			return redisidem.Outcome{}, nil
		})
		mustBe(b, err, nil)
		if !key.Response.IsZero() || key.Replayed() {
			b.Errorf("the interim answer was left standing: %+v", key)
		}
	})
}

// hold runs a stage on a key for some time, in another process. It returns once the stage runs.
func hold(b *bubble, value string, d time.Duration, o redisidem.Outcome) {
	b.Helper()
	running := make(chan struct{})
	sc := b.service(redisidem.Config{}).Scope("a")
	b.Cleanup(func() { synctest.Wait() })
	go func() {
		_, err := sc.Do(ctx, value, request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			close(running)
			time.Sleep(d)
			return o, nil
		})
		if err != nil {
			b.Error(err)
		}
	}()
	<-running
}

func TestOneCallerPerKeyAndProcessAsks(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Wait: time.Hour})
		commands := make(map[int]int)
		for _, callers := range []int{1, 100} {
			value := fmt.Sprint("k", callers)
			hold(b, value, 2*time.Second, redisidem.Finish(redisidem.JSON(200, "done")))
			before := b.server.CommandCount()
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					key, err := svc.Scope("a").Do(ctx, value, request, never(b))
					if err != nil || !key.Replayed() || string(key.Response.Body) != `"done"` {
						b.Errorf("the answer is %+v, %v", key, err)
					}
				})
			}
			wg.Wait()
			commands[callers] = b.server.CommandCount() - before
		}
		b.Logf("%d commands for 100 callers, %d for one", commands[100], commands[1])
		// The pauses between two questions are drawn, so two runs differ by a few. Callers that ask
		// each for themselves send more than that with their first questions alone.
		if commands[100] > 2*commands[1] {
			b.Error("the callers ask each for themselves")
		}
	})
}

func TestWaitersTakeTurnsWhenNothingIsFinished(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Wait: time.Hour})
		sc := svc.Scope("a")
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				_, err := sc.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					time.Sleep(time.Second)
					return redisidem.Advance(st.Key().RecoveryPoint + "+"), nil
				})
				if err != nil {
					b.Error(err)
				}
			})
		}
		began := time.Now()
		wg.Wait()
		if took := time.Since(began); took != 10*time.Second {
			b.Errorf("ten stages of a second took %v, want %v", took, 10*time.Second)
		}
		if key := start(b, sc, "k"); key.Revision != 10 {
			b.Errorf("the key is %+v", key)
		}
	})
}

func TestWaiterWithAnotherRequestIsRefusedAtOnce(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{Wait: time.Hour}).Scope("a")
		hold(b, "k", time.Minute, redisidem.Finish(redisidem.JSON(200, "done")))
		go func() {
			if _, err := sc.Do(ctx, "k", request, never(b)); err != nil {
				b.Error(err)
			}
		}()
		synctest.Wait()
		began := time.Now()
		other := request
		other.Path += "/other"
		_, err := sc.Do(ctx, "k", other, never(b))
		mustBe(b, err, redisidem.ErrFingerprintMismatch)
		if took := time.Since(began); took != 0 {
			b.Errorf("refused after %v, want 0", took)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
	})
}

func TestQueuedCallersTimeOutToo(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Wait: 2 * time.Second})
		hold(b, "k", time.Minute, redisidem.Outcome{})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				began := time.Now()
				_, err := svc.Scope("a").Do(ctx, "k", request, never(b))
				mustBe(b, err, redisidem.ErrLocked)
				if took := time.Since(began); took != 2*time.Second {
					b.Errorf("refused after %v, want %v", took, 2*time.Second)
				}
			})
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := svc.Scope("a").Do(short, "k", request, never(b))
		mustBe(b, err, redisidem.ErrLocked)
		mustBe(b, err, context.DeadlineExceeded)
		wg.Wait()
	})
}
