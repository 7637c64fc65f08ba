//go:build unix

// Package completer tests that completers finish the keys of killed workers and do not disturb live
// clients. It also measures what a sweep costs the server.
package completer

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/child"
	"github.com/redisidem/redisidem/test/internal/rung"
)

const (
	keys         = 1000
	beginners    = 4
	lease        = 2 * time.Second
	recoverAfter = 300 * time.Millisecond
	maxAttempts  = 4
	// held is how long some clients work on one stage. It is longer than a completer would need to
	// take the key over if the client did not renew.
	held     = 5 * time.Second
	patience = 90 * time.Second
)

// A child receives its orders in these environment variables.
const (
	addrVariable = "REDISIDEM_TEST_ADDR"
	seedVariable = "REDISIDEM_TEST_SEED"
	fromVariable = "REDISIDEM_TEST_FROM" // the first key that a beginner begins
	cureVariable = "REDISIDEM_TEST_CURE" // a file; once it exists, the poisoned keys recover
)

// stages are the recovery points of the flow, in their order.
var stages = []string{redisidem.Started, "weighed", "paid", "sent"}

// poison is the stage at which poisoned keys fail.
const poison = 2

var request = redisidem.Request{Method: "POST", Path: "/parcels"}

// The functions below say how each key behaves. All keys are begun, and abandoned.
func value(n int) string  { return fmt.Sprintf("parcel-%d", n) }
func poisoned(n int) bool { return n%100 == 7 }
func retried(n int) bool  { return n%10 == 3 } // by its client
func long(n int) bool     { return n%50 == 3 } // whose client works long on it
func hangsAt(seed uint64, n int) int { // the stage in which the first worker of the key dies
	at := rand.New(rand.NewPCG(seed, uint64(n))).IntN(len(stages))
	if poisoned(n) {
		at = min(at, poison)
	}
	return at
}

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	flag.Parse()
	child.Main(m, map[string]func(){"beginner": begin, "completer": complete, "client": retry, "tenants": completeTenants})
}

// quiet stops go-redis from logging closed connections.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func service(addr string, timeout time.Duration, observer redisidem.Observer) *redisidem.Service {
	svc, err := redisidem.New(
		redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true}),
		&redisidem.Config{Lease: lease, Timeout: timeout, Observer: observer},
	)
	if err != nil {
		panic(err)
	}
	return svc
}

// worker is the state of a child.
type worker struct {
	role string
	pen  child.Pen
	seed uint64
	svc  *redisidem.Service
	sc   *redisidem.Scope
	flow *redisidem.Flow
}

// newWorker makes the worker of a child. dwell is how long the worker stays in a stage.
func newWorker(role string, dwell func(n, stage int) time.Duration) *worker {
	from, err := strconv.ParseUint(os.Getenv(seedVariable), 10, 64)
	if err != nil {
		panic(err)
	}
	w := &worker{role: role, pen: child.Own(), seed: from}
	timeout := time.Second
	if role == "beginner" {
		timeout = patience // all its keys begin at once
	}
	w.svc = service(os.Getenv(addrVariable), timeout, w)
	w.sc = w.svc.Scope("parcels")
	w.flow = parcels(func(ctx context.Context, st *redisidem.Stage, stage int) error { return w.stage(ctx, st, stage, dwell) })
	return w
}

// Observe records the keys that a completer found due but could not lock.
func (w *worker) Observe(_ context.Context, e redisidem.Event) {
	if w.role == "completer" && e.Kind == redisidem.EventRefused && errors.Is(e.Err, redisidem.ErrLocked) {
		w.pen.Write("refused %s", e.Key)
	}
}

// parcels makes the flow.
func parcels(work func(ctx context.Context, st *redisidem.Stage, stage int) error) *redisidem.Flow {
	cfg := redisidem.FlowConfig{Name: "parcels", Version: 1, RecoverAfter: recoverAfter, MaxAttempts: maxAttempts}
	for i, point := range stages {
		cfg.Stages = append(cfg.Stages, redisidem.FlowStage{
			Point: point,
			Work: func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				if err := work(ctx, st, i); err != nil {
					return redisidem.Outcome{}, err
				}
				if i == len(stages)-1 {
					return redisidem.Finish(redisidem.JSON(201, st.Key().Value)), nil
				}
				return redisidem.Next(), nil
			},
		})
	}
	flow, err := redisidem.NewFlow(cfg)
	if err != nil {
		panic(err)
	}
	return flow
}

var errPoison = errors.New("poison")

// stage is a run of a stage. The ledger records its beginning and its end.
func (w *worker) stage(ctx context.Context, st *redisidem.Stage, stage int, dwell func(n, stage int) time.Duration) error {
	var n int
	if _, err := fmt.Sscanf(st.Key().Value, "parcel-%d", &n); err != nil {
		return err
	}
	run := fmt.Sprintf("%s %s %d %d %s", st.Key().Value, stages[stage], st.Fence(), os.Getpid(), w.role)
	w.pen.Write("begin %s", run)
	var err error
	timer := time.NewTimer(dwell(n, stage))
	defer timer.Stop()
	cut := ctx.Done()
	if w.role == "beginner" {
		cut = nil // on a slow machine the lease may lapse before the kill, which is not another outcome
	}
	select {
	case <-timer.C:
	case <-cut:
		err = context.Cause(ctx)
	}
	if _, missing := os.Stat(os.Getenv(cureVariable)); err == nil && missing != nil && poisoned(n) && stage == poison {
		err = errPoison
	}
	end := "done"
	if err != nil {
		end = "failed"
	}
	w.pen.Write("end %s %s", run, end)
	return err
}

func shortly(int, int) time.Duration { return rand.N(20 * time.Millisecond) }

// begin begins keys and stays in one stage of each.
func begin() {
	first, err := strconv.Atoi(os.Getenv(fromVariable))
	if err != nil {
		panic(err)
	}
	// Only a few keys begin at a time, so that none loses its lease on a slow machine.
	underway := make(chan struct{}, 16)
	var w *worker
	w = newWorker("beginner", func(n, stage int) time.Duration {
		if stage == hangsAt(w.seed, n) {
			<-underway
			return child.Lifetime // the child is killed before
		}
		return shortly(n, stage)
	})
	var wg sync.WaitGroup
	for n := first; n < keys; n += beginners {
		underway <- struct{}{}
		wg.Go(func() {
			_, err := w.sc.DoFlow(context.Background(), value(n), request, w.flow)
			w.pen.Write("failed: a beginner went on with key %d: %v", n, err)
		})
	}
	wg.Wait()
}

// complete sweeps for due keys until it is killed.
func complete() {
	w := newWorker("completer", shortly)
	c, err := redisidem.NewCompleter(w.svc, []*redisidem.Flow{w.flow}, &redisidem.CompleterConfig{Interval: 200 * time.Millisecond})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), child.Lifetime)
	defer cancel()
	w.pen.Write("failed: a completer ended: %v", c.Run(ctx))
}

// retry plays the clients that come back. Some of them then work long.
func retry() {
	var w *worker
	w = newWorker("client", func(n, stage int) time.Duration {
		if long(n) && stage == hangsAt(w.seed, n) {
			return held
		}
		return shortly(n, stage)
	})
	var wg sync.WaitGroup
	for n := range keys {
		if !retried(n) {
			continue
		}
		wg.Go(func() {
			sc := w.sc
			if long(n) {
				sc = sc.Wait(2 * lease) // to get the key before a completer does
			} else {
				time.Sleep(rand.N(2 * lease)) // some come before the completers, some after
			}
			for began := time.Now(); time.Since(began) < patience; {
				key, err := sc.DoFlow(context.Background(), value(n), request, w.flow)
				switch {
				case err == nil && key.Finished() && string(key.Response.Body) == strconv.Quote(value(n)):
					w.pen.Write("answered %s", value(n))
					return
				case errors.Is(err, redisidem.ErrLocked):
					time.Sleep(rand.N(time.Second))
				default:
					w.pen.Write("failed: client of key %d: %+v, %v", n, key, err)
					return
				}
			}
			w.pen.Write("failed: client of key %d: no answer", n)
		})
	}
	wg.Wait()
}

func TestTwoCompletersFinishAThousandAbandonedKeys(t *testing.T) {
	t.Parallel()
	from := rung.Seed(t)
	addr, ledger := rediscase.Server(t).Addr(), child.NewLedger(t)
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	svc := service(addr, patience, nil)
	cure := ledger.Path() + ".cure"
	pen, err := ledger.Open()
	must(t, err)
	t.Cleanup(func() { _ = pen.Close() })
	t.Cleanup(func() {
		for _, line := range ledger.Lines(t) {
			if t.Failed() && strings.HasPrefix(line, "failed: ") {
				t.Log(line)
			}
		}
	})
	start := func(role string, variables ...string) *child.Process {
		t.Helper()
		p, err := child.Start(t, role, ledger, append(variables, addrVariable+"="+addr, seedVariable+"="+fmt.Sprint(from),
			cureVariable+"="+cure)...)
		must(t, err)
		return p
	}
	kill := func(p *child.Process) {
		p.Kill()
		pen.Write("dead %d", p.PID())
	}

	var dying []*child.Process
	for i := range beginners {
		dying = append(dying, start("beginner", fmt.Sprintf("%s=%d", fromVariable, i)))
	}
	until(t, "each key is in its stage", func() bool { return stuck(t, ledger, from) })
	for _, p := range dying {
		kill(p)
	}
	began := time.Now()
	due, locks := count(t, client, "*}:due:parcels"), len(scan(t, client, "*:lock"))
	t.Logf("the dead leave %d keys in the due index and %d locks", due, locks)
	if due != keys || locks == 0 {
		t.Fatal("that is not what was to be")
	}

	completers := []*child.Process{start("completer"), start("completer")}
	clients := start("client")
	until(t, "a tenth is finished", func() bool { return count(t, client, "*}:due:parcels") < keys*9/10 })
	// The other completers finish the keys that a completer had when it died.
	kill(completers[0])
	completers[0] = start("completer")
	until(t, "the clients that work long are at it", func() bool { return working(t, ledger, from) })
	refused := tempt(t, client, svc.Scope("parcels"), ledger)
	letters := 0
	for n := range keys {
		if poisoned(n) {
			letters++
		}
	}
	until(t, "all but the dead letters are finished", func() bool {
		return count(t, client, "*}:due:parcels") == 0 && count(t, client, "*}:dead:parcels") == letters
	})
	took := time.Since(began)
	must(t, clients.Wait(patience))

	var given []*redisidem.Key
	for key, err := range svc.DeadLetters(context.Background(), "parcels") {
		must(t, err)
		given = append(given, key)
		want := fmt.Sprintf("stage %q of parcels/1: %d attempts", stages[poison], maxAttempts)
		var n int
		if _, err := fmt.Sscanf(key.Value, "parcel-%d", &n); err != nil || !poisoned(n) || key.DeadLetter.Reason != want {
			t.Errorf("key %s was given up: %+v", key.Value, key.DeadLetter)
		}
	}
	if len(given) != letters {
		t.Errorf("%d dead letters, want %d", len(given), letters)
	}
	must(t, os.WriteFile(cure, nil, 0o600))
	for _, key := range given {
		must(t, svc.Scope(key.Scope).Requeue(context.Background(), key))
	}
	until(t, "the dead letters are finished, too", func() bool {
		return count(t, client, "*}:due:parcels") == 0 && count(t, client, "*}:dead:parcels") == 0
	})
	for _, p := range completers {
		kill(p)
	}

	runs := runsOf(t, ledger)
	audit(t, svc.Scope("parcels"), from, runs)
	leftovers(t, client)
	rung.Figure(t, "completer", "%d keys abandoned; %v later all but %d dead letters were finished; completers were refused %d keys with a live lease",
		keys, took.Round(time.Millisecond), letters, refused)
	if refused == 0 {
		t.Error("no completer was led into temptation")
	}
}

// run is a run of a stage, as the ledger records it.
type run struct {
	value, stage, fence, pid, role string
	end                            string // "done", "failed", or "" when its process died
}

// runsOf reads the ledger, and checks that no two runs of one key overlapped.
func runsOf(t *testing.T, ledger child.Ledger) (runs []*run) {
	t.Helper()
	under := make(map[string]*run) // by key
	answers := 0
	for _, line := range ledger.Lines(t) {
		words := strings.Fields(line)
		switch words[0] {
		case "begin":
			r := &run{words[1], words[2], words[3], words[4], words[5], ""}
			if other := under[r.value]; other != nil {
				t.Errorf("%+v began while %+v was under way", r, other)
			}
			under[r.value] = r
			runs = append(runs, r)
		case "end":
			r := under[words[1]]
			if r == nil || r.fence != words[3] || r.stage != words[2] {
				t.Errorf("%q, and under way was %+v", line, r)
				continue
			}
			r.end = words[6]
			delete(under, r.value)
		case "dead":
			for value, r := range under {
				if r.pid == words[1] {
					delete(under, value)
				}
			}
		case "answered":
			answers++
		case "refused":
		default:
			t.Error(line)
		}
	}
	if len(under) != 0 {
		t.Errorf("%d runs have no end", len(under))
	}
	if answers != keys/10 {
		t.Errorf("%d clients got their answer", answers)
	}
	return runs
}

// stuck reports whether each key is in the stage in which its worker is to be killed.
func stuck(t *testing.T, ledger child.Ledger, seed uint64) bool {
	t.Helper()
	under := make(map[string]string) // the stage of each key
	for _, line := range ledger.Lines(t) {
		words := strings.Fields(line)
		switch words[0] {
		case "begin":
			under[words[1]] = words[2]
		case "end":
			delete(under, words[1])
		}
	}
	for n := range keys {
		if under[value(n)] != stages[hangsAt(seed, n)] {
			return false
		}
	}
	return true
}

// working reports whether all clients that work long have begun.
func working(t *testing.T, ledger child.Ledger, seed uint64) bool {
	t.Helper()
	want := make(map[string]bool)
	for n := range keys {
		if long(n) {
			want[value(n)+" "+stages[hangsAt(seed, n)]] = true
		}
	}
	for _, line := range ledger.Lines(t) {
		if words := strings.Fields(line); words[0] == "begin" && words[5] == "client" {
			delete(want, words[1]+" "+words[2])
		}
	}
	return len(want) == 0
}

// tempt makes the keys due on which clients work long, so that completers find them. The index is
// only a hint: the lease keeps completers away. tempt returns how many of the keys a completer
// could not lock.
func tempt(t *testing.T, client *redis.Client, sc *redisidem.Scope, ledger child.Ledger) (refused int) {
	t.Helper()
	members := make(map[string]string) // the due index of each
	for n := range keys {
		if !long(n) {
			continue
		}
		key, err := sc.Retrieve(context.Background(), value(n))
		must(t, err)
		record := scan(t, client, "*:"+key.ID())
		if len(record) != 1 {
			t.Fatalf("key %d has the records %q", n, record)
		}
		members[key.ID()] = strings.TrimSuffix(record[0], key.ID()) + "due:parcels"
	}
	// Each renewal moves the key's due time again.
	for began := time.Now(); time.Since(began) < held*3/4; time.Sleep(50 * time.Millisecond) {
		for member, index := range members {
			must(t, client.ZAddXX(context.Background(), index, redis.Z{Score: 0, Member: member}).Err())
		}
	}
	lines := ledger.Lines(t)
	for member := range members {
		if slices.Contains(lines, "refused "+member) {
			refused++
		}
	}
	return refused
}

// audit compares the journals with the ledger. Each stage was committed once, by a run in the
// ledger.
func audit(t *testing.T, sc *redisidem.Scope, seed uint64, runs []*run) {
	t.Helper()
	ran := make(map[string]*run)
	for _, r := range runs {
		id := r.value + " " + r.stage + " " + r.fence
		if ran[id] != nil {
			t.Errorf("ran twice under one lease: %+v", r)
		}
		ran[id] = r
	}
	commits := make(map[string]int) // by role
	for n := range keys {
		key, err := sc.Retrieve(context.Background(), value(n))
		must(t, err)
		if !key.Finished() || len(key.Journal) != len(stages) {
			t.Errorf("key %d ends at %s with %d commits", n, key.RecoveryPoint, len(key.Journal))
			continue
		}
		for i, e := range key.Journal {
			r := ran[fmt.Sprintf("%s %s %d", value(n), e.Stage, e.Fence)]
			if e.Revision != int64(i) || e.Stage != stages[i] || r == nil || r.end != "done" ||
				!strings.HasSuffix(e.Owner, "/"+r.pid) {
				t.Errorf("key %d has the journal entry %+v, the ledger %+v", n, e, r)
				continue
			}
			commits[r.role]++
			if i < hangsAt(seed, n) != (r.role == "beginner") {
				t.Errorf("the worker of key %d died in stage %d, and a %s committed stage %d", n, hangsAt(seed, n), r.role, i)
			}
			if i == hangsAt(seed, n) && long(n) && (r.role != "client" || e.Attempt != 2 || e.Took < held) {
				t.Errorf("the client of key %d was disturbed: %+v, by a %s", n, e, r.role)
			}
		}
	}
	number, lost := make(map[string]int), 0
	for _, r := range runs {
		number[r.role]++
		if r.end == "" {
			lost++
		}
	}
	t.Logf("commits %v; runs %v, of which %d were cut off by kill -9", commits, number, lost)
	if commits["completer"] == 0 || commits["client"] == 0 {
		t.Error("too little has happened for this to show anything")
	}
}

// leftovers checks that only records with a TTL remain.
func leftovers(t *testing.T, client *redis.Client) {
	t.Helper()
	names := scan(t, client, "*")
	for _, name := range names {
		if ttl := client.PTTL(context.Background(), name).Val(); ttl <= 0 || strings.HasSuffix(name, ":lock") {
			t.Errorf("left: %s with the TTL %v", name, ttl)
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return strings.Contains(name, ":turn:") }) // of flows, and not of keys
	if len(names) != keys {
		t.Errorf("%d keys are left, want the %d records", len(names), keys)
	}
}

func scan(t *testing.T, client *redis.Client, pattern string) (names []string) {
	t.Helper()
	it := client.Scan(context.Background(), 0, pattern, 1000).Iterator()
	for it.Next(context.Background()) {
		names = append(names, it.Val())
	}
	must(t, it.Err())
	slices.Sort(names)
	return slices.Compact(names)
}

// count counts the members of the sorted sets that match pattern.
func count(t *testing.T, client *redis.Client, pattern string) (n int) {
	t.Helper()
	pipe := client.Pipeline()
	var cards []*redis.IntCmd
	for _, name := range scan(t, client, pattern) {
		cards = append(cards, pipe.ZCard(context.Background(), name))
	}
	_, err := pipe.Exec(context.Background())
	must(t, err)
	for _, card := range cards {
		n += int(card.Val())
	}
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for began := time.Now(); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("never: %s", what)
		}
	}
}
