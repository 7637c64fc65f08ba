package history

import (
	"slices"
	"strings"
	"testing"
)

// fair is a history without violations. The key has three commits. The second follows a crash and a
// refused result. Each token is the name of a worker and a number.
const fair = `
began    a key 0 10 1 false a/1 ""
committed a key 0 10 1 false a/1 ""
began    a key 1 10 1 false a/2 "a/1"
began    b key 1 11 2 false b/1 "a/1"
began    c key 1 12 3 false c/1 "a/1"
committed c key 1 12 3 false c/1 ""
fenced   b key 1 11 2 true b/1 ""
began    c key 2 12 1 false c/2 "a/1.c/1"
committed c key 2 12 1 false c/2 ""
answered c key 0 0 0 false - "a/1.c/1.c/2"
answered d key 0 0 0 false - "a/1.c/1.c/2"
`

// stored is the record of the fair history.
func stored() Record {
	return Record{Key: "key", Finished: true, Answer: "a/1.c/1.c/2", Journal: []Commit{{10, 1}, {12, 3}, {12, 1}}}
}

func checked(t *testing.T, text string, r Record) []Violation {
	t.Helper()
	b := NewRecorder()
	for line := range strings.Lines(strings.TrimSpace(text)) {
		e, err := Parse(strings.Join(strings.Fields(line), " "))
		if err != nil {
			t.Fatal(err)
		}
		b.Add(e)
	}
	return b.Check(r)
}

func TestFairHistoryIsNotBlamed(t *testing.T) {
	t.Parallel()
	if found := checked(t, fair, stored()); len(found) != 0 {
		t.Error(found)
	}
	// An unknown result may be stored or not.
	for _, cut := range []string{"committed a", "committed c key 1", "fenced", "answered c"} {
		var lines []string
		for line := range strings.Lines(fair) {
			if !strings.HasPrefix(line, cut) {
				lines = append(lines, line)
			}
		}
		if found := checked(t, strings.Join(lines, ""), stored()); len(found) != 0 {
			t.Errorf("without %q: %v", cut, found)
		}
	}
}

// TestAnswerByHandIsOfAnOperator has an operator who resolves a key after its first attempt.
func TestAnswerByHandIsOfAnOperator(t *testing.T) {
	t.Parallel()
	const resolved = `
		began     a  key 0 10 1 true  a/1  ""
		resolving op key 0 0  0 false op/1 ""
		committed op key 0 0  0 false op/1 ""
		fenced    a  key 0 10 1 true  a/1  ""
		answered  b  key 0 0  0 false -    "op/1"
	`
	record := Record{Key: "key", Finished: true, Answer: "op/1", Journal: []Commit{{11, 0}}}
	if found := checked(t, resolved, record); len(found) != 0 {
		t.Error(found)
	}
	for rule, text := range map[Rule]string{
		ForeignResult: strings.Replace(resolved, "resolving op key 0 0  0 false op/1", "resolving op key 0 0  0 false op/2", 1),
		RefusedStored: strings.Replace(resolved, "committed op", "fenced op", 1),
		DoubleCommit:  strings.Replace(resolved, "fenced    a ", "committed a", 1),
		StaleCommit:   resolved + `began c key 0 12 2 false c/1 ""`,
	} {
		if found := checked(t, text, record); !slices.ContainsFunc(found, func(v Violation) bool { return v.Rule == rule }) {
			t.Errorf("%s is not found: %v", rule, found)
		}
	}
}

// TestEachViolationIsFound is the negative control: it checks histories that faulty workers would
// produce.
func TestEachViolationIsFound(t *testing.T) {
	t.Parallel()
	change := func(from, to string) string {
		if !strings.Contains(fair, from) {
			t.Fatalf("there is no %q", from)
		}
		return strings.Replace(fair, from, to, 1)
	}
	record := func(f func(*Record)) Record {
		r := stored()
		f(&r)
		return r
	}
	for _, c := range []struct {
		who  string
		rule Rule
		text string
		r    Record
	}{
		{
			"a worker with a SET NX lock and no fence, whose lock had lapsed: its late write is acknowledged and wins",
			StaleCommit, change("fenced   b key 1 11 2 true", "committed b key 1 11 2 true"),
			record(func(r *Record) { r.Answer, r.Journal[1] = "a/1.b/1.c/2", Commit{11, 2} }),
		},
		{
			"the same, and both were acknowledged",
			DoubleCommit, change("fenced   b key 1 11 2 true", "committed b key 1 11 2 true"), stored(),
		},
		{
			"a server that forgets an acknowledged commit",
			LostCommit, fair + "began e key 2 13 2 false e/1 \"a/1.c/1\"\n",
			record(func(r *Record) { r.Answer, r.Journal[2] = "a/1.c/1.e/1", Commit{13, 2} }),
		},
		{
			"a worker that learns of a refusal after its result was stored",
			RefusedStored, change("committed c key 1", "fenced c key 1"), stored(),
		},
		{
			"a callback's error whose result is stored all the same",
			RefusedStored, change("committed a key 0", "gave-up a key 0"), stored(),
		},
		{
			"a record that another program has written",
			ForeignResult, fair, record(func(r *Record) { r.Answer = "a/1.x/1.c/2" }),
		},
		{
			"a journal that names another lease",
			ForeignResult, fair, record(func(r *Record) { r.Journal[1].Fence = 11 }),
		},
		{
			"a journal with a commit that left nothing",
			ForeignResult, fair, record(func(r *Record) { r.Journal = append(r.Journal, Commit{13, 1}) }),
		},
		{
			"a replay with other bytes",
			DifferingAnswer, change(`answered d key 0 0 0 false - "a/1.c/1.c/2"`, `answered d key 0 0 0 false - "a/1.b/1.c/2"`), stored(),
		},
		{
			"a stage that was shown a result that was never accepted",
			DifferingView, change(`c/2 "a/1.c/1"`, `c/2 "a/1.b/1"`), stored(),
		},
		{
			"a later run with a smaller fence",
			FenceShrinks, change("began    b key 1 11 2 false", "began    b key 1 9 2 false"), stored(),
		},
		{
			"two workers with one lease",
			SharedLease, change("began    b key 1 11 2 false", "began    b key 1 10 2 false"), stored(),
		},
		{
			"two runs with one number",
			SharedLease, change("began    b key 1 11 2 false", "began    b key 1 11 1 false"), stored(),
		},
		{
			"a worker that stood still past its lease and did not hear of it",
			NotCancelled, change("fenced   b key 1 11 2 true", "stopped b - 0 0 0 false - \"\"\nfenced   b key 1 11 2 false"), stored(),
		},
		{
			"an error that has no reason",
			BadError, fair + `failed a key 0 0 0 false - "no worker has the lock of the key"`, stored(),
		},
		{
			"a key that cannot be finished",
			Unfinished, fair, record(func(r *Record) { r.Finished = false }),
		},
	} {
		found := checked(t, c.text, c.r)
		if !slices.ContainsFunc(found, func(v Violation) bool { return v.Rule == c.rule && v.Key == "key" }) {
			t.Errorf("%s: found %v, want %q", c.who, found, c.rule)
		}
	}
}

func TestOnlyCallbacksInsideWhenTheirWorkerStopsAreJudgedByIt(t *testing.T) {
	t.Parallel()
	const text = `
began a one 0 10 1 false a/1 ""
left a one 0 10 1 false a/1 ""
began a two 0 11 1 false a/2 ""
began b three 0 12 1 false b/1 ""
stopped a - 0 0 0 false - ""
committed a one 0 10 1 false a/1 ""
committed a two 0 11 1 true a/2 ""
committed b three 0 12 1 false b/1 ""
`
	b := NewRecorder()
	for line := range strings.Lines(strings.TrimSpace(text)) {
		e, err := Parse(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		b.Add(e)
	}
	if got, want := b.Count(), (Count{Runs: 3, Committed: 3, Stopped: 1, Cancelled: 1}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	for i, c := range []struct{ key, token string }{{"one", "a/1"}, {"two", "a/2"}, {"three", "b/1"}} {
		record := Record{Key: c.key, Finished: true, Answer: Chain(c.token), Journal: []Commit{{int64(10 + i), 1}}}
		if found := b.Check(record); len(found) != 0 {
			t.Error(found)
		}
	}
}

func TestEventsAreLines(t *testing.T) {
	t.Parallel()
	for _, e := range []Event{
		{Kind: Stopped, Worker: "w1"},
		{Kind: Began, Worker: "w1", Key: "flow-1", Revision: 2, Fence: 1 << 52, Attempt: 3, Lost: true, Token: "w1/7", Text: "a b\n-"},
	} {
		got, err := Parse(e.String())
		if err != nil || got != e {
			t.Errorf("%q became %+v, %v", e, got, err)
		}
	}
	for _, line := range []string{"", "began", "began w k x 0 0 false t \"\"", "began w k 0 0 0 false t no quotes"} {
		if e, err := Parse(line); err == nil {
			t.Errorf("%q became %+v", line, e)
		}
	}
}
