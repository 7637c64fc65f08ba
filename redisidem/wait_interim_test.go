package redisidem_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// confirming is a stage that takes some time and then wants the customer to confirm.
func confirming(d time.Duration, runs *atomic.Int64) redisidem.StageFunc {
	return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		runs.Add(1)
		time.Sleep(d)
		return redisidem.Interim(redisidem.Started, redisidem.JSON(202, "confirm")), nil
	}
}

// confirmed makes a flow of that one stage.
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
		// The first one to run ends after all callers have come: who comes later runs the work again.
		work := func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			for range 1000 {
				if entered.Load() >= 16 {
					break
				}
				time.Sleep(10 * time.Millisecond)
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
			// Whoever comes after it works on.
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

func TestInterimAnswerFromBeforeTheWaitingIsNotGivenAgain(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var runs atomic.Int64
		one, two := b.service(redisidem.Config{}).Scope("a"), b.service(redisidem.Config{Wait: time.Hour}).Scope("a")
		_, err := one.Do(ctx, "k", request, confirming(0, &runs))
		mustBe(b, err, nil)
		time.Sleep(time.Second)
		boom := errors.New("boom")
		go func() {
			_, err := one.Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				time.Sleep(5 * time.Second)
				return redisidem.Outcome{}, boom
			})
			if !errors.Is(err, boom) {
				b.Error(err)
			}
		}()
		synctest.Wait()
		var wg sync.WaitGroup
		var replayed atomic.Int64
		for range 3 {
			wg.Go(func() {
				key, err := two.Do(ctx, "k", request, finish("done"))
				if err != nil || !key.Finished() || string(key.Response.Body) != `"done"` {
					b.Errorf("the key is %+v, %v", key, err)
				}
				if key.Replayed() {
					replayed.Add(1)
				}
			})
		}
		wg.Wait()
		if replayed.Load() != 2 {
			b.Errorf("%d of 3 were replays", replayed.Load())
		}
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
					b.Errorf("answered after %v", took)
				}
			})
		}
		wg.Wait()
		time.Sleep(2 * time.Minute)
	})
}

func TestLockWaitsForTheLeaseAndNotForAnInterimAnswer(t *testing.T) {
	inBubble(t, func(b *bubble) {
		hold(b, "k", 5*time.Second, redisidem.Interim(redisidem.Started, redisidem.JSON(202, "confirm")))
		sc := b.service(redisidem.Config{Wait: time.Hour}).Scope("a")
		lease, err := sc.Lock(ctx, "k")
		mustBe(b, err, nil)
		key, err := lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "done")))
		mustBe(b, err, nil)
		if key.Revision != 2 {
			b.Errorf("the key is %+v", key)
		}
	})
}

// TestInterimAnswerIsWholeForThoseWhoWaited has a waiter use the key that it was given.
func TestInterimAnswerIsWholeForThoseWhoWaited(t *testing.T) {
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
		if key.Response != nil || key.Replayed() {
			b.Errorf("the interim answer was left standing: %+v", key)
		}
	})
}
