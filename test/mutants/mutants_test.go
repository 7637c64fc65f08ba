// Package mutants tests the tests. It builds the library with one defect at a time, such as a
// developer could make. The simulation of package sim, or a named test, must find each defect.
//
// A defect replaces a piece of text in one file, through the go command's -overlay, so that the
// sources stay as they are. A mutant fails the test if its text does not occur exactly once, if it
// does not compile, or if it survives. The list therefore cannot become outdated unnoticed.
//
//	go test -count=1 -v ./test/mutants -size change  # up to 1,000 histories for each, six minutes
//	go test -count=1 -v -timeout 2h ./test/mutants -size nightly  # up to 5,000
//	go test -count=1 -v -run 'Mutants/slowwatch' ./test/mutants -seed 42
package mutants

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/test/internal/rung"
)

// mutant is the library with a defect.
type mutant struct {
	name     string
	file     string // relative to the root of the repository
	old, new string
	killer   string // the test of package redisidem, or of the module in contrib, that must fail; "": the simulation
	rung     string // the folder of test in which the killer is, if it is in another package than these
	hangs    bool   // the defect causes a panic or an endless history, which counts as found
}

func TestMutantsAreKilled(t *testing.T) {
	seed := rung.Seed(t)
	chosen := spread(mutants, rung.Size(t, min(24, len(mutants)), len(mutants), len(mutants)))
	limit := max(1_000, rung.Size(t, 1_000, 5_000, 5_000))
	killed := make([]string, len(chosen))
	t.Cleanup(func() { // after the parallel subtests
		if !slices.Contains(killed, "") {
			rung.Figure(t, "R3", "%d of %d mutants killed: %s", len(killed), len(chosen), strings.Join(killed, ", "))
		}
	})
	for i, m := range chosen {
		t.Run(m.name, func(t *testing.T) {
			if m.killer != "" {
				t.Parallel() // neither compiling and linking one package nor its killer uses all processors
			}
			began := time.Now()
			by := m.kill(t, seed, limit)
			t.Logf("killed by %s in %v", by, time.Since(began).Round(time.Second))
			killed[i] = m.name + " by " + by
		})
	}
}

// spread returns n mutants from the whole list.
func spread(all []mutant, n int) (chosen []mutant) {
	for i := range n {
		chosen = append(chosen, all[i*len(all)/n])
	}
	return chosen
}

// A test that reports every mutant as killed proves nothing.
func TestMutantThatChangesNothingSurvives(t *testing.T) {
	same := mutant{file: "lua/claim.lua", old: "\nlocal token, ", new: "\n-- A comment.\nlocal token, "}
	if out, err := same.test(t, rung.Seed(t), 20); err != nil {
		t.Errorf("it is killed: %v\n%s", err, tail(out))
	}
}

// kill tests the mutant. It returns the test that found the defect, or fails the test.
func (m mutant) kill(t *testing.T, seed uint64, limit int) string {
	t.Helper()
	out, err := m.test(t, seed, limit)
	if err == nil {
		t.Fatalf("it survives:\n%s", tail(out))
	}
	by, what, err := m.verdict(out, seed)
	if err != nil {
		t.Fatalf("%v\n%s", err, tail(out))
	}
	t.Log(what)
	return by
}

// test builds the mutant and runs its killer. The error is that of the process.
func (m mutant) test(t *testing.T, seed uint64, limit int) ([]byte, error) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "mutant.test")
	folder := filepath.Join(root, "test", "sim")
	switch {
	case m.rung != "":
		folder = filepath.Join(root, "test", m.rung)
	case m.killer != "" && strings.HasPrefix(m.file, "contrib/"):
		folder = filepath.Join(root, filepath.Dir(m.file))
	case m.killer != "":
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
	return cmd.CombinedOutput()
}

// TestMutantsApply finds a mutant whose text is no longer in the code, even in runs too small to
// build all mutants.
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

// build builds the test binary of a folder with the mutant in place.
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
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, ".")
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("it does not compile: %v\n%s", err, out)
	}
}

var (
	found   = regexp.MustCompile(`(?s)the history of seed (\d+) \([0-9a-f]+\):\n.*?\n\s*\d+ violations:\n\s*([^\n]*)`)
	endless = regexp.MustCompile(`the history of seed (\d+) has no end`)
	panics  = regexp.MustCompile(`(?m)^panic: `)
)

// verdict finds in the output of a failed test which test found the defect, and how. The death of
// the process alone does not count.
func (m mutant) verdict(out []byte, seed uint64) (by, what string, err error) {
	if m.killer != "" {
		switch {
		case !strings.Contains(string(out), "--- FAIL: "+m.killer):
			return "", "", fmt.Errorf("%s does not fail", m.killer)
		case panics.Match(out) && !m.hangs:
			return "", "", fmt.Errorf("%s does not fail, but ends in a panic", m.killer)
		}
		return m.killer, "a failure", nil
	}
	history := found.FindSubmatch(out)
	switch end := endless.FindSubmatch(out); {
	case history != nil:
		what = string(history[2])
	case end != nil && m.hangs:
		history, what = end, "no end"
	default:
		return "", "", errors.New("the simulation fails without a history that breaks the promise")
	}
	n, err := strconv.ParseUint(string(history[1]), 10, 64)
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("history %d (seed %d)", n-seed+1, n), what, nil
}

func TestOnlyABrokenPromiseIsAKill(t *testing.T) {
	const (
		broken = "    sim_test.go:66: the history of seed 12 (a0f):\n    0.1s w1.1 ends\n    2 violations:\n    k0 is wrong\n" +
			"    k1 is wrong\n"
		noEnd  = "    chunk_test.go:61: the history of seed 12 has no end: exit status 2\n    panic: boom\n"
		failed = "--- FAIL: TestX (0.00s)\n    x_test.go:3: wrong\nFAIL\n"
		died   = "--- FAIL: TestX (0.00s)\npanic: boom [recovered]\n"
	)
	for _, c := range []struct {
		mutant mutant
		out    string
		want   string
	}{
		{mutant{}, broken, "history 3 (seed 12): k0 is wrong"},
		{mutant{}, noEnd + broken, "history 3 (seed 12): k0 is wrong"},
		{mutant{}, noEnd, ""},
		{mutant{hangs: true}, noEnd, "history 3 (seed 12): no end"},
		{mutant{}, "FAIL\n", ""},
		{mutant{hangs: true}, "FAIL\n", ""},
		{mutant{killer: "TestX"}, failed, "TestX: a failure"},
		{mutant{killer: "TestX"}, died, ""},
		{mutant{killer: "TestX", hangs: true}, died, "TestX: a failure"},
		{mutant{killer: "TestY"}, failed, ""},
	} {
		by, what, err := c.mutant.verdict([]byte(c.out), 10)
		got := by
		if what != "" {
			got += ": " + what
		}
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v of\n%s is killed by %q, %v; want %q", c.mutant, c.out, got, err, c.want)
		}
	}
}

func tail(text []byte) []byte { return text[max(0, len(text)-4_000):] }
