package idemtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

const (
	// adoptPrefix is the prefix of the recovery point in the journal's entry of an adoption.
	adoptPrefix = "adopt:"
	// adoptLabel is the prefix of the recovery point in the names of crash points.
	adoptLabel = "adopt_"
)

// AdoptMatrix checks that a flow adopts the keys of its earlier versions: see
// [redisidem.EarlierVersion]. World.Flow returns the newest version, which has the others in its
// Earlier.
//
// For each version that has an Adopt, and each of its recovery points, AdoptMatrix lets a process
// of that version work on a key up to this point. Then a process of the newest version gets the
// same request, until it is answered. That is the undisturbed run of a CrashMatrix: a process is
// killed at each of its boundaries, among them those of Adopt and of the commit of the adoption.
// The names of the subtests have the version and the recovery point, such as from_1_at_paid. A
// recovery point that the request does not come to is left out.
//
// The promises of CrashConfig are about the life of the key in all versions. A process that dies
// between Adopt and the commit of the adoption leaves the stage to the earlier version. It may
// therefore end with another response.
//
// AdoptMatrix fails the test if Adopt returns an error, or an outcome that is refused, and if no
// key of a version is adopted.
func AdoptMatrix(t *testing.T, c CrashConfig) {
	t.Helper()
	adoptMatrix(tRunner{t}, c)
}

func adoptMatrix(t runner, c CrashConfig) {
	t.Helper()
	all := newMatrix(t, c)
	w := c.World(t)
	newest, err := w.Flow()
	if err != nil {
		t.Fatalf("idemtest: World.Flow: %v", err)
	}
	tried := 0
	for _, e := range earlierVersions(newest) {
		if e.Adopt == nil {
			continue
		}
		tried++
		adopted := false
		cfg := e.Flow.Config()
		for _, s := range cfg.Stages {
			m := *all
			m.from, m.at, m.wanted = e.Flow.String(), s.Point, finalState{}
			t.run(fmt.Sprintf("from_%d_at_%s", cfg.Version, s.Point), func(t runner) {
				m.test(t)
				adopted = adopted || slices.Contains(m.wanted.stages, adoptPrefix+s.Point)
			})
		}
		if !adopted && !t.Failed() {
			t.Errorf("idemtest: no key of %s was adopted", e.Flow)
		}
	}
	if tried == 0 {
		t.Fatal("idemtest: no earlier version of World.Flow has an Adopt")
	}
}

// earlierVersions returns the earlier versions of a flow, and those before them.
func earlierVersions(f *redisidem.Flow) (all []redisidem.EarlierVersion) {
	for _, e := range f.Config().Earlier {
		all = append(append(all, e), earlierVersions(e.Flow)...)
	}
	return all
}

// prepare lets a process of the earlier version work on the key up to the recovery point. It
// reports whether the key is there. Without an earlier version it does nothing.
func (p *crashCase) prepare() bool {
	p.t.Helper()
	if p.from == "" {
		return true
	}
	it := newProcess(context.WithoutCancel(p.t.Context()), crashPoint{})
	defer it.cancel()
	client := p.client()
	defer func() { _ = client.Close() }()
	it.own(client)
	svc, err := redisidem.New(client, &p.cfg)
	if err != nil {
		p.t.Fatalf("idemtest: %v", err)
	}
	defer p.end(it, svc)
	flow, err := p.earlier(it)
	if err != nil {
		p.t.Fatalf("idemtest: World.Flow: %v", err)
	}
	for range p.MaxRequests {
		key, err := svc.Scope(caseScope).DoFlow(it.ctx, caseKey, p.world.Request, flow)
		switch {
		case err != nil:
			p.note("%s: error: %v", p.from, err)
		case key.Finished():
			return false
		case key.Answered():
			p.answered(key)
		default:
			p.note("%s: stopped at %q", p.from, key.RecoveryPoint)
			return true
		}
	}
	return false
}

// earlier returns the earlier version of the flow, which gives the key back at the recovery point.
func (p *crashCase) earlier(it *process) (*redisidem.Flow, error) {
	newest, err := p.world.Flow()
	if err != nil {
		return nil, err
	}
	for _, e := range earlierVersions(newest) {
		if e.Flow.String() != p.from {
			continue
		}
		flow, err := it.flow(e.Flow)
		if err != nil {
			return nil, err
		}
		cfg := flow.Config()
		for i := range cfg.Stages {
			if cfg.Stages[i].Point == p.at {
				cfg.Stages[i].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					return redisidem.NothingDone(), nil
				}
			}
		}
		return redisidem.NewFlow(cfg)
	}
	return nil, errors.New("it has another earlier version each time")
}

// adoptedLate reports whether a process died at Adopt and before its commit was stored. The stage
// is then left to the earlier version.
func adoptedLate(deaths []crashPoint) bool {
	return slices.ContainsFunc(deaths, func(at crashPoint) bool {
		return strings.HasPrefix(at.at, adoptLabel) && at.boundary != afterCommit
	})
}
