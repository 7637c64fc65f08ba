package properties

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
)

const (
	owners = 2
	slots  = 2
	// timeout is Config.Timeout of the services: the duration of a call that gets no answer.
	timeout = 500 * time.Millisecond
	// settled is the time after which a commit that is retried in the background has arrived, once
	// the network is restored.
	settled = 3 * time.Second
	// moment is the minimum duration of an action.
	moment = 10 * time.Microsecond
)

// Each key is used with both requests.
var requests = []redisidem.Request{
	{Method: "POST", Path: "/carts/1/complete", Params: map[string]any{"cart": 1}},
	{Method: "POST", Path: "/carts/2/complete", Params: map[string]any{"cart": 2}},
}

// machine compares services with the model after each action.
type machine struct {
	t      *rapid.T
	ctx    context.Context
	raw    redis.UniversalClient
	dial   func() (net.Conn, error) // connects to the server, past all networks
	scope  *redisidem.Scope         // of a process that only reads
	owners []*owner
	slots  []*slot
	// travels means that the test controls the time.
	travels bool
	// completes means that completers look for keys. This is slow, since they ask each shard.
	completes bool
	namespace string
	plan      plan

	workers []*worker
	views   []view
	// slack is the tolerance between an expiry and the model's.
	slack time.Duration
}

// world is the environment of a machine.
type world struct {
	options func() *redis.Options
	travels bool
	// completes means that there are completers.
	completes bool
}

var namespaces int

// newMachine starts services on a server. They are closed at the end of the case.
func newMachine(t *rapid.T, w world) *machine {
	namespaces++
	m := &machine{
		t: t, ctx: context.Background(), travels: w.travels, completes: w.completes, namespace: fmt.Sprintf("properties%d", namespaces),
	}
	m.slack = m.least()
	spans := times{lease: 9 * time.Second, retention: 60 * time.Second, maxHold: 50 * time.Second}
	if !m.travels {
		spans = times{lease: 10 * time.Minute, retention: time.Hour, maxHold: 2 * time.Hour}
	}
	for i := range slots {
		m.slots = append(m.slots, &slot{times: spans, value: fmt.Sprintf("key %d", i)})
	}
	cfg := redisidem.Config{
		Namespace: m.namespace, Lease: spans.lease, Retention: spans.retention, MaxHold: spans.maxHold, Timeout: timeout,
		CommitRetry: 1000 * time.Hour,
	}
	if !m.travels {
		cfg.Timeout = 20 * time.Second
	}
	serve := func(opt *redis.Options) *redisidem.Service {
		client := redis.NewClient(opt)
		svc, err := redisidem.New(client, &cfg)
		m.must(err)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := svc.Close(ctx); err != nil {
				t.Errorf("close: %v", err)
			}
			_ = client.Close()
		})
		return svc
	}
	watch := w.options()
	plain := newNetwork(watch)
	m.dial = func() (net.Conn, error) { return plain.dial(m.ctx, "tcp", watch.Addr) }
	m.scope = serve(watch).Scope("customer")
	raw := redis.NewClient(w.options())
	m.raw = raw
	t.Cleanup(func() { _ = raw.Close() })
	for i := range owners {
		opt := w.options()
		o := &owner{name: fmt.Sprintf("owner %d", i), network: newNetwork(opt)}
		o.service = serve(opt)
		o.scope = o.service.Scope("customer")
		o.flow = m.newFlow()
		m.owners = append(m.owners, o)
	}
	// Leases end before their services are closed, since Close would wait for them.
	t.Cleanup(m.end)
	return m
}

// end gives all leases back.
func (m *machine) end() {
	for _, o := range m.owners {
		o.network.set(false, false)
	}
	for _, w := range m.workers {
		_ = w.lease.Abandon(m.ctx)
	}
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatalf("%v", err)
	}
}

// expect compares an error with the model's verdict.
func (m *machine) expect(err error, v verdict) {
	m.t.Helper()
	want := map[verdict]error{
		fine: nil, notFound: redisidem.ErrNotFound, finished: redisidem.ErrFinished, locked: redisidem.ErrLocked,
		stale: redisidem.ErrStale, mismatch: redisidem.ErrFingerprintMismatch, fenced: redisidem.ErrFenced,
		lost: redisidem.ErrLeaseLost, ended: redisidem.ErrLeaseEnded, noProgress: redisidem.ErrNoProgress,
		effectRefused: redisidem.ErrEffect, notKept: redisidem.ErrNotKept, unknown: redisidem.ErrOutcomeUnknown, unavailable: redisidem.ErrUnavailable,
	}[v]
	if !errors.Is(err, want) {
		m.t.Fatalf("error is %v, want %s", err, v)
	}
}

// now advances the model to the present, and returns the time.
func (m *machine) now() time.Time {
	if m.travels {
		synctest.Wait() // everything that is due at this moment has happened
	}
	now := time.Now()
	for _, s := range m.slots {
		s.advance(now, m.workers)
		m.lapseDue(s, now)
	}
	return now
}

// pass lets time pass.
func (m *machine) pass(d time.Duration) {
	if m.travels {
		time.Sleep(d)
	}
	m.now()
}

// connected draws a process that can reach the server.
func (m *machine) connected(t *rapid.T) *owner {
	var there []*owner
	for _, o := range m.owners {
		if !o.cut {
			there = append(there, o)
		}
	}
	need(t, len(there) > 0)
	return rapid.SampledFrom(there).Draw(t, "owner")
}

// need makes rapid draw another action if this one has nothing to do. It must run before the action
// draws anything.
func need(t *rapid.T, met bool) {
	if !met {
		t.SkipNow()
	}
}

func (m *machine) slot(t *rapid.T) *slot { return rapid.SampledFrom(m.slots).Draw(t, "key") }

// view draws an earlier view of a key, and a connected process.
func (m *machine) view(t *rapid.T) (*owner, view) {
	need(t, len(m.views) > 0)
	return m.connected(t), rapid.SampledFrom(last(m.views)).Draw(t, "view")
}

// last returns the latest elements.
func last[T any](all []T) []T { return all[max(0, len(all)-6):] }

// saw records a view of a key.
func (m *machine) saw(s *slot, key *redisidem.Key) {
	m.views = append(m.views, view{s, s.record, key})
}

// worker draws a worker that has or had a lease. Workers that may still have it are drawn more
// often.
func (m *machine) worker(t *rapid.T, fit func(*worker) bool) *worker {
	var all, working []*worker
	for _, w := range m.workers {
		if fit(w) {
			all = append(all, w)
			if !w.ended {
				working = append(working, w)
			}
		}
	}
	need(t, len(all) > 0)
	return rapid.SampledFrom(append(last(all), working...)).Draw(t, "worker")
}

// outcome draws an outcome for a key in a slot. Its response and state contain bytes of all kinds.
func (m *machine) outcome(t *rapid.T, s *slot) *outcome {
	point := rapid.SampledFrom([]string{"two", "three", redisidem.Started, redisidem.Finished, redisidem.Finished}).Draw(t, "point")
	o := &outcome{Outcome: redisidem.Advance(point)}
	if rapid.Bool().Draw(t, "answers") {
		o.Response = &redisidem.Response{
			Code:   rapid.SampledFrom([]int{0, 100, 200, 402, 599}).Draw(t, "code"),
			Header: map[string][]string{"X": {rapid.StringMatching(`[ -~]{0,3}`).Draw(t, "header")}},
			Body:   rapid.SliceOfN(rapid.Byte(), 0, 6).Draw(t, "body"),
		}
		if point != redisidem.Finished {
			o.Interim = rapid.Bool().Draw(t, "interim")
		} else if rapid.Bool().Draw(t, "fails") {
			o.Outcome = redisidem.Fail(*o.Response)
		}
	}
	if rapid.Bool().Draw(t, "leaves state") {
		state := string(rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, "state"))
		o.state = &state
		o.Outcome = o.WithState([]byte(state))
	}
	return o
}

// withEffects draws effects for an outcome.
func (m *machine) withEffects(t *rapid.T, s *slot, o *outcome) {
	counter := m.counter(s)
	for range rapid.IntRange(0, 2).Draw(t, "effects") {
		n := rapid.Int64Range(-3, 3).Draw(t, "n")
		o.counts += n
		o.Outcome = o.WithEffects(effect.IncrBy(counter, n))
	}
	if rapid.IntRange(0, 5).Draw(t, "refused") == 0 {
		o.refuse = true
		o.Outcome = o.WithEffects(effect.SAdd(m.text(s), "member"))
	}
}

// place returns the Redis keys of a slot's record and lock.
func (m *machine) place(s *slot) (record, lock string) {
	record = m.prefix(s) + m.scope.ID(s.value)
	return record, record + ":lock"
}

// counter returns the Redis key that effects increment.
func (m *machine) counter(s *slot) string { return m.prefix(s) + "x:counter" }

// text returns a Redis key that holds a string, so that set members cannot be added to it.
func (m *machine) text(s *slot) string {
	key := m.prefix(s) + "x:text"
	m.must(m.raw.Set(m.ctx, key, "text", 0).Err())
	return key
}

// prefix returns the prefix of the Redis keys in a slot's shard. It comes from a record, since only
// the library knows it.
func (m *machine) prefix(s *slot) string {
	if s.prefix == "" {
		for _, k := range m.keys() {
			if prefix, ok := strings.CutSuffix(k, m.scope.ID(s.value)); ok {
				s.prefix = prefix
			}
		}
	}
	return s.prefix
}

// keys returns all Redis keys of the case.
func (m *machine) keys() []string {
	keys, err := m.raw.Keys(m.ctx, m.namespace+":*").Result()
	m.must(err)
	return keys
}
