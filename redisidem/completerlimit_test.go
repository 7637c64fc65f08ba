package redisidem_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// crowd counts how many stages run at once.
type crowd struct {
	mu        sync.Mutex
	now, most map[string]int
	flow      *redisidem.Flow
	gone      bool
}

func newCrowd(t testing.TB, took, recoverAfter time.Duration) *crowd {
	w := &crowd{now: make(map[string]int), most: make(map[string]int)}
	w.flow = mustFlow(t, redisidem.FlowConfig{Name: "order", Version: 1, RecoverAfter: recoverAfter, Stages: []redisidem.FlowStage{{
		Point: redisidem.Started,
		Work: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			w.mu.Lock()
			if !w.gone {
				w.mu.Unlock()
				return redisidem.Outcome{}, errStage
			}
			for _, name := range []string{st.Key().Scope, ""} {
				w.now[name]++
				w.most[name] = max(w.most[name], w.now[name])
			}
			w.mu.Unlock()
			time.Sleep(took)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.now[st.Key().Scope]--
			w.now[""]--
			return redisidem.Finish(redisidem.JSON(200, "done")), nil
		},
	}}})
	return w
}

// atOnce returns how many stages of a scope, or of all for "", ran at once at most.
func (w *crowd) atOnce(scope string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.most[scope]
}

// TestLimitsHoldInAllProcesses runs completers of several processes with limits, and stages that
// take longer than a lease.
func TestLimitsHoldInAllProcesses(t *testing.T) {
	for name, c := range map[string]struct {
		cfg              redisidem.CompleterConfig
		perScope, inFlow int // the most at once
	}{
		"scope": {redisidem.CompleterConfig{MaxPerScope: 2}, 2, 6},
		"flow":  {redisidem.CompleterConfig{MaxPerFlow: 3}, 1, 3},
		"both":  {redisidem.CompleterConfig{MaxPerScope: 1, MaxPerFlow: 2}, 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				w := newCrowd(b, 15*time.Second, time.Second)
				svc := b.service(redisidem.Config{})
				for i := range 12 {
					for _, scope := range []string{"a", "b", "c"} {
						_, err := svc.Scope(scope).DoFlow(ctx, fmt.Sprint(i), request, w.flow)
						mustBe(b, err, errStage)
					}
				}
				w.gone = true
				time.Sleep(time.Hour)
				run, stop := context.WithCancel(ctx)
				ended := make(chan error)
				for range 3 {
					completer := mustCompleterWith(b, b.service(redisidem.Config{}), c.cfg, w.flow)
					go func() { ended <- completer.Run(run) }()
				}
				time.Sleep(40 * time.Minute)
				for _, scope := range []string{"a", "b", "c"} {
					for i := range 12 {
						if key, err := svc.Scope(scope).Retrieve(ctx, fmt.Sprint(i)); err != nil || !key.Finished() {
							b.Errorf("%s %d: %v, %v", scope, i, key.RecoveryPoint, err)
						}
					}
					if n := w.atOnce(scope); n != c.perScope {
						b.Errorf("of scope %s at most %d keys were worked on at once, want %d", scope, n, c.perScope)
					}
				}
				if n := w.atOnce(""); n != c.inFlow {
					b.Errorf("at most %d keys were worked on at once, want %d", n, c.inFlow)
				}
				stop()
				for range 3 {
					mustBe(b, <-ended, context.Canceled)
				}
			})
		})
	}
}

// TestLimitOfADeadProcessEnds covers a process that dies while it works on a key.
func TestLimitOfADeadProcessEnds(t *testing.T) {
	inBubble(t, func(b *bubble) {
		w := newCrowd(b, time.Hour, time.Second)
		svc := b.service(redisidem.Config{})
		for i := range 2 {
			_, err := svc.Scope("a").DoFlow(ctx, fmt.Sprint(i), request, w.flow)
			mustBe(b, err, errStage)
		}
		w.gone = true
		time.Sleep(time.Hour)
		cfg := redisidem.CompleterConfig{MaxPerFlow: 1, Drain: -1}
		dead := make(chan error)
		run, stop := context.WithCancel(ctx)
		go func() { dead <- mustCompleterWith(b, b.service(redisidem.Config{}), cfg, w.flow).Run(run) }()
		time.Sleep(10 * time.Second)
		b.freeze() // nothing of it arrives any more
		time.Sleep(11 * time.Second)
		b.thaw()
		alive := make(chan error)
		go func() { alive <- mustCompleterWith(b, svc, cfg, w.flow).Run(run) }()
		time.Sleep(time.Minute)
		if n := w.atOnce(""); n != 2 {
			b.Errorf("%d keys were worked on, want one of each process", n)
		}
		stop()
		mustBe(b, <-dead, context.Canceled)
		mustBe(b, <-alive, context.Canceled)
	})
}

func TestCompletersWithoutLimitsAskForNone(t *testing.T) {
	inBubble(t, func(b *bubble) {
		w := newCrowd(b, time.Second, time.Second)
		svc := b.service(redisidem.Config{})
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, w.flow)
		mustBe(b, err, errStage)
		w.gone = true
		time.Sleep(time.Hour)
		mustSweep(b, mustCompleter(b, svc, w.flow), redisidem.SweepResult{Due: 1, Finished: 1})
		for _, k := range b.server.Keys() {
			if k == "redisidem:turn:{redisidem:turn:/flows}:running:order" {
				b.Errorf("%s exists", k)
			}
		}
		_, err = redisidem.NewCompleter(svc, []*redisidem.Flow{w.flow}, &redisidem.CompleterConfig{MaxPerScope: -1})
		mustBe(b, err, redisidem.ErrInvalid)
		_, err = redisidem.NewCompleter(svc, []*redisidem.Flow{w.flow}, &redisidem.CompleterConfig{MaxPerFlow: -1})
		mustBe(b, err, redisidem.ErrInvalid)
	})
}

// TestLimitsOnRealServers runs the script of the limits where scripts are checked more strictly.
func TestLimitsOnRealServers(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		w := newCrowd(t, time.Millisecond, time.Millisecond)
		svc := e.service()
		for i := range 5 {
			_, err := svc.Scope("a").DoFlow(ctx, fmt.Sprint(i), request, w.flow)
			mustBe(t, err, errStage)
		}
		w.gone = true
		time.Sleep(10 * time.Millisecond)
		mustSweep(t, mustCompleterWith(t, svc, redisidem.CompleterConfig{MaxPerScope: 2, MaxPerFlow: 4}, w.flow), redisidem.SweepResult{Due: 5, Finished: 5})
		if n := w.atOnce("a"); n < 1 || n > 2 {
			t.Errorf("%d keys were worked on at once, want 1 or 2", n)
		}
	})
}

// TestHungScopesDoNotSlowAnother covers scopes whose places are all taken by stages that hang.
func TestHungScopesDoNotSlowAnother(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		w := newTenants(b, time.Millisecond, map[string]bool{"bad": true, "worse": true})
		w.leave(b, svc, "good", 300)
		w.leave(b, svc, "bad", 5)
		w.leave(b, svc, "worse", 5)
		w.gone = true
		time.Sleep(time.Hour)
		run, stop := context.WithCancel(ctx)
		ended := make(chan error)
		go func() {
			cfg := redisidem.CompleterConfig{MaxPerScope: 1, Interval: time.Hour}
			ended <- mustCompleterWith(b, svc, cfg, w.flow).Run(run)
		}()
		time.Sleep(30 * time.Second)
		for i := range 300 {
			if key, err := svc.Scope("good").Retrieve(ctx, fmt.Sprint("k", i)); err != nil || !key.Finished() {
				b.Fatalf("key %d is at %q, %v", i, key.RecoveryPoint, err)
			}
		}
		stop()
		mustBe(b, <-ended, context.Canceled)
	})
}

// TestSweepLeavesWhatOthersMayWorkOn sweeps while another process has the only place of a scope,
// for ever.
func TestSweepLeavesWhatOthersMayWorkOn(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		w := newTenants(b, time.Millisecond, map[string]bool{"bad": true})
		w.leave(b, svc, "bad", 40)
		w.leave(b, svc, "good", 3)
		w.gone = true
		time.Sleep(time.Hour)
		run, stop := context.WithCancel(ctx)
		ended := make(chan error)
		cfg := redisidem.CompleterConfig{MaxPerScope: 1}
		other := mustCompleterWith(b, b.service(redisidem.Config{}), cfg, w.flow)
		go func() { ended <- other.Run(run) }()
		time.Sleep(time.Minute)
		began := time.Now()
		got, err := mustCompleterWith(b, svc, cfg, w.flow).Sweep(ctx)
		mustBe(b, err, nil)
		if took := time.Since(began); took > time.Minute {
			b.Errorf("the sweep took %v, and did %+v", took, got)
		}
		stop()
		mustBe(b, <-ended, context.Canceled)
	})
}

// TestManyScopesFillTheQueue has more scopes than a completer holds keys.
func TestManyScopesFillTheQueue(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		w := newTenants(b, time.Millisecond, nil)
		for i := range 1500 {
			w.leave(b, svc, fmt.Sprint("s", i), 1)
		}
		w.gone = true
		time.Sleep(time.Hour)
		mustSweep(b, mustCompleter(b, svc, w.flow), redisidem.SweepResult{Due: 1500, Finished: 1500})
	})
}

// TestClosingServiceKeepsItsPlaces closes a service whose completer has a stage that runs.
func TestClosingServiceKeepsItsPlaces(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		w := newCrowd(b, 25*time.Second, time.Second)
		for i := range 2 {
			_, err := svc.Scope("a").DoFlow(ctx, fmt.Sprint(i), request, w.flow)
			mustBe(b, err, errStage)
		}
		w.gone = true
		time.Sleep(time.Hour)
		cfg := redisidem.CompleterConfig{MaxPerFlow: 1, Drain: time.Minute}
		closing := b.service(redisidem.Config{})
		ended := make(chan error)
		go func() { ended <- mustCompleterWith(b, closing, cfg, w.flow).Run(ctx) }()
		time.Sleep(6 * time.Second)
		closed := make(chan error)
		go func() { closed <- closing.Close(ctx) }()
		run, stop := context.WithCancel(ctx)
		go func() { ended <- mustCompleterWith(b, svc, cfg, w.flow).Run(run) }()
		mustBe(b, <-closed, nil)
		mustBe(b, <-ended, redisidem.ErrClosed)
		time.Sleep(time.Minute)
		if n := w.atOnce(""); n != 1 {
			b.Errorf("%d keys were worked on at once, want 1", n)
		}
		for i := range 2 {
			if key, err := svc.Scope("a").Retrieve(ctx, fmt.Sprint(i)); err != nil || !key.Finished() {
				b.Errorf("key %d is at %q, %v", i, key.RecoveryPoint, err)
			}
		}
		stop()
		mustBe(b, <-ended, context.Canceled)
	})
}
