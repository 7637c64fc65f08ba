//go:build unix

// Package outbox tests that an effect exists exactly when its stage was committed. Meanwhile the
// processes that commit are killed and their connections fail.
package outbox

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
	"github.com/redisidem/redisidem/test/internal/child"
	"github.com/redisidem/redisidem/test/internal/rung"
)

var kills = flag.Int("kills", 0, "how many workers are killed on the standalone server, on the cluster a half of that; 0 for what -size says")

const (
	workers    = 3  // at the same time
	goroutines = 8  // in each
	keys       = 40 // begun by each worker
	lease      = 500 * time.Millisecond
	patience   = 30 * time.Second

	numberVariable = "REDISIDEM_TEST_NUMBER"
)

// stages are the recovery points of the flow, in their order.
var stages = []string{redisidem.Started, "reserved", "charged", "shipped"}

var request = redisidem.Request{Method: "POST", Path: "/orders"}

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	flag.Parse()
	child.Main(m, map[string]func(){"worker": work, "reader": read})
}

// quiet stops go-redis from logging connections that are broken on purpose.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// service creates a service with the configuration of all processes.
func service(client redis.UniversalClient) *redisidem.Service {
	svc, err := redisidem.New(client, &redisidem.Config{Lease: lease, Timeout: 2 * time.Second})
	if err != nil {
		panic(err)
	}
	return svc
}

// open creates a service that is closed at the end of the test.
func open(t *testing.T, client redis.UniversalClient) *redisidem.Service {
	t.Helper()
	svc := service(client)
	t.Cleanup(func() { shut(t, svc) })
	return svc
}

func shut(t *testing.T, svc *redisidem.Service) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := svc.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

// orders creates the flow. Each stage adds an entry to the outbox and increments a counter.
func orders(ran func(st *redisidem.Stage)) *redisidem.Flow {
	cfg := redisidem.FlowConfig{Name: "orders", Version: 1}
	for i, point := range stages {
		cfg.Stages = append(cfg.Stages, redisidem.FlowStage{
			Point: point,
			Work: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				ran(st)
				o := redisidem.Next()
				if i == len(stages)-1 {
					o = redisidem.Finish(redisidem.JSON(201, "shipped"))
				}
				return o.WithEffects(
					effect.XAdd(st.ShardKey("outbox"), event{
						key: st.Key().Value, stage: point, revision: st.Key().Revision, fence: st.Fence(), attempt: st.Attempt(),
					}.pairs()...),
					effect.IncrBy(st.ShardKey("commits"), 1),
				), nil
			},
		})
	}
	flow, err := redisidem.NewFlow(cfg)
	if err != nil {
		panic(err)
	}
	return flow
}

// event is an entry of an outbox. It holds everything that distinguishes one commit from another,
// so that it can be matched with one journal entry.
type event struct {
	key, stage      string
	revision, fence int64
	attempt         int
}

func (e event) pairs() []string {
	return []string{
		"key", e.key, "stage", e.stage, "revision", fmt.Sprint(e.revision), "fence", fmt.Sprint(e.fence),
		"attempt", fmt.Sprint(e.attempt),
	}
}

func eventOf(values map[string]any) (e event, err error) {
	number := func(field string) int64 {
		n, err1 := strconv.ParseInt(fmt.Sprint(values[field]), 10, 64)
		err = errors.Join(err, err1)
		return n
	}
	e = event{
		key: fmt.Sprint(values["key"]), stage: fmt.Sprint(values["stage"]), revision: number("revision"),
		fence: number("fence"), attempt: int(number("attempt")),
	}
	return e, err
}

// value returns the n-th key that a worker begins.
func value(worker, n int) string { return fmt.Sprintf("%d-%d", worker, n) }

// work runs its own keys and the keys of earlier workers, until the process is killed.
func work() {
	pen := child.Own()
	number, err := strconv.Atoi(os.Getenv(numberVariable))
	if err != nil {
		panic(err)
	}
	// Every other worker times a connection out early and tries again. The others wait as long as
	// the library allows.
	readTimeout := 5 * time.Second
	if number%2 == 0 {
		readTimeout = 250 * time.Millisecond
	}
	sc := service(ownClient(readTimeout)).Scope("outbox")
	var ready sync.Once
	flow := orders(func(st *redisidem.Stage) {
		pen.Write("ran %s %s", st.Key().Value, st.Key().RecoveryPoint)
		// Even on a slow machine, most workers live until they have committed something.
		if st.Key().Revision >= int64(number%len(stages)) {
			ready.Do(func() { child.Tell("ready") })
		}
		time.Sleep(rand.N(2 * time.Millisecond))
	})
	run := func(value string) {
		_, err := sc.DoFlow(context.Background(), value, request, flow)
		switch {
		case err == nil, errors.Is(err, redisidem.ErrLocked), errors.Is(err, redisidem.ErrUnavailable),
			errors.Is(err, redisidem.ErrOutcomeUnknown), errors.Is(err, redisidem.ErrLeaseLost):
		default:
			pen.Write("failed %s %v", value, err)
		}
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for n := int(next.Add(1)) - 1; n < keys; n = int(next.Add(1)) - 1 {
				run(value(number, n))
				if number > 0 {
					run(value(rand.N(number), rand.N(keys)))
				}
			}
		})
	}
	wg.Wait()
	ready.Do(func() { child.Tell("ready") })
	time.Sleep(patience) // the process is killed before
}

// strikes counts the faults that have struck.
type strikes struct {
	mu     sync.Mutex
	number map[redistest.Fault]int
}

// spoil lets faults strike claims and, more often, commits on all connections, until ctx ends. The
// rate depends on the number of requests and not on time, so that most requests pass even on a slow
// machine.
func (s *strikes) spoil(ctx context.Context, t *testing.T, where *site, seed uint64) {
	var spoiling sync.WaitGroup
	defer spoiling.Wait()
	for i, proxy := range where.masters() {
		r := rand.New(rand.NewPCG(seed, uint64(1+i)))
		spoiling.Go(func() {
			for ctx.Err() == nil {
				s.strike(ctx, proxy, r)
			}
		})
	}
	for ctx.Err() == nil {
		where.resume(t) // held requests arrive late, often from a process that is dead by now
		select {
		case <-time.After(lease):
		case <-ctx.Done():
		}
	}
}

// strike lets one fault strike, and then lets some requests pass.
func (s *strikes) strike(ctx context.Context, proxy *redistest.Proxy, r *rand.Rand) {
	faults := []redistest.Fault{
		redistest.LoseReply, redistest.LoseReply, redistest.MuteReply, redistest.LoseRequest, redistest.HoldRequest,
		redistest.Duplicate,
	}
	markers := []string{lua.Commit.SHA, lua.Commit.SHA, lua.Commit.SHA, lua.Claim.SHA}
	fault := faults[r.IntN(len(faults))]
	select {
	case <-proxy.Once(fault, markers[r.IntN(len(markers))]):
		s.mu.Lock()
		s.number[fault]++
		s.mu.Unlock()
	case <-ctx.Done():
		return
	}
	next := proxy.Requests() + 5 + r.Int64N(55)
	for proxy.Requests() < next && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
}

func (s *strikes) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var words []string
	for _, fault := range slices.Sorted(maps.Keys(s.number)) {
		words = append(words, fmt.Sprintf("%d × %v", s.number[fault], fault))
	}
	return strings.Join(words, ", ")
}

func TestOutboxHasOneEventForEachCommit(t *testing.T) {
	t.Parallel()
	onEachSite(t, func(t *testing.T, where *site) {
		from := rung.Seed(t)
		r := rand.New(rand.NewPCG(from, 0))
		many := *kills
		if many == 0 {
			many = rung.Size(t, 100, 600, 6000)
		}
		asked := many
		if where.clustered {
			many = (many + 1) / 2
		}
		ledger := child.NewLedger(t)

		ctx, calm := context.WithCancel(context.Background())
		defer calm()
		struck := &strikes{number: make(map[redistest.Fault]int)}
		var spoiling sync.WaitGroup
		spoiling.Go(func() { struck.spoil(ctx, t, where, from) })

		// The pauses are drawn here, since a source of random numbers is not safe for concurrent
		// use.
		pauses := make([]time.Duration, many)
		for i := range pauses {
			pauses[i] = time.Duration(r.Int64N(int64(80 * time.Millisecond)))
		}
		began := time.Now()
		var next atomic.Int64
		var killing sync.WaitGroup
		for range workers {
			killing.Go(func() {
				// A very slow machine kills fewer workers.
				for time.Since(began) < 2*patience+time.Duration(asked)*time.Second/4 {
					n := int(next.Add(1)) - 1
					if n >= many {
						return
					}
					w, err := child.Start(t, "worker", ledger, where.variable(), fmt.Sprintf("%s=%d", numberVariable, n))
					if err == nil {
						err = w.Await("ready", patience)
					}
					if err != nil {
						t.Error(err)
						return
					}
					time.Sleep(pauses[n])
					w.Kill()
				}
			})
		}
		killing.Wait()
		took := time.Since(began)
		many = min(many, int(next.Load()))
		calm()
		spoiling.Wait()
		if t.Failed() {
			return
		}

		client := where.direct(t)
		svc := open(t, client)
		records := finish(t, svc.Scope("outbox").Wait(patience), many)
		// Held requests of dead processes arrive now, when all keys are finished.
		where.resume(t)
		settle(where)
		proof := compare(t, client, svc.Scope("outbox"), records)

		runs := 0
		for _, line := range ledger.Lines(t) {
			if !strings.HasPrefix(line, "ran ") {
				t.Error(line)
				continue
			}
			runs++
		}
		t.Logf("%d workers killed in %v; faults: %v", many, took.Round(time.Millisecond), struck)
		t.Logf("%d keys, %d commits, %d events; workers that were killed later made %d of the commits, in %d runs of stages; "+
			"%d commits were not the first attempt of their stage", len(records), proof.commits, proof.events,
			proof.commits-proof.calm, runs, proof.later)
		if asked >= 50 && (struck.number[redistest.LoseReply] == 0 || proof.later == 0 || proof.commits == proof.calm) {
			t.Error("too little has happened for this to show anything")
		}
		kind := "standalone"
		if where.clustered {
			kind = "cluster"
		}
		rung.Figure(t, "outbox", "%s: %d workers killed, faults %v, %d commits, %d events", kind, many, struck, proof.commits, proof.events)
	})
}

// finish resumes every key until it is finished. It returns the keys by their values.
func finish(t *testing.T, sc *redisidem.Scope, many int) map[string]*redisidem.Key {
	t.Helper()
	flow := orders(func(*redisidem.Stage) {})
	records := make(map[string]*redisidem.Key)
	var mu sync.Mutex
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 2 * goroutines {
		wg.Go(func() {
			for n := int(next.Add(1)) - 1; n < many*keys; n = int(next.Add(1)) - 1 {
				v := value(n/keys, n%keys)
				key, err := sc.DoFlow(context.Background(), v, request, flow)
				for began := time.Now(); err != nil && time.Since(began) < patience; {
					time.Sleep(10 * time.Millisecond)
					key, err = sc.DoFlow(context.Background(), v, request, flow)
				}
				if err != nil || !key.Finished() {
					t.Errorf("key %s was not finished: %v", v, err)
					return
				}
				mu.Lock()
				records[v] = key
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return records
}

// settle waits until no more requests pass the proxies.
func settle(where *site) {
	for range 50 {
		before := where.requests()
		time.Sleep(100 * time.Millisecond)
		if where.requests() == before {
			return
		}
	}
}

// proof counts what compare has compared.
type proof struct {
	commits, events int
	calm            int // commits of this process, made without faults
	later           int // commits of a stage that an earlier attempt had begun
}

// compare checks that the outboxes have exactly one event for each journal entry, and that the
// counters agree.
func compare(t *testing.T, client redis.UniversalClient, sc *redisidem.Scope, records map[string]*redisidem.Key) (p proof) {
	t.Helper()
	ctx := context.Background()
	want := make(map[event]bool)
	for v := range records {
		key, err := sc.Retrieve(ctx, v)
		if err != nil {
			t.Fatal(err)
		}
		if len(key.Journal) != len(stages) || !key.Finished() {
			t.Errorf("key %s has the journal %+v", v, key.Journal)
		}
		for i, e := range key.Journal {
			if e.Stage != stages[i] || e.Revision != int64(i) {
				t.Errorf("key %s has the journal %+v", v, key.Journal)
			}
			if strings.HasSuffix(e.Owner, fmt.Sprintf("/%d", os.Getpid())) {
				p.calm++
			}
			if e.Attempt > 1 {
				p.later++
			}
			want[event{key: v, stage: e.Stage, revision: e.Revision, fence: e.Fence, attempt: e.Attempt}] = true
		}
	}
	got := make(map[event]int)
	for _, name := range scan(t, client, "*}:x:outbox") {
		entries, err := client.XRange(ctx, name, "-", "+").Result()
		if err != nil {
			t.Fatal(err)
		}
		p.events += len(entries)
		last := make(map[string]int64) // the revision of the last event of each key
		for _, entry := range entries {
			e, err := eventOf(entry.Values)
			if err != nil {
				t.Fatalf("%s has the entry %v: %v", name, entry, err)
			}
			got[e]++
			if got[e] > 1 {
				t.Errorf("twice: %+v", e)
			}
			if !want[e] {
				t.Errorf("an event without a commit: %+v", e)
			}
			if e.revision != last[e.key] {
				t.Errorf("out of order: %+v", e)
			}
			last[e.key] = e.revision + 1
		}
		counter, err := client.Get(ctx, strings.TrimSuffix(name, "outbox")+"commits").Int()
		if err != nil || counter != len(entries) {
			t.Errorf("%s has %d entries, its counter is %d, %v", name, len(entries), counter, err)
		}
	}
	for e := range want {
		if got[e] == 0 {
			t.Errorf("a commit without an event: %+v", e)
		}
	}
	if p.commits = len(want); p.events != p.commits {
		t.Errorf("%d events for %d commits", p.events, p.commits)
	}
	return p
}
