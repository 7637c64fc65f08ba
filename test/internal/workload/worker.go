// Package workload is the load of the rungs that disturb workers: every use of idempotency keys, on
// keys that all workers share. Workers report their actions and results as events of package
// history.
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
	// Name is the worker's name in the events. Tell receives the events and is called concurrently.
	Name string
	Tell func(history.Event)
	// Stay waits for the duration of a callback. It may return early.
	Stay func(ctx context.Context, dwell time.Duration, e history.Event)
	// Again is how long after the last run of a key a completer runs it again.
	Again time.Duration
	// MaxAttempts is how often a completer runs a stage of a key.
	MaxAttempts int

	tokens atomic.Int64
	swept  sync.Map // the completer's runs, by their runOf
	flow   func() *redisidem.Flow
}

// New creates a worker. A completer runs the keys of its flow again when the time again has passed
// since their last run.
func New(name string, again time.Duration, tell func(history.Event)) *Worker {
	w := &Worker{Name: name, Tell: tell, Again: again, MaxAttempts: 1 << 20, Stay: func(context.Context, time.Duration, history.Event) {}}
	w.flow = sync.OnceValue(w.newFlow)
	return w
}

// Keys have one stage, stages by hand, or a flow.
const (
	single = "one"
	byHand = "hand"
	flowed = "flow"
)

// Value returns the key with number n.
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
	Other bool          // use the other one of the two ways to work on a key of several stages
}

// Do makes one call on a key, or as many as it takes to finish the key. It returns the error of the
// last call.
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

// newFlow creates the flow whose keys a completer also finishes.
func (w *Worker) newFlow() *redisidem.Flow {
	cfg := redisidem.FlowConfig{Name: "orders", Version: 1, RecoverAfter: w.Again, MaxAttempts: w.MaxAttempts}
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
