package model

import (
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const clean = `
(Spin Version 6.5.2 -- 6 December 2019)

Full statespace search for:
	never claim         	- (none specified)
	assertion violations	+
	cycle checks       	- (disabled by -DSAFETY)
	invalid end states	+

State-vector 100 byte, depth reached 131, errors: 0
    48054 states, stored
   424194 states, matched
   472248 transitions (= stored+matched)

Stats on memory usage (in Megabytes):
    5.499	equivalent memory usage for states (stored*(State-vector + overhead))
  128.000	memory used for hash table (-w24)
  178.366	total actual memory usage


unreached in proctype Worker
	(0 of 236 states)
unreached in proctype World
	protocol.pml:408, state 248, "-end-"
	(1 of 248 states)
unreached in init
	(0 of 12 states)

pan: elapsed time 0.07 seconds
pan: rate 686485.71 states/second
`

const failing = `
pan:1: assertion violated  !(fenced[((t*2)+0)]) (at depth 28)
pan: wrote protocol.pml.trail

(Spin Version 6.5.2 -- 6 December 2019)
Warning: Search not completed

State-vector 100 byte, depth reached 28, errors: 1
 1.2692e+08 states, stored
  132.395	total actual memory usage

pan: elapsed time 1.2e+03 seconds
`

func TestParse(t *testing.T) {
	t.Parallel()
	shallow := strings.Replace(clean, "\n(Spin", "error: max search depth too small\n\n(Spin", 1)
	unreached := strings.Replace(clean, "\t(0 of 236 states)", "\tprotocol.pml:70, state 46, \"(1)\"\n\t(1 of 236 states)", 1)
	base := result{states: 48054, seconds: 0.07, megabytes: 178.366}
	withDoubt, withUnreached := base, base
	withDoubt.doubts = []string{"error: max search depth too small"}
	withUnreached.unreached = []string{`protocol.pml:70, state 46, "(1)"`}
	for name, c := range map[string]struct {
		out  string
		want result
	}{
		"clean":     {clean, base},
		"shallow":   {shallow, withDoubt},
		"unreached": {unreached, withUnreached},
		"failing": {failing, result{
			states: 126920000, errors: 1, seconds: 1200, megabytes: 132.395, doubts: []string{"Warning: Search not completed"},
		}},
	} {
		got, err := parse(c.out)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

func TestParseMissingFigure(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"states, stored", ", errors: 0", "elapsed time", "total actual memory usage"} {
		if _, err := parse(strings.Replace(clean, line, "", 1)); err == nil {
			t.Errorf("no error without %q", line)
		}
	}
}

func TestMemoryBoundIsADoubt(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"pan: reached -DMEMLIM bound", "pan: out of memory"} {
		got, err := parse(line + "\n" + clean)
		if err != nil || len(got.doubts) != 1 {
			t.Errorf("%q: doubts %q, error %v", line, got.doubts, err)
		}
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	variant := run{expect: refuted, tag: "S2"}
	for name, c := range map[string]struct {
		run  run
		got  result
		tag  string
		good bool
	}{
		"protocol holds":           {run{expect: holds}, result{}, "", true},
		"protocol broken":          {run{expect: holds}, result{errors: 1}, "S1", false},
		"protocol partly searched": {run{expect: holds}, result{doubts: []string{"x"}}, "", false},
		"protocol partly reached":  {run{expect: holds, revisions: 2}, result{unreached: []string{"x"}}, "", false},
		"variant refuted":          {variant, result{errors: 1, doubts: []string{"x"}}, "S2", true},
		"variant refuted by another assertion": {
			variant, result{errors: 1}, "S1", false,
		},
		"variant refuted by a deadlock": {variant, result{errors: 1}, "", false},
		"variant not refuted":           {variant, result{}, "", false},
		"nothing to keep":               {run{expect: holds, revisions: 1}, result{unreached: []string{"x"}}, "", true},
	} {
		if wrong := verdict(c.run, c.got, c.tag); (wrong == "") != c.good {
			t.Errorf("%s: %q", name, wrong)
		}
	}
}

func TestTagOfFailure(t *testing.T) {
	t.Parallel()
	source := fstest.MapFS{"protocol.pml": {Data: []byte("byte a;\nassert(a == 1); /* S4 */\n")}}
	replay := "worker 1: claims\nspin: protocol.pml:2, Error: assertion violated\nspin: text of failed assertion: assert((a==1))\n"
	for text, want := range map[string]string{replay: "S4", "no failure": ""} {
		file, line := failedLine(text)
		if got := tagOf(source, file, line); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// Every variant must be something the model knows, and every assertion of the model needs a variant
// that it catches: one that nothing can break may be saying nothing.
func TestVariantsMatchModel(t *testing.T) {
	t.Parallel()
	text := modelText(t)
	broken := map[string]bool{}
	for _, r := range variants {
		broken[r.tag] = true
		for _, d := range strings.Fields(r.define) {
			if !strings.Contains(text, "ifdef "+d+"\n") && !strings.Contains(text, "ifndef "+d+"\n") &&
				!strings.Contains(text, "defined("+d+")") {
				t.Errorf("the model does not know %s", d)
			}
		}
	}
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "assert(") {
			continue
		}
		m := tagComment.FindStringSubmatch(line)
		if m == nil {
			if !strings.Contains(line, "assertions") {
				t.Errorf("an assertion without a tag: %s", line)
			}
			continue
		}
		if !broken[m[1]] {
			t.Errorf("no variant breaks %s", m[1])
		}
	}
}

// modelText returns all files of the model.
func modelText(t *testing.T) string {
	t.Helper()
	names, err := fs.Glob(model, "*.pml")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, name := range names {
		text, err := fs.ReadFile(model, name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

func TestRunsHaveNamesOfTheirOwn(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, r := range slices.Concat(daily, nightly, variants) {
		if names[r.name] {
			t.Errorf("two runs are called %s", r.name)
		}
		names[r.name] = true
	}
}
