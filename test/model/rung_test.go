// Package model checks the protocol of redisidem with Spin: the protocol must hold in every state
// that it can get to, and each of its broken variants must be refuted by the part of the promise
// that it breaks. README.md describes the model.
//
//	go test -count=1 -v ./test/model -size change  # for every change: two minutes
//	go test -count=1 -v -timeout 2h ./test/model -size nightly  # larger sizes besides
//	go test -count=1 -v -run 'Protocol/NOFENCE' ./test/model -steps  # with the steps to the error
//
// It needs spin and gcc.
package model

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/test/internal/rung"
)

var (
	steps  = flag.Bool("steps", false, "print the steps to the errors of variants")
	memory = flag.Int("memory", 8000, "megabytes that a search may use")
)

// needTools skips or fails the test if a program is missing, like [rediscase.Need] where there is
// no server.
func needTools(t *testing.T) {
	t.Helper()
	if err := checkTools(); err != nil {
		if os.Getenv(rediscase.Variable) == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

func TestProtocol(t *testing.T) {
	needTools(t)
	size, _ := rung.Asked()
	// quick: the smallest size, and some of the variants
	chosen := append(slices.Clone(daily[:rung.Size(t, len(daily), len(daily), len(daily))]),
		variants[:rung.Size(t, len(variants), len(variants), len(variants))]...)

	t.Logf(rowFormat, "run", "expected", "breaks", "states", "errors", "seconds", "MB", "what")
	began := time.Now()
	var mu sync.Mutex
	searched, shown := 0.0, make(map[expectation]int)
	check := func(t *testing.T, r run) {
		s := searcher{dir: t.TempDir(), megabytes: *memory}
		if err := s.unpack(); err != nil {
			t.Fatal(err)
		}
		if got := s.check(t, r); !t.Failed() {
			mu.Lock()
			defer mu.Unlock()
			shown[r.expect]++
			searched += got.states
		}
	}
	t.Cleanup(func() { // after the parallel subtests
		rung.Figure(t, "R4", "%d sizes of the protocol hold in all their states, %d variants are refuted, %d known limits reached; "+
			"%.1f million states in %v", shown[holds], shown[refuted], shown[reached], searched/1e6, time.Since(began).Round(time.Second))
	})
	if rung.SizeIndex(size) >= rung.SizeIndex("nightly") {
		for _, r := range nightly { // one at a time: each may need most of the memory
			t.Run(r.name, func(t *testing.T) { check(t, r) })
		}
	}
	for _, r := range chosen {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel() // a search is a single thread
			check(t, r)
		})
	}
}

// check makes one run, prints its row, and fails the test unless it shows what it must. The steps
// to an error are printed when there should be none.
func (s searcher) check(t *testing.T, r run) result {
	t.Helper()
	got, err := s.search(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	story, tag := "", ""
	if got.errors > 0 {
		if story, err = s.replay(t.Context(), r, false); err != nil {
			t.Fatal(err)
		}
		file, line := failedLine(story)
		tag = tagOf(model, file, line)
	}
	t.Logf(rowFormat, r.name, r.expect, cmp.Or(tag, "-"), fmt.Sprintf("%.0f", got.states), fmt.Sprint(got.errors),
		fmt.Sprintf("%.1f", got.seconds), fmt.Sprintf("%.0f", got.megabytes), r.about)
	if story != "" && (*steps || r.expect == holds) {
		statements, err := s.replay(t.Context(), r, true)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("the steps to the error:\n\n%s\nstatement by statement:\n\n%s", story, statements)
	}
	if wrong := verdict(r, got, tag); wrong != "" {
		t.Errorf("%s: %s", r.name, wrong)
	}
	return got
}

const rowFormat = "%-24s %-8s %-6s %11s %7s %8s %7s  %s"
