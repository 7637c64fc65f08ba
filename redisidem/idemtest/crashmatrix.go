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
	// World returns a new state of everything outside Redis for each case: databases, fakes of
	// other services. Cases must not share anything of it.
	World func(tb testing.TB) World

	// Promise is how often each effect may happen in the life of a key. An effect that World counts
	// and that has no promise fails the test. An effect that has a promise and is not counted
	// happened 0 times.
	Promise map[string]Times

	// Depth is how many processes die in a row before one lives. At 2, the process that resumes is
	// killed, too, at each of its own boundaries, which squares the number of cases. Default: 1.
	Depth int

	// MaxRequests is how often a request is sent at most until it is answered, not counting
	// crashes. Default: 10.
	MaxRequests int

	// Client returns a new client for each process, without connections, always of the same Redis.
	// CrashMatrix closes the clients and removes its keys at the end. Nil: an embedded server. Its
	// clock is put forward when a lease is to lapse, so that no case waits.
	Client func(tb testing.TB) redis.UniversalClient

	// Config is the configuration of the services and may be nil. Namespace is replaced by one of
	// the test's own. Lease defaults to 10 s, and to 1 s with a Client, because after each crash
	// the next process waits for it. Timeout defaults to 5 s, because the machine may be busy with
	// other tests. A Lease that lapses while a stage runs makes the test fail or, if a repetition
	// of the stage does no harm, weaker.
	Config *redisidem.Config
}

// World is the state that one case works on.
type World struct {
	// Flow returns the flow as a program makes it when it starts. It is called once for each
	// process. Whatever it captures is lost with the process: keep what must survive in the World
	// or in the key's state.
	Flow func() (*redisidem.Flow, error)

	// Request is the request of the key.
	Request redisidem.Request

	// Mask, if not nil, changes a copy of a response before it is compared with that of the
	// undisturbed run. It removes what may differ between worlds, such as random identifiers. A
	// world that numbers its objects needs no Mask and is checked more strictly.
	Mask func(r *redisidem.Response)

	// Interim, if not nil, is called with each interim answer before the request is sent again. It
	// does what the client is expected to do next, such as confirming a payment.
	Interim func(key *redisidem.Key)

	// Effects returns how often each effect has happened so far, by name: the charges at the
	// payment provider, the orders in the database.
	Effects func() map[string]int
}

// CrashMatrix runs a flow once undisturbed, to learn its boundaries: before and after the work of
// each stage, before its commit arrives at Redis, and after the commit was stored but before its
// reply arrives. Reconcile and Compensate have the same boundaries. Then, for each boundary and in
// a new world, it kills the process that runs the flow there: the goroutine ends, nothing more of
// the process reaches Redis, and the lease is not given back. When the lease has lapsed, another
// process gets the same request, until it is answered.
//
// Each case is a subtest with the boundary's name, such as kill_before_paid. It must end like the
// undisturbed run: the same response (byte for byte, after World.Mask), the same stages committed
// once each, and every effect as often as promised. In Redis there must be no lock and no key
// without an expiry, except the keys of [redisidem.Stage.ShardKey]. A further process must then
// replay the answer without running anything.
//
// CrashMatrix finds flows that break their promise: work that does harm the second time, state that
// was kept in memory, a response that depends on the run, such as on its fence, its attempt, the
// time or a random number. It does not find goroutines that a stage starts and does not wait for.
//
// CrashMatrix blocks until all cases are done. A case takes some milliseconds with the embedded
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

// matrix is one call of CrashMatrix.
type matrix struct {
	CrashConfig
	cfg redisidem.Config
	// wanted is the final state of the undisturbed run.
	wanted finalState
}

func crashMatrix(t runner, c CrashConfig) {
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
	// The undisturbed run is a subtest, so that it has a server and a world of its own.
	var points []crashPoint
	t.run("undisturbed", func(t runner) { m.wanted, points = m.runCase(t, nil) })
	if t.Failed() {
		return
	}
	if len(points) == 0 {
		t.Fatal("idemtest: the undisturbed run had no stage")
	}
	m.explore(t, nil, points)
}

// explore kills the process that follows deaths at each of its crash points.
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
