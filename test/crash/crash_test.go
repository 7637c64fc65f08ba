//go:build unix

// Package crash kills and freezes processes that work on the same keys, and then holds what each was told against what Redis has:
// no stage has two commits, no two callers got different answers, no lock outlives its lease, no key is without a TTL, and all
// that was begun can be finished.
//
//	go test -v ./test/crash -size change                    300 kill -9, 50 SIGSTOP
//	go test -v ./test/crash -size nightly                   10,000 and 1,000; release: 50,000 and 1,000
//	go test -v -run Kill ./test/crash -kills 500 -seed 42   what a failed run says
//
// The random choices of the test come from its seed; when a process is struck in its work is a matter of the machine.
package crash

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/child"
	"github.com/redisidem/redisidem/test/internal/rung"
)

var (
	kills = flag.Int("kills", 0, "how many workers are killed; 0 for what -size says")
	stops = flag.Int("stops", 0, "how many times a worker is stopped for longer than its leases; 0 for what -size says")
)

const (
	workers  = 4 // at a time
	patience = 60 * time.Second
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	flag.Parse()
	child.Main(m, map[string]func(){"worker": work})
}

// quiet keeps go-redis from writing about connections that end.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// count returns what a flag says, or else the rung's size.
func count(t *testing.T, asked, change, nightly, release int) int {
	if asked > 0 {
		return asked
	}
	return rung.Size(t, change, nightly, release)
}

// scene is a server with its workers' ledger.
type scene struct {
	*testing.T
	server *redistest.Server
	client *redis.Client
	ledger child.Ledger
	seed   uint64
	keys   int           // that each worker begins
	dwell  time.Duration // the longest that its callbacks take
}

func newScene(t *testing.T, keys int, dwell time.Duration) *scene {
	t.Helper()
	s := &scene{T: t, server: rediscase.Server(t), ledger: child.NewLedger(t), seed: rung.Seed(t), keys: keys, dwell: dwell}
	s.client = dial(s.server.Addr())
	t.Cleanup(func() { _ = s.client.Close() })
	return s
}

// start starts the worker of that number, and blocks until it is at work.
func (s *scene) start(number int) (*child.Process, error) {
	w, err := child.Start(s, "worker", s.ledger, addrVariable+"="+s.server.Addr(), fmt.Sprintf("%s=%d", numberVariable, number),
		fmt.Sprintf("%s=%d", keysVariable, s.keys), fmt.Sprintf("%s=%v", dwellVariable, s.dwell))
	if err != nil {
		return nil, err
	}
	err = w.Await("ready", patience)
	return w, err
}

// each calls strike with the numbers below n, several at a time, and a pause of up to longest drawn for each.
func (s *scene) each(n int, longest time.Duration, strike func(number int, pause time.Duration) error) {
	// The pauses are drawn here, since a source of random numbers is not safe for concurrent use.
	r := rand.New(rand.NewPCG(s.seed, 0))
	pauses := make([]time.Duration, n)
	for i := range pauses {
		pauses[i] = time.Duration(r.Int64N(int64(longest)))
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := strike(i, pauses[i]); err != nil {
					s.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestKill(t *testing.T) {
	s := newScene(t, 8, 20*time.Millisecond)
	many := count(t, *kills, 300, 10_000, 50_000)
	began := time.Now()
	s.each(many, 100*time.Millisecond, func(number int, pause time.Duration) error {
		w, err := s.start(number)
		if err != nil {
			return err
		}
		time.Sleep(pause)
		w.Kill()
		return nil
	})
	took := time.Since(began)
	sum := s.settle()
	rung.Figure(t, "R5", "%d kill -9 in %v: %s", many, took.Round(time.Second), sum)
	if many >= 100 && (sum.again == 0 || sum.replays == 0) {
		t.Error("too little has happened for this to show anything")
	}
}

func TestStop(t *testing.T) {
	s := newScene(t, 500, lease/2) // always something to freeze
	many := count(t, *stops, 50, 1000, 1000)
	const perWorker = 5 // so that keys are fresh
	began := time.Now()
	s.each((many+perWorker-1)/perWorker, lease, func(number int, pause time.Duration) error {
		w, err := s.start(number)
		if err != nil {
			return err
		}
		defer w.Kill()
		for range perWorker {
			time.Sleep(pause / 4)
			if err := w.Pause(); err != nil {
				return err
			}
			time.Sleep(lease + lease/4 + pause)
			if err := w.Resume(); err != nil {
				return err
			}
		}
		time.Sleep(2 * lease) // what was frozen wakes up, and says so
		return nil
	})
	took := time.Since(began)
	sum := s.settle()
	rung.Figure(t, "R6", "%d SIGSTOPs beyond the lease in %v: %d callbacks slept through their lease, %d of them were cancelled; %s",
		(many+perWorker-1)/perWorker*perWorker, took.Round(time.Second), sum.frozen, sum.cancelled, sum)
	if many >= 50 && sum.frozen == 0 {
		t.Error("no callback was frozen")
	}
	if sum.frozen != sum.cancelled {
		t.Errorf("%d callbacks slept through their lease, and %d were cancelled", sum.frozen, sum.cancelled)
	}
}

// settle waits until the dead workers' leases are over, finishes all keys and audits everything.
func (s *scene) settle() summary {
	s.Helper()
	if s.Failed() {
		s.FailNow()
	}
	ctx := context.Background()
	for _, lock := range s.scan("*:lock") {
		// A lock that is gone by now has the TTL -2.
		if left := s.client.PTTL(ctx, lock).Val(); left > lease || left == -1 {
			s.Errorf("the lock %s has %v left, and a lease has %v", lock, left, lease)
		}
	}
	time.Sleep(lease + 50*time.Millisecond)
	if locks := s.scan("*:lock"); len(locks) > 0 {
		s.Errorf("%d locks are left, among them %s", len(locks), locks[0])
	}

	lines := s.ledger.Lines(s)
	keys := keysOf(lines)
	sc := scope(s.client)
	var mu sync.Mutex
	records := make(map[string]*redisidem.Key)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 4 * workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(keys); i = int(next.Add(1)) - 1 {
				record, err := finish(sc, keys[i])
				if err != nil {
					s.Errorf("key %s cannot be finished: %v", keys[i], err)
					return
				}
				mu.Lock()
				records[keys[i]] = record
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if s.Failed() {
		s.FailNow()
	}
	sum, violations := audit(lines, records)
	for _, v := range violations[:min(len(violations), 10)] {
		s.Error(v)
		key, _, _ := strings.Cut(v, ":")
		for _, line := range lines {
			if words := strings.Fields(line); len(words) > 1 && words[1] == key {
				s.Log("  " + line)
			}
		}
	}
	s.mustExpire()
	return sum
}

// mustExpire checks that all has a TTL but the due indexes, which are cleaned by whoever looks into them.
func (s *scene) mustExpire() {
	names := slices.DeleteFunc(s.scan("*"), func(name string) bool { return strings.Contains(name, "}:due:") })
	for batch := range slices.Chunk(names, 1000) {
		pipe := s.client.Pipeline()
		ttls := make([]*redis.DurationCmd, len(batch))
		for i, name := range batch {
			ttls[i] = pipe.PTTL(context.Background(), name)
		}
		if _, err := pipe.Exec(context.Background()); err != nil {
			s.Fatal(err)
		}
		for i, name := range batch {
			if ttls[i].Val() == -1 {
				s.Errorf("%s has no TTL", name)
			}
		}
	}
}

func (s *scene) scan(pattern string) (names []string) {
	it := s.client.Scan(context.Background(), 0, pattern, 1000).Iterator()
	for it.Next(context.Background()) {
		names = append(names, it.Val())
	}
	if err := it.Err(); err != nil {
		s.Fatal(err)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// finish brings a key to its end, however it was left, and returns it as Redis has it.
func finish(sc *redisidem.Scope, value string) (*redisidem.Key, error) {
	silent := &worker{sc: sc, write: func(string, ...any) {}, ready: func() {}}
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		key, err := silent.ask(value)
		if err == nil && key.Finished() {
			return sc.Retrieve(context.Background(), value)
		}
		if time.Since(began) > patience {
			return nil, errors.Join(errors.New("it took too long"), err)
		}
	}
}
