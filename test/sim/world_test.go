package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/anishathalye/porcupine"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
)

const (
	workers   = 4
	lease     = 3 * time.Second
	timeout   = 500 * time.Millisecond
	retention = 24 * time.Hour
	longest   = 3 * lease // duration of a callback

	stageTimeout = time.Second // in histories with stages that hang
	commitRetry  = 2 * lease
	endOfTime    = time.Hour
	stream       = "outbox"
	counter      = "commits"
)

// finisher is the number of the worker that finishes all keys at the end. All these numbers are
// even: if versions change, they have the second one.
const finisher = workers

// completers are the numbers of the processes that are only completers.
var completers = []int{6, 8}

// The keys of other scopes and other flows than those of all others.
const (
	otherScope = "k3"
	otherFlow  = "k4"
)

// scopeOf returns the name of a key's scope.
func scopeOf(key string) string {
	if key == otherScope || key == otherFlow {
		return "other"
	}
	return "sim"
}

// flowOf returns the name of a key's flow.
func flowOf(key string) string {
	if key == otherFlow {
		return "bills"
	}
	return "orders"
}

var request = redisidem.Request{Method: "POST", Path: "/orders", Params: map[string]any{"cart": 1}}

// world is one history: a server, its workers in fake time, and the events.
type world struct {
	seed   uint64
	rate   float64 // the probability of a fault for each request
	began  time.Time
	server *miniredis.Miniredis
	keys   []string
	ids    map[string]string
	plan   plan

	*history
	observer *observer
	limits   *limits
	hangs    *hangs
	zombies  sync.WaitGroup
	calm     atomic.Bool // faults have stopped
	lost     atomic.Bool // the due indexes were lost, and not all keys are in them again
	closed   atomic.Bool // the flow was, or may have been, paused for clients
}

// plan is the kind of a history.
type plan struct {
	forgets    bool // the server loses all its data
	deletes    bool
	unlocks    bool
	completes  bool
	crowd      bool // more keys, of two scopes and two flows, were left unfinished; two completers come to them
	updates    bool
	encodes    bool          // records hold encrypted values
	caches     bool          // workers cache copies of finished records
	patience   int           // MaxAttempts of the flow
	deadline   time.Duration // of the flow
	cancels    bool
	pausable   bool // clients get an error while the flow is paused for them
	loses      bool // the due indexes are lost, and an operator rebuilds them
	changes    bool // half of the workers have the second version of the flow
	exhausts   bool // a key without attempts left fails, and failed stages are compensated
	apologizes bool // a key without attempts left goes to a last stage of its own
	returnless bool // a stage is the point of no return
	hangs      bool // stages have a Timeout, which some ignore
	limit      redisidem.CompleterConfig
}

// outcome is the result of a history.
type outcome struct {
	Seed       uint64
	Hash       uint64
	Violations []string
	Trace      []string
	Tally      tally
}

// simulate runs the history of a seed. It must be the only one in its process, since the source of
// tokens and pauses is shared.
func simulate(t *testing.T, seed uint64, forgets bool) (o outcome) {
	synctest.Test(t, func(t *testing.T) {
		cryptotest.SetGlobalRandom(t, seed)
		w := newWorld(seed)
		w.plan.forgets = forgets
		defer w.server.Close()
		w.live()
		o = outcome{seed, w.hash(), w.violations, w.lines, w.count}
	})
	return o
}

func newWorld(seed uint64) *world {
	r := rand.New(rand.NewPCG(seed, 0))
	w := &world{
		seed: seed, rate: []float64{0, 0.05, 0.15, 0.3}[r.IntN(4)], began: time.Now(), server: miniredis.NewMiniRedis(),
		ids:  make(map[string]string),
		plan: plan{deletes: r.IntN(5) == 0, unlocks: r.IntN(5) == 0, completes: r.IntN(4) == 0},
	}
	w.plan.encodes = r.IntN(4) == 0
	w.plan.patience = 1 + 9*r.IntN(2)
	if !w.plan.deletes { // after a delete a copy may answer for a while, and revisions begin again
		w.plan.caches, w.plan.updates = r.IntN(4) == 0, r.IntN(4) == 0
	}
	if r.IntN(4) == 0 {
		w.plan.deadline = upTo(15*time.Second, r) + time.Millisecond
	}
	switch r.IntN(4) {
	case 0, 1:
		w.plan.exhausts = true
	case 2:
		w.plan.apologizes = true
	}
	w.plan.returnless, w.plan.hangs = r.IntN(3) == 0, r.IntN(5) == 0
	w.plan.cancels = r.IntN(5) == 0
	w.plan.pausable, w.plan.loses = r.IntN(3) == 0, r.IntN(4) == 0
	w.plan.changes = r.IntN(4) == 0
	w.plan.crowd = w.plan.completes && r.IntN(2) == 0
	w.plan.hangs = w.plan.hangs || w.plan.crowd && r.IntN(3) == 0
	w.plan.cancels = w.plan.cancels || w.plan.returnless && r.IntN(3) == 0
	switch r.IntN(4) {
	case 0:
		w.plan.limit.MaxPerScope = 1
	case 1:
		w.plan.limit.MaxPerFlow = 1 + r.IntN(2)
	}
	w.plan.limit.Interval = time.Second
	w.plan.limit.Concurrency = 1 + 7*r.IntN(2)
	w.server.ClockTTL(true)
	w.history = newHistory(w)
	w.keys = []string{"k0", "k1"}
	if w.plan.crowd {
		w.keys = append(w.keys, "k2", otherScope, otherFlow)
	}
	w.limits = &limits{world: w, running: make(map[string]run)}
	w.hangs = &hangs{world: w, runs: make(map[leaseID]*hanging)}
	w.observer = newObserver(w)
	return w
}

// live runs the history, and then checks the state of the world.
func (w *world) live() {
	r := rand.New(rand.NewPCG(w.seed, 98))
	var all []*worker
	for i := range workers {
		all = append(all, w.startWorker(i))
	}
	for _, key := range w.keys {
		w.ids[key] = all[0].scopeOf(key).ID(key)
	}
	var wg sync.WaitGroup
	if w.plan.crowd {
		all[0].leaveUnfinished()
	}
	for _, it := range all {
		it.start(&wg)
	}
	switch {
	case w.plan.crowd:
		for _, number := range completers[:2-r.IntN(4)/3] {
			it := w.startWorker(number)
			all = append(all, it)
			wg.Go(it.complete)
		}
	case w.plan.completes:
		wg.Go(all[0].complete)
	}
	if w.plan.forgets {
		wg.Go(func() {
			time.Sleep(upTo(10*time.Second, rand.New(rand.NewPCG(w.seed, 99))))
			w.log("the server forgets everything")
			w.server.FlushAll()
		})
	}
	wg.Wait()
	for _, it := range all {
		it.retire()
	}
	w.zombies.Wait()
	w.calm.Store(true)
	time.Sleep(lease + time.Second)
	w.settle()
	w.check()
	time.Sleep(3 * time.Second) // a pool that could not dial checks once a second whether it may stop
}

// startWorker starts a worker: a process with its own service and client.
func (w *world) startWorker(number int) *worker {
	it := &worker{world: w, number: number, random: rand.New(rand.NewPCG(w.seed, uint64(1+number)))}
	it.turns = &turns{worker: it}
	it.network = &network{world: w, worker: number, turns: it.turns}
	if number != finisher {
		for range it.random.IntN(3) {
			from := upTo(10*time.Second, it.random)
			it.network.cuts = append(it.network.cuts, span{from, from + upTo(2*lease, it.random)})
		}
		if it.random.IntN(8) == 0 { // to the server it looks killed
			it.network.cuts = append(it.network.cuts, span{upTo(10*time.Second, it.random), endOfTime})
		}
	}
	it.client = redis.NewClient(&redis.Options{
		Addr:   "127.0.0.1:1", // never dialled
		Dialer: it.network.dial, Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1, PoolSize: 20,
		WriteBufferSize:          1 << 20, // each request is one piece
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	cfg := redisidem.Config{
		Lease: lease, Timeout: timeout, Retention: retention, CommitRetry: commitRetry, Owner: fmt.Sprint("w", number), Observer: it,
	}
	if w.plan.encodes {
		cfg.Codec = encryption()
	}
	if w.plan.caches && !w.plan.forgets {
		cfg.CacheBytes = 64 << 10
	}
	svc, err := redisidem.New(it.client, &cfg)
	if err != nil {
		panic(err)
	}
	it.service, it.flows = svc, w.idleFlows()
	return it
}

func encryption() redisidem.Codec {
	c, err := codec.NewEncryption(codec.EncryptionKey{ID: "sim", Secret: make([]byte, 32)})
	if err != nil {
		panic(err)
	}
	return c
}

// mayForget reports whether a key's record may be missing.
func (w *world) mayForget(key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.removed[key] || w.plan.forgets
}

// settle shows that no key is stuck: when there are no more faults, a new worker can finish every
// key.
func (w *world) settle() {
	for _, name := range w.server.Keys() {
		if strings.HasSuffix(name, ":lock") {
			w.violation("a lock has outlived its lease: %s", name)
		}
	}
	it := w.startWorker(finisher)
	if w.closed.Load() {
		(&operator{worker: it, inspector: redisidem.NewInspector(it.service)}).resume()
	}
	for _, key := range w.keys {
		it.cancelTooLate(key)
		first := it.finish(key)
		second := it.finish(key)
		if first == nil || second == nil {
			continue
		}
		if !second.Finished() || !second.Replayed() {
			w.violation("%s was finished, and then it is at %s", key, second.RecoveryPoint)
		}
	}
	it.retire()
}

const notLinearizable = "the history is not linearizable"

// check checks the history as a whole.
func (w *world) check() {
	w.matchEffects()
	if porcupine.CheckOperations(register, w.completeOperations()) {
		return
	}
	w.violation(notLinearizable)
}

// matchEffects compares the effects in Redis with the commits. Each commit has added one entry to
// the outbox and one to the counter.
func (w *world) matchEffects() {
	for _, key := range w.keys {
		record := w.observer.records[key].name
		if record == "" {
			continue
		}
		shard := strings.TrimSuffix(record, w.ids[key]) + "x:"
		entries, _ := w.server.Stream(shard + stream + key)
		var values []string
		for _, e := range entries {
			values = append(values, e.Values[1])
		}
		number, _ := w.server.Get(shard + counter + key)
		if number != fmt.Sprint(len(values)) && len(values) > 0 {
			w.violation("%s has %d entries in its outbox, and its counter is at %s", key, len(values), number)
		}
		seen := make(map[string]bool)
		for _, v := range values {
			r := w.byValue[v]
			switch {
			case seen[v]:
				w.violation("the effects of %s were applied twice", v)
			case r == nil || r.key != key:
				w.violation("the outbox of %s has %q", key, v)
			case r.state == fenced:
				w.violation("%s was fenced, and its effects are there", v)
			}
			seen[v] = true
		}
		for v, r := range w.byValue {
			if r.key == key && r.effects && r.state == committed && !seen[v] {
				w.violation("%s was committed, and its effects are not there", v)
			}
		}
	}
}
