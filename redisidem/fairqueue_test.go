package redisidem_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// tenants is a flow whose runs are written down. Before gone is set, clients call it and leave
// their keys behind.
type tenants struct {
	mu   sync.Mutex
	gone bool
	runs []string // scopes, in the order in which stages began
	took time.Duration
	flow *redisidem.Flow
}

func newTenants(t testing.TB, took time.Duration, hang map[string]bool) *tenants {
	w := &tenants{took: took}
	w.flow = mustFlow(t, redisidem.FlowConfig{Name: "order", Version: 1, RecoverAfter: time.Second, Stages: []redisidem.FlowStage{{
		Point: redisidem.Started,
		Work: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			w.mu.Lock()
			gone, scope := w.gone, st.Key().Scope
			if gone {
				w.runs = append(w.runs, scope)
			}
			w.mu.Unlock()
			switch {
			case !gone:
				return redisidem.Outcome{}, errStage
			case hang[scope]:
				time.Sleep(24 * time.Hour) // it knows no context
				return redisidem.Outcome{}, errStage
			}
			time.Sleep(w.took)
			return redisidem.Finish(redisidem.JSON(200, "done")), nil
		},
	}}})
	return w
}

// leave makes keys of a scope that no client comes back for.
func (w *tenants) leave(t testing.TB, svc *redisidem.Service, scope string, keys int) {
	for i := range keys {
		_, err := svc.Scope(scope).DoFlow(ctx, fmt.Sprint("k", i), request, w.flow)
		mustBe(t, err, errStage)
	}
}

// before returns how many stages of other scopes began before the last one of a scope.
func (w *tenants) before(scope string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := -1
	for i, s := range w.runs {
		if s == scope {
			last = i
		}
	}
	for _, s := range w.runs[:last+1] {
		if s != scope {
			n++
		}
	}
	return n
}

func TestScopesTakeTurns(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		w := newTenants(b, 10*time.Millisecond, nil)
		w.leave(b, svc, "hot", 300)
		w.leave(b, svc, "warm", 20)
		w.leave(b, svc, "cold", 3)
		w.gone = true
		time.Sleep(time.Hour)
		mustSweep(b, mustCompleterWith(b, svc, redisidem.CompleterConfig{Concurrency: 2}, w.flow), redisidem.SweepResult{Due: 323, Finished: 323})
		// Three turns of each scope, and one more for each worker.
		if n := w.before("cold"); n > 3*2+2 {
			b.Errorf("the last key of the scope with 3 came after %d of others", n)
		}
		if n := w.before("warm"); n > 20+3+20 {
			b.Errorf("the last key of the scope with 20 came after %d of others", n)
		}
	})
}

// TestNewKeysDoNotWaitForABacklog checks that a running completer finds the keys of a scope that
// become due while it works on the many keys of another one.
func TestNewKeysDoNotWaitForABacklog(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		w := newTenants(b, time.Second, nil)
		w.leave(b, svc, "hot", 600)
		w.gone = true
		time.Sleep(time.Hour)
		run, stop := context.WithCancel(ctx)
		ended := make(chan error)
		go func() {
			ended <- mustCompleterWith(b, svc, redisidem.CompleterConfig{Concurrency: 1, Interval: time.Second}, w.flow).Run(run)
		}()
		time.Sleep(10 * time.Second)
		w.mu.Lock()
		w.gone = false
		w.mu.Unlock()
		_, err := svc.Scope("cold").DoFlow(ctx, "k", request, w.flow)
		mustBe(b, err, errStage)
		w.mu.Lock()
		w.gone = true
		w.mu.Unlock()
		time.Sleep(20 * time.Second) // the lease of 10 s comes first
		if key, err := svc.Scope("cold").Retrieve(ctx, "k"); err != nil || !key.Finished() {
			b.Errorf("the key is at %q, %v", key.RecoveryPoint, err)
		}
		stop()
		mustBe(b, <-ended, context.Canceled)
	})
}

// TestHungStagesGiveUpTheirPlaces covers a scope whose stages never return: the keys of other
// scopes are continued nevertheless.
func TestHungStagesGiveUpTheirPlaces(t *testing.T) {
	inBubble(t, func(b *bubble) {
		rec := &recorder{}
		svc := b.service(redisidem.Config{MaxHold: time.Minute, Observer: rec})
		w := newTenants(b, time.Millisecond, map[string]bool{"bad": true})
		w.leave(b, svc, "bad", 3)
		w.leave(b, svc, "good", 40)
		w.gone = true
		time.Sleep(time.Hour)
		run, stop := context.WithCancel(ctx)
		ended := make(chan error)
		go func() {
			ended <- mustCompleterWith(b, svc, redisidem.CompleterConfig{Concurrency: 2}, w.flow).Run(run)
		}()
		time.Sleep(10 * time.Minute)
		for i := range 40 {
			if key, err := svc.Scope("good").Retrieve(ctx, fmt.Sprint("k", i)); err != nil || !key.Finished() {
				b.Fatalf("key %d is at %q, %v", i, key.RecoveryPoint, err)
			}
		}
		if n := rec.count(redisidem.EventHung); n < 2 || n > 4 {
			b.Errorf("%d stages were reported as hung", n)
		}
		stop()
		mustBe(b, <-ended, context.Canceled)
	})
}
