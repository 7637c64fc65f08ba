package idemtest

import (
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

// DefaultMaxRequests is the default of [CrashConfig].MaxRequests.
const DefaultMaxRequests = 10

// CrashConfig configures [CrashMatrix]. World and Promise are required.
type CrashConfig struct {
	// World returns a new state of everything outside Redis for each case, such as databases and
	// fakes of other services. Cases must not share any of it.
	World func(tb testing.TB) World

	// Promise is how often each effect may happen in the life of a key. An effect that World counts
	// and that has no promise fails the test. A promised effect that World does not count has
	// happened 0 times.
	Promise map[string]Times

	// Depth is how many processes die in a row before one lives. With 2, the process that resumes
	// is killed at each of its own boundaries too, which squares the number of cases. Default: 1.
	Depth int

	// MaxRequests is how often a request is sent at most until it is answered. Crashes do not
	// count. Default: 10.
	MaxRequests int

	// Client returns a new client for each process, without connections, always of the same Redis.
	// CrashMatrix closes the clients and removes its keys at the end. Default: an embedded server,
	// whose clock is advanced past each lease, so that no case waits.
	Client func(tb testing.TB) redis.UniversalClient

	// Config is the configuration of the services and may be nil. Its Namespace is replaced. Lease
	// defaults to 10 s, or to 1 s with a Client, because the next process waits for it after each
	// crash. Timeout defaults to 5 s, because the machine may be busy with other tests. A Lease
	// that lapses while a stage runs makes the test fail. If a repetition of the stage does no
	// harm, it makes the test weaker.
	Config *redisidem.Config
}

// World is the state that one case works on.
type World struct {
	// Flow returns the flow as a program makes it when it starts. It is called once for each
	// process. Variables that it captures are lost with the process. State that must survive
	// belongs in the World or in the state of the key.
	Flow func() (*redisidem.Flow, error)

	// Request is the request of the key.
	Request redisidem.Request

	// Mask, if it is not nil, changes a copy of a response before it is compared with that of the
	// undisturbed run. It removes the parts that may differ between worlds, such as random
	// identifiers. A world that numbers its objects needs no Mask, and is checked more strictly.
	Mask func(r *redisidem.Response)

	// Interim, if it is not nil, is called with each interim answer before the request is sent
	// again. It does the next step of the client, such as confirming a payment.
	Interim func(key *redisidem.Key)

	// Effects returns how often each effect has happened so far, by name. Examples are charges at
	// the payment provider and orders in the database.
	Effects func() map[string]int
}

// CrashMatrix checks that a flow survives a crash at each of its boundaries. It first runs the flow
// undisturbed, to find the boundaries:
//
//   - before and after the work of each stage
//   - before the commit of a stage arrives at Redis
//   - after the commit was stored, and before its reply arrives
//
// Reconcile and Compensate have the same boundaries, and the program can mark more with
// [CrashPoint]. For each boundary, CrashMatrix runs the flow
// in a new world and kills its process there. The goroutine ends, nothing more of the process
// reaches Redis, and the lease is not released. When the lease has lapsed, another process gets the
// same request, until it is answered.
//
// Each case is a subtest with the name of the boundary, such as kill_before_paid. It must end like
// the undisturbed run: with the same response, byte for byte after World.Mask, and with the same
// stages committed once each. Every effect must have happened as often as promised. Redis must have
// no lock, and no key without an expiry except those of [redisidem.Stage.ShardKey]. A further
// process must then replay the response without running anything.
//
// If the flow has Exhausted and a RecoverAfter, a completer of the process comes after each request
// that ends with an error, because only completers end a key whose attempts are used up. It waits
// 64 times RecoverAfter before that: a Deadline shorter than that ends the flow then, and with a
// Client of the caller's own, RecoverAfter must be at most 156 ms.
//
// CrashMatrix finds flows that break their promise. It finds work that does harm the second time,
// and state that was kept in memory. It also finds a response that depends on the run: on its
// fence, its attempt, the time or a random number. It does not find goroutines that a stage starts
// and does not wait for.
//
// CrashMatrix blocks until all cases have ended. A case takes some milliseconds with the embedded
// server, and at least one lease with a client of the caller's own. CrashMatrix cannot be called
// inside a bubble of testing/synctest.
func CrashMatrix(t *testing.T, c CrashConfig) {
	t.Helper()
	crashMatrix(tRunner{t}, c)
}

// runner is a test that can have subtests.
type runner interface {
	testing.TB
	Parallel()
	run(name string, f func(runner))
}

type tRunner struct{ *testing.T }

func (t tRunner) run(name string, f func(runner)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { f(tRunner{t}) })
}

// matrix is one call of CrashMatrix, or one recovery point of AdoptMatrix.
type matrix struct {
	CrashConfig
	cfg redisidem.Config
	// from is an earlier version of the flow, which works on the key up to the recovery point at.
	// Empty: the key begins with the newest version.
	from, at string
	// wanted is the final state of the undisturbed run.
	wanted finalState
}

func crashMatrix(t runner, c CrashConfig) {
	t.Helper()
	newMatrix(t, c).test(t)
}

// newMatrix checks a configuration and fills in its defaults.
func newMatrix(t runner, c CrashConfig) *matrix {
	t.Helper()
	m := &matrix{CrashConfig: c}
	if c.World == nil || len(c.Promise) == 0 {
		t.Fatal("idemtest: CrashConfig.World and CrashConfig.Promise are required")
	}
	if c.Depth < 0 || c.MaxRequests < 0 {
		t.Fatal("idemtest: CrashConfig.Depth and CrashConfig.MaxRequests must not be negative")
	}
	m.Depth, m.MaxRequests = max(c.Depth, 1), c.MaxRequests
	if m.MaxRequests == 0 {
		m.MaxRequests = DefaultMaxRequests
	}
	m.cfg = *withTimeout(c.Config)
	m.cfg.Namespace = "idemtest-" + strings.ToLower(rand.Text()[:12])
	if m.cfg.Lease == 0 && c.Client != nil {
		m.cfg.Lease = time.Second
	}
	return m
}

// test runs all cases.
func (m *matrix) test(t runner) {
	t.Helper()
	// The undisturbed run is a subtest, so that it has a server and a world of its own.
	var points []crashPoint
	t.run("undisturbed", func(t runner) { m.wanted, points = m.runCase(t, nil) })
	if t.Failed() {
		return
	}
	if len(points) == 0 && m.from != "" {
		return // the request does not come to the recovery point
	}
	if len(points) == 0 {
		t.Fatal("idemtest: the undisturbed run had no stage")
	}
	m.explore(t, nil, points)
}

// explore kills a process at each of the given crash points, after the processes of deaths have
// died.
func (m *matrix) explore(t runner, deaths, points []crashPoint) {
	t.Helper()
	for _, at := range points {
		t.run(at.String(), func(t runner) {
			all := slices.Concat(deaths, []crashPoint{at})
			_, next := m.runCase(t, all)
			if len(all) < m.Depth && !t.Failed() {
				m.explore(t, all, next)
			}
		})
	}
}
