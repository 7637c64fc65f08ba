//go:build unix

// Package crash tests that the promise of package redisidem holds when workers end at any moment,
// or are stopped for longer than their leases.
//
// Thousands of worker processes are killed or stopped while they work on the same keys. They use
// every way there is: Do, stage by stage, flows, waiting for others, and a completer. Each records
// in a ledger the stages that it begins and the results that it receives. When all workers are
// gone, the ledger is compared with Redis. No stage is committed twice, and every caller received
// the same bytes. No lock outlives its lease. Every key has a TTL and can be finished. In a third
// test, operators act on the same keys, and each act is in the audit once.
//
//	go test -count=1 -v ./test/crash -size change  # about a minute
//	go test -count=1 -v -timeout 2h ./test/crash -size nightly    # 10,000 kills and 1,000 stops
//	go test -count=1 -v -timeout 8h ./test/crash -size release    # 50,000 kills and 1,000 stops
//	go test -count=1 -v ./test/crash -kills 1000 -stops 100
//
// A failure prints its seed and the ledger's lines of the key. The seed repeats the choices of the
// workers and the times of the kills. It does not repeat the scheduling of the system:
//
//	go test -count=1 -v -run Kill ./test/crash -seed 17
package crash

import (
	"context"
	"flag"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/test/internal/child"
	"github.com/redisidem/redisidem/test/internal/history"
	"github.com/redisidem/redisidem/test/internal/rung"
)

var (
	kills = flag.Int("kills", 0, "how many workers are killed; 0 for what -size says")
	stops = flag.Int("stops", 0, "how often workers are stopped; 0 for what -size says")
)

const (
	workers       = 3 // at a time
	killsPerRound = 250
	stopsPerRound = 50
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	flag.Parse()
	child.Main(m, map[string]func(){"worker": work})
}

// quiet stops go-redis from logging closed connections.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// TestKilledWorkersLeaveNothingWrong kills workers with SIGKILL. Half of them kill themselves,
// right before a command is sent or right after its reply has arrived.
func TestKilledWorkersLeaveNothingWrong(t *testing.T) {
	seed, many := rung.Seed(t), *kills
	if many == 0 {
		many = rung.Size(t, 300, 10_000, 50_000)
	}
	server := rediscase.Server(t)
	random := rand.New(rand.NewPCG(seed, 0))
	var sum tally
	began := time.Now()
	for done := 0; done < many && !t.Failed(); {
		n := min(killsPerRound, many-done)
		r := newRound(t, server, random.Uint64())
		r.kill(n)
		if t.Failed() {
			return
		}
		sum.add(r.settle())
		done += n
	}
	took := time.Since(began)
	t.Logf("%d kills in %v (%.1f/s): %+v", many, took.Round(time.Second), float64(many)/took.Seconds(), sum)
	if many >= 100 && (sum.retried == 0 || sum.completed == 0 || sum.resumed == 0 || sum.Answers < sum.keys) {
		t.Error("too little has happened for this to show anything")
	}
	rung.Figure(t, "R5", "%d workers killed in %.0f s; %d keys, %d runs, %d commits acknowledged, %d of those stored not the first attempt, "+
		"%d answers: 0 double commits, 0 differing answers, 0 locks past their lease, 0 keys without TTL, 0 keys unfinished",
		many, took.Seconds(), sum.keys, sum.Runs, sum.Committed, sum.retried, sum.Answers)
}

// TestStoppedWorkersAreFencedAndCancelled stops workers with SIGSTOP for longer than a lease, while
// others continue, and then resumes them.
func TestStoppedWorkersAreFencedAndCancelled(t *testing.T) {
	seed, many := rung.Seed(t), *stops
	if many == 0 {
		many = rung.Size(t, 50, 1_000, 1_000)
	}
	server := rediscase.Server(t)
	random := rand.New(rand.NewPCG(seed, 0))
	var sum tally
	began := time.Now()
	for done := 0; done < many && !t.Failed(); {
		n := min(stopsPerRound, many-done)
		r := newRound(t, server, random.Uint64())
		r.stop(n)
		if t.Failed() {
			return
		}
		sum.add(r.settle())
		done += n
	}
	took := time.Since(began)
	t.Logf("%d stops in %v (%.1f/s): %+v", many, took.Round(time.Second), float64(many)/took.Seconds(), sum)
	if many >= 20 && (sum.Fenced == 0 || sum.Stopped == 0) {
		t.Error("too little has happened for this to show anything")
	}
	rung.Figure(t, "R6", "%d stops past the lease in %.0f s; %d runs, %d results refused; 0 stale commits accepted, "+
		"%d of %d callbacks that were stopped cancelled", many, took.Seconds(), sum.Runs, sum.Fenced, sum.Cancelled, sum.Stopped)
}

// stopsPerLife is how often one worker is stopped.
const stopsPerLife = 5

// stop stops workers many times in all, each time for longer than a lease.
func (r *round) stop(many int) {
	r.t.Helper()
	var lives sync.WaitGroup
	random := rand.New(rand.NewPCG(r.seed, 1))
	turns := make(chan struct{}, workers)
	for number := 0; many > 0; number++ {
		var pauses []time.Duration
		for ; many > 0 && len(pauses) < 2*stopsPerLife; many-- {
			pauses = append(pauses, time.Duration(random.Int64N(int64(150*time.Millisecond))),
				lease+lease/10+time.Duration(random.Int64N(int64(lease))))
		}
		turns <- struct{}{}
		lives.Go(func() {
			defer func() { <-turns }()
			if err := r.stopOne(number, pauses); err != nil {
				r.t.Errorf("seed %d: worker %d: %v", r.seed, number, err)
			}
		})
	}
	lives.Wait()
}

// stopOne is the life of one worker, which works and is stopped by turns.
func (r *round) stopOne(number int, pauses []time.Duration) error {
	o := orders{number: number, spacing: 30 * time.Millisecond, stopped: true}
	p, err := r.start(o)
	for i := 0; err == nil && i < len(pauses); i += 2 {
		time.Sleep(pauses[i])
		if err = p.Stop(); err != nil {
			break
		}
		// Every line that the worker writes from now on is later than this line.
		r.pen.Write("%s", history.Event{Kind: history.Stopped, Worker: o.worker()})
		time.Sleep(pauses[i+1])
		err = p.Continue()
	}
	if err != nil {
		return err
	}
	time.Sleep(2 * lease) // lets its callbacks end
	p.Kill()
	return nil
}
