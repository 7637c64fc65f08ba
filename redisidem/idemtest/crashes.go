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

// DefaultMaxRequests is the default of [CrashConfig].
const DefaultMaxRequests = 10

// CrashConfig describes what [CrashMatrix] is to try. World and Promise are required.
type CrashConfig struct {
	// World makes what is outside of Redis anew for each case: databases, fakes of other services. What it makes must not
	// be shared between cases.
	World func(tb testing.TB) World

	// Promise is how often each effect may happen in the life of a key. An effect that World counts and that has no promise
	// fails the test, so that none is forgotten; one that has a promise and is not counted happened 0 times.
	Promise map[string]Times

	// Depth is how many processes in a row die before one lives. At 2 the process that resumes is killed, too, at each of its
	// own boundaries, which squares the number of cases. Default: 1.
	Depth int

	// MaxRequests is how often a request is sent at most, the crashes not counted, until it is answered. Default: 10.
	MaxRequests int

	// Client makes the clients, one for each process: new ones, without connections, of one and the same Redis, on which
	// CrashMatrix closes them, and in the end removes the keys it has made. Nil: an embedded server, whose clock is put forward when a
	// lease is to lapse, so that nothing is waited for.
	Client func(tb testing.TB) redis.UniversalClient

	// Config is that of the services, or nil. The Namespace is replaced by one of the test's own. Lease is by default 1 s
	// with a Client, since each crash makes the next process wait for so long, and 10 s without; Timeout is 5 s, since the
	// machine may be busy with other tests. A Lease that is so short that it lapses while a stage runs makes the test fail
	// or, if the stages are harmless the second time, worth less.
	Config *redisidem.Config
}

// World is one fresh start: all that a flow touches.
type World struct {
	// Flow makes the flow as a program does when it starts. It is called once for each process, so whatever it captures
	// dies with that: what is to survive belongs to the World or into the key's state.
	Flow func() (*redisidem.Flow, error)

	// Request is what the key stands for.
	Request redisidem.Request

	// Mask, if it is not nil, takes out of a response what differs from one world to another without being wrong, such as
	// random identifiers, before it is compared with that of the undisturbed run: it changes the copy that it is given. A
	// world that can number its things instead needs none, and is judged more strictly.
	Mask func(r *redisidem.Response)

	// Interim, if it is not nil, is told of each interim answer before the request is sent again: it does what the client is
	// expected to do next, as to confirm a payment.
	Interim func(key *redisidem.Key)

	// Effects counts what has happened so far, by name: the charges at the payment provider, the orders in the database.
	Effects func() map[string]int
}

// CrashMatrix runs a flow once without disturbance, to learn its boundaries: before and after the work of each stage, before
// its commit arrives at Redis, and after it was stored but before anybody knows. Reconcile and Compensate have them like a
// stage's work. Then, for each boundary and in a fresh world, it kills the process that runs the flow right there: the
// goroutine ends, and nothing that is left of it reaches Redis, so that the lease is not given back. When the lease has
// lapsed, another process gets the same request, and again until it is answered.
//
// Each case, a subtest with the boundary's name as in kill_before_paid, must end like the undisturbed run: with the same
// response, byte for byte but for World.Mask, and the same stages committed once each; with every effect as often as promised; and with nothing
// locked or left for ever in Redis, but for the keys of [redisidem.Stage.ShardKey]. A further process must then replay the
// answer without running anything.
//
// What it finds is a flow that breaks its promise: work that is not harmless the second time, state that was kept in memory,
// a response that depends on the run, as on its fence, its attempt, the time or chance. It finds no goroutine that a stage
// has started and not waited for.
//
// It blocks until all cases are done. With the embedded server a case takes some milliseconds, with a client of one's own a
// lease's length or more. It cannot be called inside of a bubble of testing/synctest.
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

// matrix is a call of CrashMatrix.
type matrix struct {
	CrashConfig
	cfg redisidem.Config
	// wanted is how the undisturbed run ended.
	wanted ending
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
	m.cfg = *patient(c.Config)
	m.cfg.Namespace = "idemtest-" + strings.ToLower(rand.Text()[:12])
	if m.cfg.Lease == 0 && c.Client != nil {
		m.cfg.Lease = time.Second
	}
	// In a subtest of its own, so that it has its server and its world for itself.
	var moments []moment
	t.run("undisturbed", func(t runner) { m.wanted, moments = m.play(t, nil) })
	if t.Failed() {
		return
	}
	if len(moments) == 0 {
		t.Fatal("idemtest: the undisturbed run had no stage")
	}
	m.explore(t, nil, moments)
}

// explore kills the process behind those that died before at each of its moments.
func (m *matrix) explore(t runner, deaths, moments []moment) {
	t.Helper()
	for _, at := range moments {
		t.run(at.String(), func(t runner) {
			all := slices.Concat(deaths, []moment{at})
			_, next := m.play(t, all)
			if len(all) < m.Depth && !t.Failed() {
				m.explore(t, all, next)
			}
		})
	}
}
