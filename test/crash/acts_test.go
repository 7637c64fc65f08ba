//go:build unix

package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/history"
	"github.com/redisidem/redisidem/test/internal/rung"
)

const (
	operators = 2
	// purgesPerRound is how often each operator purges the scope that leaves. The audit of all its
	// purges is in one shard, which keeps some 256 entries.
	purgesPerRound = 25
	leaving        = "leaving"
)

// TestActsUnderFire lets two operators unlock, requeue, resolve, cancel, delete and purge keys at
// the same time, while workers use the same keys and are killed. One in five replies to acts is
// lost. The promise holds, and each act is in the audit once.
func TestActsUnderFire(t *testing.T) {
	seed, many := rung.Seed(t), rung.Size(t, 250, 2_500, 10_000)
	server := rediscase.Server(t)
	random := rand.New(rand.NewPCG(seed, 0))
	var sum tally
	acts := make(map[string]int)
	began := time.Now()
	for done := 0; done < many && !t.Failed(); {
		n := min(killsPerRound, many-done)
		r := newRound(t, server, random.Uint64())
		r.most = 1 // so that completers give keys up
		working, retire := context.WithCancel(t.Context())
		var team sync.WaitGroup
		var all []*operator
		for i := range operators {
			o := newOperator(r, i)
			all = append(all, o)
			team.Go(func() { o.act(working) })
		}
		team.Go(func() { r.sweep(working) })
		r.kill(n)
		time.Sleep(2 * lease) // for the keys of the last workers
		retire()
		team.Wait()
		for _, o := range all {
			o.close()
		}
		if t.Failed() {
			return
		}
		r.compareAudit(all, acts)
		sum.add(r.settle())
		done += n
	}
	took := time.Since(began)
	t.Logf("%d kills in %v: %+v; acts: %v", many, took.Round(time.Second), sum, acts)
	if many >= killsPerRound {
		for _, what := range []string{"unlock", "requeue", "resolve", "cancel", "delete", "purge", "lost reply"} {
			if acts[what] == 0 {
				t.Errorf("no %s was done", what)
			}
		}
	}
	rung.Figure(t, "R19", "%d workers killed in %.0f s, while 2 operators did %d unlocks, %d requeues, %d resolves, %d cancels, %d deletes and %d purges, %d of them with a lost reply; "+
		"%d keys, %d answers: 0 violations, each act once in the audit", many, took.Seconds(), acts["unlock"], acts["requeue"], acts["resolve"],
		acts["cancel"], acts["delete"], acts["purge"], acts["lost reply"], sum.keys, sum.Answers)
}

// sweep is a completer that is not killed.
func (r *round) sweep(ctx context.Context) {
	client := dial(r.server.Addr(), "sweeper")
	w := newWorker("sweeper", client, r.pen, 0)
	w.MaxAttempts = r.most
	completer := w.Completer(w.svc)
	for ctx.Err() == nil {
		if _, err := completer.Sweep(context.Background()); err != nil {
			r.t.Errorf("seed %d: sweep: %v", r.seed, err)
			break
		}
		time.Sleep(recoverAfter / 20) // before clients continue the keys
	}
	if err := errors.Join(w.svc.Close(context.Background()), client.Close()); err != nil {
		r.t.Error(err)
	}
}

// operator acts on the keys of a round.
type operator struct {
	*round
	name   string
	random *rand.Rand
	proxy  *redistest.Proxy
	svc    *redisidem.Service
	in     *redisidem.Inspector
	end    func() error
	acts   []operatorsAct
	purges int
}

// operatorsAct is an act that was tried.
type operatorsAct struct {
	what, reason string
	refused      error           // nil if it was done
	lost         <-chan struct{} // closed if the reply was lost; nil if it was not to be
}

func newOperator(r *round, number int) *operator {
	r.t.Helper()
	o := &operator{round: r, name: fmt.Sprint("op", number), random: rand.New(rand.NewPCG(r.seed, 1<<32+uint64(number)))}
	o.proxy = rediscase.Proxy(r.t, r.server.Addr())
	client := dial(o.proxy.Addr(), o.name)
	var err error
	if o.svc, err = redisidem.New(client, &redisidem.Config{Timeout: patience, Retention: time.Hour, Owner: o.name}); err != nil {
		r.t.Fatal(err)
	}
	o.in = redisidem.NewInspector(o.svc)
	o.end = client.Close
	return o
}

func (o *operator) close() {
	if err := errors.Join(o.svc.Close(context.Background()), o.end()); err != nil {
		o.t.Error(err)
	}
	o.proxy.Stop()
}

// act acts on keys until ctx ends. Each act that has begun also ends.
func (o *operator) act(ctx context.Context) {
	stuck := redisidem.Filter{Scope: "crash", States: []redisidem.KeyState{
		redisidem.KeyInFlight, redisidem.KeyAbandoned, redisidem.KeyInterrupted, redisidem.KeyIdle, redisidem.KeyDead,
	}}
	flow := o.unfinished()
	for ctx.Err() == nil && !o.t.Failed() {
		for page, err := range o.in.List(ctx, stuck, "") {
			if err != nil {
				if ctx.Err() == nil {
					o.t.Errorf("seed %d: %s: list: %v", o.seed, o.name, err)
				}
				break
			}
			for _, k := range page.Keys {
				if k.State == redisidem.KeyDead || o.random.IntN(6) == 0 {
					o.actOn(k)
				}
			}
		}
		if o.purges < purgesPerRound {
			o.purges++
			o.leave(flow)
		}
	}
}

// actOn does what suits the state of a key.
func (o *operator) actOn(k *redisidem.KeyInfo) {
	ctx := context.Background()
	switch {
	case k.State == redisidem.KeyInFlight:
		o.try("unlock", func(a redisidem.Act) error { return o.in.Unlock(ctx, k, a) })
	case k.State == redisidem.KeyDead:
		o.try("requeue", func(a redisidem.Act) error { return o.in.Requeue(ctx, k, a) })
	case k.Revision == 0: // an answer has the results of all stages, and no stage has one yet
		o.try("resolve", func(a redisidem.Act) error {
			e := history.Event{Kind: history.Resolving, Worker: o.name, Key: k.Value, Token: o.name + "/" + a.Reason}
			o.pen.Write("%s", e)
			err := o.in.Resolve(ctx, k, redisidem.Finish(redisidem.JSON(200, history.Chain("").Add(e.Token))), a)
			if err == nil {
				o.pen.Write("%s", e.As(history.Committed))
			} else {
				o.pen.Write("%s", e.As(history.Fenced))
			}
			return err
		})
	}
}

// entries returns how many entries the audit has of an act at least and at most.
func (a operatorsAct) entries() (least, most int) {
	switch {
	case a.what == "purge":
		return 2, 2 // that it began, and that it ended
	case a.what == "resolve" && a.refused != nil && !errors.Is(a.refused, redisidem.ErrLocked):
		return 0, 1 // it reads the key first, which can be the reason
	}
	return 1, 1
}

var errUnfinished = errors.New("the work is not finished")

// unfinished makes the flow of keys that are to be canceled. No worker has it.
func (o *operator) unfinished() *redisidem.Flow {
	f, err := redisidem.NewFlow(redisidem.FlowConfig{Name: leaving, Version: 1, Stages: []redisidem.FlowStage{{
		Point: redisidem.Started, Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Outcome{}, errUnfinished
		},
	}}})
	if err != nil {
		o.t.Error(err)
	}
	return f
}

// leave makes keys in a scope that the other operator may purge at the same time, and cancels or
// deletes some. Then it purges the scope.
func (o *operator) leave(flow *redisidem.Flow) {
	ctx := context.Background()
	request := redisidem.Request{Method: "POST", Path: "/"}
	value := func(i int) string { return fmt.Sprintf("%s-%d-%d", o.name, o.purges, i) }
	for i := range 3 {
		if _, err := o.svc.Scope(leaving).InitializeRequest(ctx, value(i), request); err != nil {
			o.t.Errorf("seed %d: %s: %v", o.seed, o.name, err)
		}
	}
	if _, err := o.svc.Scope(leaving).DoFlow(ctx, value(3), request, flow); !errors.Is(err, errUnfinished) {
		o.t.Errorf("seed %d: %s: %v", o.seed, o.name, err)
	}
	for i, do := range map[int]func(*redisidem.Inspector, context.Context, *redisidem.KeyInfo, redisidem.Act) error{
		0: (*redisidem.Inspector).Delete, 3: (*redisidem.Inspector).Cancel,
	} {
		k, err := o.in.Get(ctx, leaving, value(i))
		switch {
		case errors.Is(err, redisidem.ErrNotFound): // the other operator has purged it
			continue
		case err != nil:
			o.t.Errorf("seed %d: %s: %v", o.seed, o.name, err)
			continue
		}
		what := "delete"
		if i == 3 {
			what = "cancel"
		}
		o.try(what, func(a redisidem.Act) error { return do(o.in, ctx, k, a) })
	}
	o.try("purge", func(a redisidem.Act) error {
		for _, err := range o.in.Purge(ctx, leaving, "", a) {
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// try does one act, and loses the reply to some.
func (o *operator) try(what string, do func(a redisidem.Act) error) {
	a := operatorsAct{what: what, reason: fmt.Sprintf("%s-%d", o.name, len(o.acts))}
	if len(o.acts)%5 == 0 {
		a.reason += "-lost"
		a.lost = o.proxy.Once(redistest.LoseReply, a.reason)
	}
	err := do(redisidem.Act{Actor: o.name, Reason: a.reason})
	a.refused = err
	for _, refusal := range []error{redisidem.ErrLocked, redisidem.ErrNotLocked, redisidem.ErrStale, redisidem.ErrFinished, redisidem.ErrNotFound} {
		if errors.Is(err, refusal) {
			err = nil
		}
	}
	if err != nil {
		o.t.Errorf("seed %d: %s: %s: %v", o.seed, o.name, what, err)
	}
	o.acts = append(o.acts, a)
}

// compareAudit compares the audit with what the operators did, and counts the acts.
func (r *round) compareAudit(all []*operator, counts map[string]int) {
	r.t.Helper()
	ctx := context.Background()
	svc, err := redisidem.New(r.client, &redisidem.Config{Timeout: patience})
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = svc.Close(ctx) }()
	in := redisidem.NewInspector(svc)
	entries, err := in.Audit(ctx, time.Time{}, time.Time{})
	if err != nil {
		r.t.Fatal(err)
	}
	found := make(map[string][]redisidem.AuditEntry)
	for _, e := range entries {
		if strings.HasPrefix(e.Act, "purge: at ") {
			continue // its progress
		}
		found[e.Reason] = append(found[e.Reason], e)
	}
	for _, o := range all {
		for _, a := range o.acts {
			entries := found[a.reason]
			delete(found, a.reason)
			if least, most := a.entries(); len(entries) < least || len(entries) > most {
				r.t.Errorf("seed %d: the audit of %s %s (%v) is %+v", r.seed, a.what, a.reason, a.refused, entries)
			}
			for _, e := range entries {
				if e.Actor != o.name || !strings.HasPrefix(e.Act, a.what) || a.refused != nil && e.Outcome == "done" {
					r.t.Errorf("seed %d: the audit of %s %s (%v) is %+v", r.seed, a.what, a.reason, a.refused, e)
				}
			}
			if a.refused == nil {
				counts[a.what]++
				counts["lost reply"] += struck(a.lost)
			}
		}
	}
	for reason, entries := range found {
		r.t.Errorf("seed %d: no operator did %s: %+v", r.seed, reason, entries)
	}
	for page, err := range in.List(ctx, redisidem.Filter{Scope: leaving}, "") {
		if err != nil || len(page.Keys) > 0 {
			r.t.Errorf("seed %d: the scope that was purged has %d keys: %v", r.seed, len(page.Keys), err)
		}
	}
}

// struck returns 1 if a fault has struck.
func struck(fault <-chan struct{}) int {
	select {
	case <-fault:
		return 1
	default:
		return 0
	}
}
