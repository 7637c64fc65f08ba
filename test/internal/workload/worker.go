// Package workload is what workers do to idempotency keys in the rungs that disturb them:
// everything that can be done, on keys that all workers share. Each reports what it begins and what
// it learns as events of package history.
package workload

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/history"
)

// Worker works on keys. It observes its service, which must not have another observer.
type Worker struct {
	// Name stands in the events, which go to Tell. It is called concurrently.
	Name string
	Tell func(history.Event)
	// Stay spends the time of a callback, which may be cut short.
	Stay func(ctx context.Context, dwell time.Duration, e history.Event)
	// Again is how long after its last run a completer takes a key on.
	Again time.Duration

	tokens atomic.Int64
	swept  sync.Map // the completer's runs, by their runOf
	flow   func() *redisidem.Flow
}

// New makes a worker whose flow's keys a completer takes on again so long after their last run.
func New(name string, again time.Duration, tell func(history.Event)) *Worker {
	w := &Worker{Name: name, Tell: tell, Again: again, Stay: func(context.Context, time.Duration, history.Event) {}}
	w.flow = sync.OnceValue(w.newFlow)
	return w
}

// Keys are of three kinds: one stage, stages by hand, a flow.
const (
	single = "one"
	byHand = "hand"
	flowed = "flow"
)

// Value returns the key of a number.
func Value(n int) string { return fmt.Sprintf("%s-%d", [...]string{single, byHand, flowed}[n%3], n) }

func kind(value string) string {
	kind, _, _ := strings.Cut(value, "-")
	return kind
}

// stages are the recovery points of keys with several stages, in their order.
var stages = []string{redisidem.Started, "charged", "shipped"}

// Request is the request of every key.
var Request = redisidem.Request{Method: "POST", Path: "/orders"}

// Use is one use of a key.
type Use struct {
	Key   string
	Dwell time.Duration // of each callback
	Fails bool          // the callback returns an error
	Other bool          // there are two ways to work on a key of several stages: take the other one
}

// Do makes a call on a key, or as many as it takes to bring it to its end. It returns the error
// that ended them.
func (w *Worker) Do(ctx context.Context, sc *redisidem.Scope, use Use) error {
	u := &usage{worker: w, Use: use}
	ctx = context.WithValue(ctx, usageContext{}, u)
	switch {
	case kind(use.Key) == single:
		answer, _, err := redisidem.Do(ctx, sc, use.Key, Request, u.single)
		u.failed(err)
		if err == nil {
			u.answered(string(answer))
		}
		return err
	case kind(use.Key) == flowed:
		_, err := u.returned(sc.DoFlow(ctx, use.Key, Request, w.flow()))
		return err
	case use.Other:
		key, err := sc.InitializeRequest(ctx, use.Key, Request)
		if err != nil {
			u.failed(err)
		}
		for err == nil && !key.Answered() {
			key, err = u.returned(sc.WorkStage(ctx, key, u.work))
		}
		return err
	}
	key, err := &redisidem.Key{}, error(nil)
	for err == nil && !key.Answered() {
		key, err = u.returned(sc.Do(ctx, use.Key, Request, u.work))
	}
	return err
}

// newFlow makes the operation whose keys a completer finishes, too.
func (w *Worker) newFlow() *redisidem.Flow {
	cfg := redisidem.FlowConfig{Name: "orders", Version: 1, RecoverAfter: w.Again, MaxAttempts: 1 << 20}
	for _, point := range stages {
		cfg.Stages = append(cfg.Stages, redisidem.FlowStage{
			Point: point,
			Work: func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				if u, ok := ctx.Value(usageContext{}).(*usage); ok {
					return u.work(ctx, st)
				}
				return w.sweep(ctx, st)
			},
		})
	}
	flow, err := redisidem.NewFlow(cfg)
	if err != nil {
		panic(err)
	}
	return flow
}
