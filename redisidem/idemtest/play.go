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
	playScope = "idemtest"
	playKey   = "the-key-of-the-client"
)

// play is one case: a world, a Redis, and the processes that work on the one key, one after another.
type play struct {
	*matrix
	t      testing.TB
	world  World
	server *Server // nil with a client of the user's
	log    []string
	// interim: there were interim answers.
	interim bool
}

// play lets one process after another die at its moment, and the next one live. It returns how that ended, and the moments
// of the process that lived. A case that goes wrong fails the test.
func (m *matrix) play(t testing.TB, deaths []moment) (ending, []moment) {
	t.Helper()
	p := &play{matrix: m, t: t, world: m.World(t)}
	if p.world.Flow == nil || p.world.Effects == nil {
		t.Fatal("idemtest: World.Flow and World.Effects are required")
	}
	if m.Client == nil {
		p.server = NewServer(t)
	}
	store := &store{t: t, namespace: m.cfg.Namespace, client: p.client()}
	defer store.close() // before the next case begins, which has the same keys

	for _, at := range deaths {
		p.live(at)
	}
	key, moments := p.live(moment{})
	end := p.examine(key, store)
	if len(deaths) > 0 {
		p.compare(end)
	}
	p.replay(end)
	if t.Failed() {
		t.Logf("what happened:\n\t%s", strings.Join(p.log, "\n\t"))
	}
	return end, moments
}

func (p *play) note(format string, args ...any) {
	p.log = append(p.log, fmt.Sprintf(format, args...))
}

// fatal fails the test with what led there.
func (p *play) fatal(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("idemtest: %s; what happened:\n\t%s", fmt.Sprintf(format, args...), strings.Join(p.log, "\n\t"))
}

// client makes a client as a new process does.
func (p *play) client() redis.UniversalClient {
	p.t.Helper()
	if p.server != nil {
		return redis.NewClient(p.server.Options())
	}
	return p.Client(p.t)
}

// live runs one process: to its death at the moment, or until the request is answered if that is the zero moment.
func (p *play) live(at moment) (*redisidem.Key, []moment) {
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
	// Those before this process may have left their lease.
	lease := svc.Config().Lease
	sc := svc.Scope(playScope)
	if p.server == nil {
		sc = sc.Wait(2*lease + relaxed)
	}

	var key *redisidem.Key
	for range p.MaxRequests {
		err = errors.New("the stage's goroutine has ended")
		done := make(chan struct{})
		go func() { // which may end where it dies
			defer close(done)
			key, err = sc.DoFlow(it.ctx, playKey, p.world.Request, flow)
		}()
		<-done
		switch {
		case it.dead():
			p.note("%s: died", at)
			p.lapse(lease)
			return nil, it.moments()
		case err != nil:
			p.note("error: %v", err)
			if errors.Is(err, redisidem.ErrLocked) || errors.Is(err, redisidem.ErrOutcomeUnknown) {
				p.lapse(lease)
			}
		case key.Finished() && at != moment{}:
			p.fatal("the process did not come to the boundary %q, to which another one came: "+
				"a run of the flow must do the same each time", at)
		case key.Finished():
			p.note("finished: %s", describe(key.Response))
			if !key.Replayed() && !slices.ContainsFunc(it.moments(), func(m moment) bool { return m.kind == beforeCommit }) {
				p.fatal("the process's commits were not seen: does CrashConfig.Client make new clients, without connections?")
			}
			return key, it.moments()
		case key.Answered():
			p.note("interim answer: %s", describe(key.Response))
			p.interim = true
			if p.world.Interim != nil {
				p.world.Interim(key)
			}
		default:
			p.note("idle at %q", key.RecoveryPoint)
		}
	}
	p.fatal("the request was sent %d times and not answered, the last time with %v", p.MaxRequests, err)
	return nil, nil
}

// end closes a process's service. That of a dead one has nobody any more who could wait for it.
func (p *play) end(it *process, svc *redisidem.Service) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.t.Context()), patience)
	defer cancel()
	if it.dead() {
		cancel()
	}
	if err := svc.Close(ctx); err != nil && !it.dead() {
		p.t.Errorf("idemtest: the process still had work under way after its answer: %v", err)
	}
}

// lapse lets the lease of a process that is gone lapse. On a server whose clock cannot be put forward the next process
// waits for that itself.
func (p *play) lapse(lease time.Duration) {
	if p.server != nil {
		p.server.FastForward(lease)
	}
}
