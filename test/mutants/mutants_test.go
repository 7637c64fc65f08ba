// Package mutants tests the tests: it builds the library with one defect at a time, each of which somebody could make, and the
// simulation of package sim, or a named test of package redisidem, must find it.
//
// A defect is a piece of text that takes the place of another one in one file, by way of the go command's -overlay: the sources stay
// as they are. A text that is not there exactly once, a mutant that does not compile and one that survives fail the rung, so that it
// cannot fall behind the code.
//
//	go test -count=1 -v ./test/mutants -size change                    # up to 1,000 histories for each, two minutes
//	go test -count=1 -v -timeout 2h ./test/mutants -size nightly       # up to 5,000
//	go test -count=1 -v -run 'Mutants/slowwatch' ./test/mutants -seed 42
package mutants

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/test/internal/rung"
)

// mutant is the library with a defect.
type mutant struct {
	name     string
	file     string // from the root of the repository
	old, new string
	killer   string // the test of package redisidem that must fail; "": the simulation
}

func TestMutantsAreKilled(t *testing.T) {
	seed := rung.Seed(t)
	chosen := mutants[:rung.Size(t, len(mutants), len(mutants), len(mutants))] // quick: the first alone
	limit := max(1_000, rung.Size(t, 1_000, 5_000, 5_000))
	var killed []string
	for _, m := range chosen {
		t.Run(m.name, func(t *testing.T) {
			began := time.Now()
			by := m.kill(t, seed, limit)
			t.Logf("killed by %s in %v", by, time.Since(began).Round(time.Second))
			killed = append(killed, m.name+" by "+by)
		})
	}
	if len(killed) == len(chosen) {
		rung.Figure(t, "R3", "%d of %d mutants killed: %s", len(killed), len(chosen), strings.Join(killed, ", "))
	}
}

// kill builds the mutant and lets it be tested. It returns what has found the defect, or fails the test.
func (m mutant) kill(t *testing.T, seed uint64, limit int) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "mutant.test")
	folder := filepath.Join(root, "test", "sim")
	if m.killer != "" {
		folder = filepath.Join(root, "redisidem")
	}
	m.build(t, root, folder, binary)

	args := []string{
		"-test.run", "^TestHistories$", "-test.timeout", "30m", "-histories", strconv.Itoa(limit),
		"-seed", strconv.FormatUint(seed, 10),
	}
	if m.killer != "" {
		args = []string{"-test.run", "^" + m.killer + "$", "-test.timeout", "5m"}
	}
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Dir = folder
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("it survives:\n%s", tail(out))
	}
	if m.killer != "" {
		if !strings.Contains(string(out), "--- FAIL: "+m.killer) {
			t.Fatalf("%s does not fail: %v\n%s", m.killer, err, tail(out))
		}
		return m.killer
	}
	return verdict(t, out, seed)
}

// TestMutantsApply finds a mutant whose text the code no longer has, in runs too small to build them all.
func TestMutantsApply(t *testing.T) {
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) { m.apply(t, filepath.Join("..", "..", m.file)) })
	}
}

// apply returns the text of a file with the defect in it.
func (m mutant) apply(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		t.Fatalf("%s has the text of the mutant %d times, not once:\n%s", m.file, n, m.old)
	}
	return []byte(strings.Replace(string(text), m.old, m.new, 1))
}

// build makes the test binary of a folder with the mutant in place.
func (m mutant) build(t *testing.T, root, folder, binary string) {
	t.Helper()
	original := filepath.Join(root, m.file)
	text := m.apply(t, original)
	dir := t.TempDir()
	changed := filepath.Join(dir, filepath.Base(m.file))
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		changed: text, filepath.Join(dir, "overlay.json"): overlay,
	} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, ".")
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("it does not compile: %v\n%s", err, out)
	}
}

var (
	failedSeed = regexp.MustCompile(`the history of seed (\d+) `)
	violation  = regexp.MustCompile(`\d+ violations:\n\s*(.*)`)
)

// verdict reads in the simulation's output which history has found the defect.
func verdict(t *testing.T, out []byte, seed uint64) string {
	t.Helper()
	found := failedSeed.FindSubmatch(out)
	if found == nil {
		t.Fatalf("the simulation fails without a history:\n%s", tail(out))
	}
	n, err := strconv.ParseUint(string(found[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if v := violation.FindSubmatch(out); v != nil {
		t.Logf("%s", v[1])
	}
	return fmt.Sprintf("history %d (seed %d)", n-seed+1, n)
}

func tail(text []byte) []byte { return text[max(0, len(text)-4_000):] }
