//go:build unix

// Package soak shows that the promise of package redisidem holds on a bad network for hours, and
// that resource usage does not grow.
//
// Workers with their own services use keys in every way, through a proxy whose toxics come and go:
// latency, jitter, little bandwidth, replies and requests that never arrive, resets, slices and
// cuts. The results that they receive are continuously compared with Redis. Each key and revision
// has one stored result, and every caller gets the same bytes. Each commit has one effect, fences
// grow, no two callbacks of a key overlap, and every Redis key has a TTL.
//
// Storms and quiet phases take turns. Each storm ends with a cut in which some workers die. Within
// a lease and a second after the cut, all keys must be finished. Each quiet phase compares
// everything, and measures goroutines and the heap, which must not grow.
//
//	go test -count=1 -v ./test/soak -size change               # a minute
//	go test -count=1 -v -timeout 2h ./test/soak -size nightly  # an hour
//	go test -count=1 -v -timeout 5h ./test/soak -size release  # four hours
//	go test -count=1 -v ./test/soak -for 10m
//
// The seed repeats the network and the workers' choices:
//
//	go test -count=1 -v ./test/soak -seed 17
package soak

import (
	"context"
	"flag"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/child"
	"github.com/redisidem/redisidem/test/internal/rung"
	"github.com/redisidem/redisidem/test/internal/workload"
)

var length = flag.Duration("for", 0, "how long; 0 for what -size says")

const (
	goroutines   = 4 // of each worker
	lease        = time.Second
	timeout      = 500 * time.Millisecond
	retention    = 2 * time.Minute
	recoverAfter = 200 * time.Millisecond
	stormy       = 7 * time.Second // between two quiet phases
	patience     = time.Minute

	// bound is how long after a cut it may take until every key is finished. The leases of dead
	// workers must lapse first.
	bound = lease + time.Second

	window  = 64 // the number of keys in use at a time
	spacing = 25 * time.Millisecond
	perTurn = 1_000_000 // key numbers per turn, so that each quiet phase starts with new keys
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	flag.Parse()
	child.Main(m, map[string]func(){"proxy": serve})
}

// quiet stops go-redis from logging connections that are broken on purpose.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// soak is one run of the test.
type soak struct {
	t       *testing.T
	network *network
	ledger  *ledger
	workers []*worker
	watcher *worker // bypasses the proxy

	gate  sync.RWMutex                  // workers hold it for reading, the quiet phase for writing
	hurry atomic.Pointer[chan struct{}] // closed when the quiet phase is about to begin
	turn  atomic.Int64                  // the number of quiet phases so far
	began atomic.Int64                  // when the last quiet phase ended, in nanoseconds

	keys    int
	slowest time.Duration // the slowest recovery
}

// someKey draws one of the keys that are in use now.
func (s *soak) someKey(r *rand.Rand) string {
	front := int(time.Since(time.Unix(0, s.began.Load())) / spacing)
	return workload.Value(int(s.turn.Load())*perTurn + front + r.IntN(window))
}

// begin begins the time between two quiet phases.
func (s *soak) begin() {
	hurry := make(chan struct{})
	s.hurry.Store(&hurry)
	s.began.Store(time.Now().UnixNano())
}

func TestNothingIsLostAndNothingPilesUpOnABadNetwork(t *testing.T) {
	seed, whole := rung.Seed(t), *length
	if whole == 0 {
		whole = time.Duration(rung.Size(t, 60, 3600, 4*3600)) * time.Second
	}
	server := rediscase.Server(t)
	s := &soak{t: t, network: newNetwork(t, whole+5*patience, server.Addr(), seed), ledger: newLedger()}
	s.begin()
	for way, cfg := range [ways]redisidem.Config{{}, {AutoPipeline: true}, {CacheBytes: 256 << 10}} {
		name := [ways]string{"plain", "piped", "caching"}[way]
		s.workers = append(s.workers, newWorker(s, name, s.network.addrs[way], cfg))
	}
	s.watcher = newWorker(s, "watcher", server.Addr(), redisidem.Config{})

	ctx, end := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i, p := range s.workers {
		for j := range goroutines {
			r := rand.New(rand.NewPCG(seed, uint64(2+goroutines*i+j)))
			wg.Go(func() { p.work(ctx, s, r) })
		}
		wg.Go(func() { p.complete(ctx, s) })
	}
	wg.Go(func() { s.watch(ctx) })

	first, last := measure{}, measure{}
	began := time.Now()
	for i := 0; i == 0 || time.Since(began) < whole && !s.failed(); i++ {
		storm, endStorm := context.WithTimeout(ctx, stormy)
		s.network.storm(storm)
		endStorm()
		last = s.quietPhase(ctx)
		if i == 0 {
			first = last // the storm before it was the warm-up
		}
		t.Logf("%v after %v: %+v", last, time.Since(began).Round(time.Second), s.ledger.count())
	}
	end()
	wg.Wait()
	for _, p := range append(s.workers, s.watcher) {
		closing, cancel := context.WithTimeout(context.Background(), patience)
		if err := p.leave(closing); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
		cancel()
	}
	s.network.cut()

	for _, v := range s.ledger.wrong {
		t.Errorf("seed %d: %v", seed, v)
	}
	last.mustBeFlat(t, first)
	count := s.ledger.count()
	// A result that arrives after the lease is rare: a minute may pass without one.
	if s.keys == 0 || count.Committed == 0 || count.Unknown == 0 || whole >= 10*time.Minute && count.Fenced == 0 || count.Answers < s.keys {
		t.Errorf("too little has happened for this to show anything: %d keys, %+v", s.keys, count)
	}
	t.Logf("network: %v", s.network)
	rung.Figure(t, "R14", "%v of changing faults (%v): %d keys, %d runs, %d commits acknowledged, %d refused, %d unknown, %d answers: 0 violations; "+
		"slowest recovery %v (bound %v); first %v, last %v", time.Since(began).Round(time.Second), s.network, s.keys, count.Runs,
		count.Committed, count.Fenced, count.Unknown, count.Answers, s.slowest.Round(time.Millisecond), bound, first, last)
}

func (s *soak) failed() bool {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	return s.t.Failed() || len(s.ledger.wrong) > 0
}
