//go:build unix

// Package processes tests workers in processes of their own. The test binary runs itself again as a
// worker, and reads the worker's results from a ledger that outlives the worker.
package processes

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
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

// A worker receives its orders in these environment variables.
const (
	addrVariable = "REDISIDEM_TEST_ADDR"
	goVariable   = "REDISIDEM_TEST_GO" // a file; once it exists, a waiting callback returns
)

const (
	processes   = 4
	goroutines  = 25 // in each process
	keys        = 50
	shortLease  = 2 * time.Second
	patience    = 20 * time.Second
	frozenValue = "frozen"
	earlier     = "earlier" // the recovery point that the sleeper commits before it sleeps
)

// stages are the recovery points of the race, in their order.
var stages = []string{redisidem.Started, "one", "two", redisidem.Finished}

var request = redisidem.Request{Method: "POST", Path: "/"}

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	child.Main(m, map[string]func(){"racer": race, "sleeper": sleep})
}

// quiet stops go-redis from logging connections to servers that are just starting.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// service creates the service of a worker.
func service(addr string, lease time.Duration) (*redisidem.Service, *redis.Client) {
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	svc, err := redisidem.New(client, &redisidem.Config{Lease: lease, Timeout: 5 * time.Second})
	if err != nil {
		panic(err)
	}
	return svc, client
}

// workerScope returns the scope through which a worker uses the keys.
func workerScope(lease time.Duration) *redisidem.Scope {
	svc, _ := service(os.Getenv(addrVariable), lease)
	return svc.Scope("processes")
}

// scope returns the scope through which the test uses the keys.
func scope(t *testing.T, addr string, lease time.Duration) *redisidem.Scope {
	t.Helper()
	svc, client := service(addr, lease)
	t.Cleanup(func() {
		if err := errors.Join(svc.Close(context.Background()), client.Close()); err != nil {
			t.Error(err)
		}
	})
	return svc.Scope("processes")
}

// race drives every key to Finished, in competition with the other workers.
func race() {
	sc, out := workerScope(10*time.Second), child.Own()
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for _, i := range rand.Perm(keys) {
				drive(sc, out, fmt.Sprint("key", i))
			}
		})
	}
	wg.Wait()
}

func drive(sc *redisidem.Scope, out child.Pen, value string) {
	for began := time.Now(); time.Since(began) < patience; {
		key, err := sc.InitializeRequest(context.Background(), value, request)
		for err == nil && !key.Answered() {
			var fence int64
			seen := key
			key, err = sc.WorkStage(context.Background(), key, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				fence = st.Fence()
				time.Sleep(rand.N(time.Millisecond))
				next := stages[st.Key().Revision+1]
				if next == redisidem.Finished {
					return redisidem.Finish(redisidem.JSON(200, fence)), nil
				}
				return redisidem.Advance(next), nil
			})
			if fence != 0 && err == nil {
				out.Write("committed %s %s %d", value, seen.RecoveryPoint, fence)
			}
		}
		if err == nil {
			out.Write("answered %s %s", value, key.Response.Body)
			return
		}
		if !errors.Is(err, redisidem.ErrLocked) {
			out.Write("failed %s %v", value, err)
			return
		}
		time.Sleep(rand.N(3 * time.Millisecond))
	}
	out.Write("failed %s no end", value)
}

func TestFourProcessesRaceForFiftyKeys(t *testing.T) {
	server := rediscase.Server(t)
	recorder := newRecorder(t)
	var workers []*child.Process
	for range processes {
		workers = append(workers, worker(t, "racer", server.Addr(), recorder))
	}
	for _, w := range workers {
		if err := w.Wait(3 * patience); err != nil {
			t.Fatal(err)
		}
	}

	committed, answers, answered := map[string]string{}, map[string]string{}, 0
	for _, line := range recorder.Lines(t) {
		words := strings.Fields(line)
		switch words[0] {
		case "committed":
			stage := words[1] + " " + words[2]
			if committed[stage] != "" {
				t.Errorf("%s was committed twice", stage)
			}
			committed[stage] = words[3]
		case "answered":
			answered++
			if a := answers[words[1]]; a != "" && a != words[2] {
				t.Errorf("%s was answered with %s and with %s", words[1], a, words[2])
			}
			answers[words[1]] = words[2]
		default:
			t.Error(line)
		}
	}
	sc := scope(t, server.Addr(), 0)
	for i := range keys {
		value := fmt.Sprint("key", i)
		key, err := sc.Retrieve(context.Background(), value)
		if err != nil {
			t.Fatal(err)
		}
		for r, stage := range stages[:3] {
			if key.Journal[r].Stage != stage || fmt.Sprint(key.Journal[r].Fence) != committed[value+" "+stage] {
				t.Errorf("%s: the journal has %+v, the ledger %q", value, key.Journal[r], committed[value+" "+stage])
			}
		}
		if len(key.Journal) != 3 || string(key.Response.Body) != answers[value] {
			t.Errorf("%s: %d revisions, response %s, answered %s", value, len(key.Journal), key.Response.Body, answers[value])
		}
	}
	locks, eternal := leftovers(t, server.Client())
	all := fmt.Sprintf("%d processes of %d goroutines race for %d keys: %d commits, %d answers, %d locks left, %d keys without TTL",
		processes, goroutines, keys, len(committed), answered, locks, eternal)
	if len(committed) != 3*keys || answered != processes*goroutines*keys || locks != 0 || eternal != 0 {
		t.Errorf("that is not what was to be: %s", all)
	}
	rung.Figure(t, "R5", "%s", all)
}

// leftovers counts locks, and keys without a TTL.
func leftovers(t *testing.T, client *redis.Client) (locks, eternal int) {
	t.Helper()
	defer func() { _ = client.Close() }()
	ctx := context.Background()
	for it := client.Scan(ctx, 0, "*", 1000).Iterator(); it.Next(ctx); {
		if strings.HasSuffix(it.Val(), ":lock") {
			locks++
		}
		if client.PTTL(ctx, it.Val()).Val() < 0 {
			eternal++
		}
	}
	return locks, eternal
}

// sleep commits a first stage. Its second stage waits in a callback until goVariable's file exists.
func sleep() {
	sc, out := workerScope(shortLease), child.Own()
	_, err := sc.Do(context.Background(), frozenValue, request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Advance(earlier), nil
	})
	if err != nil {
		panic(err)
	}
	var stage context.Context
	_, err = sc.Do(context.Background(), frozenValue, request, func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
		stage = ctx
		out.Write("inside")
		for {
			if _, err := os.Stat(os.Getenv(goVariable)); err == nil {
				return redisidem.Finish(redisidem.JSON(200, "sleeper")), nil
			}
			time.Sleep(time.Millisecond)
		}
	})
	out.Write("outcome fenced=%t error=%t lost=%t", errors.Is(err, redisidem.ErrFenced), err != nil,
		errors.Is(context.Cause(stage), redisidem.ErrLeaseLost))
}

func TestFrozenWorkerIsFencedAndCancelled(t *testing.T) {
	server, recorder := rediscase.Server(t), newRecorder(t)
	w := freeze(t, server.Addr(), recorder)
	key, err := scope(t, server.Addr(), shortLease).Wait(patience).Do(context.Background(), frozenValue, request,
		func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			if st.Attempt() != 2 {
				t.Errorf("attempt %d", st.Attempt())
			}
			return redisidem.Finish(redisidem.JSON(200, "other")), nil
		})
	if err != nil || key.Replayed() {
		t.Fatal(key, err)
	}
	mustReport(t, thaw(t, w, recorder), "outcome fenced=true error=true lost=true")
	mustHold(t, server.Addr(), `"other"`)
}

// TestFrozenWorkerIsFencedWhileAnotherWorks covers the time between the other worker's claim and
// its commit. The record is unchanged then, so only the claim fences the frozen worker.
func TestFrozenWorkerIsFencedWhileAnotherWorks(t *testing.T) {
	server, recorder := rediscase.Server(t), newRecorder(t)
	w := freeze(t, server.Addr(), recorder)
	key, err := scope(t, server.Addr(), 10*time.Second).Wait(patience).Do(context.Background(), frozenValue, request,
		func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			mustReport(t, thaw(t, w, recorder), "outcome fenced=true error=true lost=true")
			return redisidem.Finish(redisidem.JSON(200, "other")), nil
		})
	if err != nil || key.Replayed() {
		t.Fatal(key, err)
	}
	mustHold(t, server.Addr(), `"other"`)
}

func TestLapsedLeaseWithoutASuccessorCommits(t *testing.T) {
	server, recorder := rediscase.Server(t), newRecorder(t)
	w := freeze(t, server.Addr(), recorder)
	client := server.Client()
	defer func() { _ = client.Close() }()
	until(t, "the lock is gone", func() bool {
		locks, err := client.Keys(context.Background(), "*:lock").Result()
		return err == nil && len(locks) == 0
	})
	mustReport(t, thaw(t, w, recorder), "outcome fenced=false error=false lost=true")
	mustHold(t, server.Addr(), `"sleeper"`)
}

func TestKilledWorkerFreesTheKeyWithinOneLease(t *testing.T) {
	server, recorder := rediscase.Server(t), newRecorder(t)
	w := worker(t, "sleeper", server.Addr(), recorder)
	until(t, "the callback runs", func() bool { return len(recorder.Lines(t)) == 1 })
	w.Kill()
	sc := scope(t, server.Addr(), shortLease)
	ran := 0
	finish := func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		ran++
		if key := st.Key(); st.Attempt() != 2 || key.RecoveryPoint != earlier || key.Revision != 1 {
			t.Errorf("attempt %d of %s, revision %d", st.Attempt(), key.RecoveryPoint, key.Revision)
		}
		return redisidem.Finish(redisidem.JSON(200, "retry")), nil
	}
	_, err := sc.Do(context.Background(), frozenValue, request, finish)
	var locked *redisidem.LockedError
	if !errors.As(err, &locked) || locked.RetryAfter <= 0 || locked.RetryAfter > shortLease {
		t.Fatalf("error is %v", err)
	}
	if ran != 0 {
		t.Error("the callback ran on a key that another has")
	}
	time.Sleep(locked.RetryAfter + 2*time.Millisecond)
	key, err := sc.Do(context.Background(), frozenValue, request, finish)
	if err != nil || ran != 1 || key.Replayed() {
		t.Fatal(key, err)
	}
	if j := key.Journal; len(j) != 2 || j[0].Stage != redisidem.Started || j[1].Stage != earlier || j[1].Attempt != 2 {
		t.Errorf("the journal is %+v", j)
	}
	mustHold(t, server.Addr(), `"retry"`)
}

// freeze starts a sleeper and stops it inside its callback.
func freeze(t *testing.T, addr string, recorder child.Ledger) *child.Process {
	t.Helper()
	w := worker(t, "sleeper", addr, recorder)
	until(t, "the callback runs", func() bool { return len(recorder.Lines(t)) == 1 })
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	return w
}

// thaw lets the callback of a stopped sleeper return, and returns the last line that the sleeper
// wrote.
func thaw(t *testing.T, w *child.Process, recorder child.Ledger) string {
	t.Helper()
	if err := os.WriteFile(recorder.Path()+".go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.Continue(); err != nil {
		t.Fatal(err)
	}
	if err := w.Wait(3 * patience); err != nil {
		t.Fatal(err)
	}
	lines := recorder.Lines(t)
	return lines[len(lines)-1]
}

func mustHold(t *testing.T, addr, body string) {
	t.Helper()
	key, err := scope(t, addr, 0).Retrieve(context.Background(), frozenValue)
	if err != nil || !key.Finished() || string(key.Response.Body) != body {
		t.Errorf("the record is %+v, %v", key, err)
	}
}

// worker starts a worker in a role.
func worker(t *testing.T, role, addr string, recorder child.Ledger) *child.Process {
	t.Helper()
	w, err := child.Start(t, role, recorder, addrVariable+"="+addr, goVariable+"="+recorder.Path()+".go")
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func newRecorder(t *testing.T) child.Ledger {
	t.Helper()
	t.Parallel()
	return child.NewLedger(t)
}

func mustReport(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("the worker was %q, want %q", got, want)
	}
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for began := time.Now(); !holds(); time.Sleep(time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("never: %s", what)
		}
	}
}
