package idemtest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/redisidem/redisidem/redisidem"
)

// finalState is how a case ended.
type finalState struct {
	response *redisidem.Response
	masked   *redisidem.Response
	stages   []string // committed stages, in order
	effects  map[string]int
	interim  bool // whether there were interim answers
}

// examine checks the state that a finished key has left.
func (p *crashCase) examine(key *redisidem.Key, keyspace *keyspace) finalState {
	p.t.Helper()
	end := finalState{response: key.Response, masked: p.mask(key.Response), effects: maps.Clone(p.world.Effects()), interim: p.interim}
	for i, e := range key.Journal {
		end.stages = append(end.stages, e.Stage)
		// Snoozes of one stage that follow each other have one entry.
		if want := key.Journal[0].Revision + int64(i); e.Revision < want || e.Revision > want && !p.interim {
			p.t.Errorf("the journal has revision %d, want %d", e.Revision, want)
		}
	}
	if n := len(key.Journal); n == 0 || key.Journal[n-1].Revision+1 != key.Revision {
		p.t.Errorf("the key has revision %d, and %d commits are in its journal", key.Revision, n)
	}
	p.count(end.effects)
	keyspace.mustBeTidy()
	return end
}

// count checks that effects happened as often as promised.
func (p *crashCase) count(effects map[string]int) {
	p.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(effects)) {
		if _, ok := p.Promise[name]; !ok {
			p.t.Errorf("the effect %q happened %d times and has no promise", name, effects[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Promise)) {
		if times := p.Promise[name]; !times.kept(effects[name]) {
			p.t.Errorf("the effect %q happened %d times; promised: %s", name, effects[name], times)
		}
	}
}

// compare checks that a case ended like the undisturbed run.
func (p *crashCase) compare(end finalState) {
	p.t.Helper()
	if !same(end.masked, p.wanted.masked) {
		p.t.Errorf("the response is %s, that of the undisturbed run is %s", describe(end.masked), describe(p.wanted.masked))
	}
	got, want := end.stages, p.wanted.stages
	if p.wanted.interim {
		// A lost interim answer is given again, with one more commit of its stage.
		got, want = slices.Compact(slices.Clone(got)), slices.Compact(slices.Clone(want))
	}
	if !slices.Equal(got, want) {
		p.t.Errorf("the stages committed are %q, those of the undisturbed run are %q", end.stages, p.wanted.stages)
	}
}

// replay checks that a further process gets the same response and runs nothing.
func (p *crashCase) replay(end finalState) {
	p.t.Helper()
	if p.t.Failed() {
		return
	}
	key, points := p.live(crashPoint{})
	if !key.Replayed() || len(points) > 0 {
		p.t.Errorf("a request for the finished key was not replayed: it ran %q", points)
	}
	if !same(key.Response, end.response) {
		p.t.Errorf("the replayed response is %s, the first one was %s", describe(key.Response), describe(end.response))
	}
	if effects := p.world.Effects(); !maps.Equal(effects, end.effects) {
		p.t.Errorf("the replay had effects: they are %v, and were %v", effects, end.effects)
	}
}

// mask returns a copy of a response without the parts that may differ between worlds.
func (p *crashCase) mask(r *redisidem.Response) *redisidem.Response {
	if r.IsZero() {
		return r
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

// same reports whether two responses are equal, byte for byte.
func same(a, b *redisidem.Response) bool {
	if a.IsZero() || b.IsZero() {
		return a.IsZero() && b.IsZero()
	}
	return a.Code == b.Code && bytes.Equal(a.Body, b.Body) && maps.EqualFunc(a.Header, b.Header, slices.Equal)
}

// describe formats a response for messages.
func describe(r *redisidem.Response) string {
	if r.IsZero() {
		return "none"
	}
	var header strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintf(&header, " %s: %q", name, r.Header[name])
	}
	return fmt.Sprintf("%d%s %q", r.Code, &header, r.Body)
}
