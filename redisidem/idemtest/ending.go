package idemtest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/redisidem/redisidem/redisidem"
)

// ending is how a case ended.
type ending struct {
	response *redisidem.Response
	masked   *redisidem.Response
	stages   []string // that were committed, in their order
	effects  map[string]int
	interim  bool // there were interim answers
}

// examine checks what a finished key has left behind.
func (p *play) examine(key *redisidem.Key, store *store) ending {
	p.t.Helper()
	end := ending{response: key.Response, masked: p.mask(key.Response), effects: maps.Clone(p.world.Effects()), interim: p.interim}
	for i, e := range key.Journal {
		end.stages = append(end.stages, e.Stage)
		if want := key.Journal[0].Revision + int64(i); e.Revision != want {
			p.t.Errorf("the journal has revision %d where %d is expected", e.Revision, want)
		}
	}
	if n := len(key.Journal); n == 0 || key.Journal[n-1].Revision+1 != key.Revision {
		p.t.Errorf("the key has revision %d, and %d commits are in its journal", key.Revision, n)
	}
	p.count(end.effects)
	store.mustBeTidy()
	return end
}

// count checks that effects happened as often as promised.
func (p *play) count(effects map[string]int) {
	p.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(effects)) {
		if _, ok := p.Promise[name]; !ok {
			p.t.Errorf("the effect %q happened %d times, and nothing is promised of it", name, effects[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Promise)) {
		if times := p.Promise[name]; !times.kept(effects[name]) {
			p.t.Errorf("the effect %q happened %d times; promised: %s", name, effects[name], times)
		}
	}
}

// compare checks that a case ended as the undisturbed run did.
func (p *play) compare(end ending) {
	p.t.Helper()
	if !same(end.masked, p.wanted.masked) {
		p.t.Errorf("the response is %s, that of the undisturbed run %s", describe(end.masked), describe(p.wanted.masked))
	}
	got, want := end.stages, p.wanted.stages
	if p.wanted.interim {
		// An interim answer that got lost is given again, which is a further commit of its stage.
		got, want = slices.Compact(slices.Clone(got)), slices.Compact(slices.Clone(want))
	}
	if !slices.Equal(got, want) {
		p.t.Errorf("the stages committed are %q, those of the undisturbed run %q", end.stages, p.wanted.stages)
	}
}

// replay checks that a further process gets the same answer and does nothing.
func (p *play) replay(end ending) {
	p.t.Helper()
	if p.t.Failed() {
		return
	}
	key, moments := p.live(moment{})
	if !key.Replayed() || len(moments) > 0 {
		p.t.Errorf("a request for the finished key was no replay: it ran %q", moments)
	}
	if !same(key.Response, end.response) {
		p.t.Errorf("the replayed response is %s, the first one was %s", describe(key.Response), describe(end.response))
	}
	if effects := p.world.Effects(); !maps.Equal(effects, end.effects) {
		p.t.Errorf("the replay had effects: they are %v, and were %v", effects, end.effects)
	}
}

// mask returns a copy of a response without what may differ between worlds.
func (p *play) mask(r *redisidem.Response) *redisidem.Response {
	if r == nil {
		return nil
	}
	out := &redisidem.Response{Code: r.Code, Body: bytes.Clone(r.Body), Header: make(map[string][]string)}
	for name, values := range r.Header {
		out.Header[name] = slices.Clone(values)
	}
	if p.world.Mask != nil {
		p.world.Mask(out)
	}
	return out
}

// same reports whether two responses are the same to their last byte.
func same(a, b *redisidem.Response) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Code == b.Code && bytes.Equal(a.Body, b.Body) && maps.EqualFunc(a.Header, b.Header, slices.Equal)
}

// describe writes a response down for people.
func describe(r *redisidem.Response) string {
	if r == nil {
		return "none"
	}
	var header strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintf(&header, " %s: %q", name, r.Header[name])
	}
	return fmt.Sprintf("%d%s %q", r.Code, &header, r.Body)
}
