package idemtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

const (
	caseScope = "idemtest"
	caseKey   = "the-key-of-the-client"
)

// crashCase is one case of a matrix. It has a world, a Redis, and processes that work on one key,
// one after another.
type crashCase struct {
	*matrix
	t      testing.TB
	world  World
	server *Server // nil with a client of the user's own
	log    []string
	// interim reports whether there were interim answers.
	interim bool
}

// runCase kills one process after another at its crash point. It lets the last one live, and
// returns the final state and the crash points of that process. A case that goes wrong fails the
// test.
func (m *matrix) runCase(t testing.TB, deaths []crashPoint) (finalState, []crashPoint) {
	t.Helper()
	p := &crashCase{matrix: m, t: t, world: m.World(t)}
	if p.world.Flow == nil || p.world.Effects == nil {
		t.Fatal("idemtest: World.Flow and World.Effects are required")
	}
	if m.Client == nil {
		p.server = NewServer(t)
	}
	keyspace := &keyspace{t: t, namespace: m.cfg.Namespace, client: p.client()}
	defer keyspace.close() // before the next case, which has the same keys

	if !p.prepare() {
		t.Logf("idemtest: the key of %s does not come to %q", p.from, p.at)
		return finalState{}, nil
	}
	for _, at := range deaths {
		p.live(at)
	}
	key, points := p.live(crashPoint{})
	end := p.examine(key, keyspace)
	if len(deaths) > 0 && !adoptedLate(deaths) {
		p.compare(end)
	}
	p.replay(end)
	if t.Failed() {
		t.Logf("what happened:\n\t%s", strings.Join(p.log, "\n\t"))
	}
	return end, points
}

func (p *crashCase) note(format string, args ...any) {
	p.log = append(p.log, fmt.Sprintf(format, args...))
}

// fatal fails the test and prints the log of the case.
func (p *crashCase) fatal(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("idemtest: %s; what happened:\n\t%s", fmt.Sprintf(format, args...), strings.Join(p.log, "\n\t"))
}

// client returns a client as a new process would make it.
func (p *crashCase) client() redis.UniversalClient {
	p.t.Helper()
	if p.server != nil {
		return redis.NewClient(p.server.Options())
	}
	return p.Client(p.t)
}

// live runs one process until it dies at the crash point or, for the zero crash point, until the
// request is answered.
func (p *crashCase) live(at crashPoint) (*redisidem.Key, []crashPoint) {
	p.t.Helper()
	it := newProcess(context.WithoutCancel(p.t.Context()), at)
	defer it.cancel()
	client := p.client()
	defer func() { _ = client.Close() }()
	it.own(client)
	svc, err := redisidem.New(client, &p.cfg)
	if err != nil {
		p.t.Fatalf("idemtest: %v", err)
	}
	defer p.end(it, svc)
	flow, err := p.world.Flow()
	if err == nil {
		flow, err = it.flow(flow)
	}
	if err != nil {
		p.t.Fatalf("idemtest: World.Flow: %v", err)
	}
	// The previous process may have left its lease behind.
	lease := svc.Config().Lease
	sc := svc.Scope(caseScope)
	if p.server == nil {
		sc = sc.Wait(2*lease + defaultTimeout)
	}

	var key *redisidem.Key
	for range p.MaxRequests {
		err = errors.New("the stage's goroutine has ended")
		done := make(chan struct{})
		go func() { // the goroutine ends where the process dies
			defer close(done)
			key, err = sc.DoFlow(it.ctx, caseKey, p.world.Request, flow)
		}()
		<-done
		if err != nil && !it.dead() {
			p.complete(it, svc, flow)
		}
		switch {
		case it.dead():
			p.note("%s: died", at)
			p.lapse(lease)
			return nil, it.reached()
		case err != nil:
			p.note("error: %v", err)
			// A stage's own error says nothing about the lease, which the library has given back.
			_, ofStage := errors.AsType[*redisidem.StageError](err)
			if !ofStage && (errors.Is(err, redisidem.ErrLocked) || errors.Is(err, redisidem.ErrOutcomeUnknown)) {
				p.lapse(lease)
			}
		case key.Finished() && at != crashPoint{}:
			p.fatal("the process did not reach the boundary %q, which another one reached: "+
				"a run of the flow must do the same each time", at)
		case key.Finished():
			p.note("finished: %s", describe(key.Response))
			if !key.Replayed() && !slices.ContainsFunc(it.reached(), func(m crashPoint) bool { return m.boundary == beforeCommit }) {
				p.fatal("the process's commits were not seen: CrashConfig.Client must return new clients, without connections")
			}
			return key, it.reached()
		case key.Answered():
			p.answered(key)
		default:
			p.note("idle at %q", key.RecoveryPoint)
		}
	}
	p.fatal("the request was sent %d times and not answered; the last error is %v", p.MaxRequests, err)
	return nil, nil
}

// longestRealPause is how long the matrix waits for a completer's turn on a server whose clock
// cannot be put forward.
const longestRealPause = 10 * time.Second

// complete runs a completer after a request that ended with an error, if the flow has Exhausted:
// only completers end a key whose attempts are used up.
func (p *crashCase) complete(it *process, svc *redisidem.Service, flow *redisidem.Flow) {
	p.t.Helper()
	cfg := flow.Config()
	if cfg.Exhausted == (redisidem.Exhausted{}) || cfg.RecoverAfter == 0 {
		return
	}
	pause := min(64*cfg.RecoverAfter, svc.Config().Retention/2) // the longest between attempts
	if p.server == nil && pause > longestRealPause {
		p.t.Fatalf("idemtest: RecoverAfter (%v) is too long to be waited for: at most %v with a Client", cfg.RecoverAfter, longestRealPause/64)
	}
	p.pass(pause)
	c, err := redisidem.NewCompleter(svc, []*redisidem.Flow{flow}, &redisidem.CompleterConfig{Concurrency: 1, Drain: -1})
	if err != nil {
		p.t.Fatalf("idemtest: %v", err)
	}
	swept, err := c.Sweep(it.ctx)
	p.note("a completer comes: %+v, %v", swept, err)
}

// answered does what the client does after an interim answer.
func (p *crashCase) answered(key *redisidem.Key) {
	p.t.Helper()
	p.note("interim answer: %s", describe(key.Response))
	p.interim = true
	if p.world.Interim != nil {
		p.world.Interim(key)
	}
	p.awake(key)
}

// end closes the service of a process. A dead process does not wait for its work.
func (p *crashCase) end(it *process, svc *redisidem.Service) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.t.Context()), patience)
	defer cancel()
	if it.dead() {
		cancel()
	}
	for _, why := range it.notAdopted() {
		p.t.Errorf("idemtest: %s", why)
	}
	if err := svc.Close(ctx); err != nil && !it.dead() {
		p.t.Errorf("idemtest: the process still had work in flight after its answer: %v", err)
	}
}

// awake lets the time come at which a snoozed stage runs again. Without a snooze it does nothing.
func (p *crashCase) awake(key *redisidem.Key) {
	if key.SnoozedUntil.IsZero() {
		return
	}
	p.pass(key.SnoozedUntil.Sub(key.UpdatedAt))
}

// pass lets time pass. On a server whose clock cannot be put forward, it waits.
func (p *crashCase) pass(d time.Duration) {
	if p.server != nil {
		p.server.FastForward(d)
		return
	}
	select {
	case <-time.After(d):
	case <-p.t.Context().Done():
	}
}

// lapse lets the lease of a dead process lapse. On a server whose clock cannot be put forward, the
// next process waits for that.
func (p *crashCase) lapse(lease time.Duration) {
	if p.server != nil {
		p.server.FastForward(lease)
	}
}
