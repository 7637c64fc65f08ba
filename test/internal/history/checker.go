package history

import (
	"cmp"
	"fmt"
	"slices"
)

// Rule is a rule of the promise that can be broken.
type Rule string

// The rules are named after their violations.
const (
	Unfinished      Rule = "unfinished"           // the key's work did not end
	DoubleCommit    Rule = "double commit"        // two results of one revision were acknowledged
	Vanished        Rule = "vanished"             // a record has disappeared before its expiry
	LostCommit      Rule = "lost commit"          // an acknowledged result is not the stored one
	RefusedStored   Rule = "refused and stored"   // a result is stored although its worker was informed that it is not
	StaleCommit     Rule = "stale commit"         // a result was accepted after a later lease had begun the same revision
	ForeignResult   Rule = "foreign result"       // a stored result, or its journal entry, does not come from any callback
	DifferingAnswer Rule = "differing answer"     // a caller got bytes that differ from the stored ones
	DifferingView   Rule = "differing view"       // a callback found commits that differ from the accepted ones
	FenceShrinks    Rule = "fence does not grow"  // a later run does not have a larger fence
	SharedLease     Rule = "shared lease"         // two callbacks, or two workers, share one lease
	NotCancelled    Rule = "not cancelled"        // a callback whose lease was lost was not cancelled
	Overlap         Rule = "overlapping run"      // a callback ran beside another one that was not cancelled
	WrongEffects    Rule = "effects != commits"   // the number of effects differs from the number of commits
	BadError        Rule = "error without reason" // a worker got an unexpected error
)

// Violation is a broken rule.
type Violation struct {
	Rule Rule
	Key  string
	Text string
}

func (v Violation) String() string { return fmt.Sprintf("%s: key %s: %s", v.Rule, v.Key, v.Text) }

func violation(rule Rule, e Event, format string, args ...any) Violation {
	return Violation{rule, e.Key, fmt.Sprintf(format, args...) + "; " + e.String()}
}

// Commit is an entry of a record's journal. Attempt is 0 for an answer that an operator gave.
type Commit struct {
	Fence   int64
	Attempt int
}

// Record is the stored state of a key.
type Record struct {
	Key      string
	Finished bool
	Answer   Chain
	Journal  []Commit
}

// Check compares the events of a key with its record, and returns the violations.
func (b *Recorder) Check(r Record) []Violation {
	p := b.keys[r.Key]
	if p == nil {
		p = &keyEvents{}
	}
	j := checker{keyEvents: p, record: r, tokens: r.Answer.tokens(), found: slices.Clone(p.wrong)}
	if !r.Finished {
		j.report(Unfinished, "the record is %+v", r)
		return j.found
	}
	j.journal()
	j.results()
	j.runs()
	for answer, times := range p.answers {
		if answer != r.Answer {
			j.report(DifferingAnswer, "%d times %q, and %q is stored", times, answer, r.Answer)
		}
	}
	return j.found
}

// checker checks one key.
type checker struct {
	keyEvents *keyEvents
	record    Record
	tokens    []string // the accepted results, by revision
	found     []Violation
}

func (j *checker) report(rule Rule, format string, args ...any) {
	j.found = append(j.found, Violation{rule, j.record.Key, fmt.Sprintf(format, args...)})
}

// accepted returns the token that is stored for a revision.
func (j *checker) accepted(revision int64) string {
	if revision < 0 || revision >= int64(len(j.tokens)) {
		return ""
	}
	return j.tokens[revision]
}

// journal compares the stored results with the journal, and both with the callbacks that began.
func (j *checker) journal() {
	if len(j.tokens) != len(j.record.Journal) {
		j.report(ForeignResult, "the answer %q has not as many commits as the journal %+v", j.record.Answer, j.record.Journal)
		return
	}
	for revision, token := range j.tokens {
		commit := j.record.Journal[revision]
		if commit.Attempt == 0 {
			if !slices.ContainsFunc(j.keyEvents.byHand, func(e Event) bool { return e.Token == token && e.Revision == int64(revision) }) {
				j.report(ForeignResult, "no operator gave %q, which is stored at revision %d", token, revision)
			}
			continue
		}
		i := slices.IndexFunc(j.keyEvents.began, func(e Event) bool { return e.Token == token })
		if i < 0 {
			j.report(ForeignResult, "no callback began %q, which is stored at revision %d", token, revision)
			continue
		}
		e := j.keyEvents.began[i]
		if e.Revision != int64(revision) || e.Fence != commit.Fence || e.Attempt != commit.Attempt {
			j.found = append(j.found, violation(ForeignResult, e, "it is stored at revision %d as %+v", revision, commit))
		}
	}
}

// results compares the results that callers received with the stored ones.
func (j *checker) results() {
	acknowledged := make(map[int64]Event)
	for _, e := range j.keyEvents.results {
		switch stored := j.accepted(e.Revision) == e.Token || slices.Contains(j.tokens, e.Token); {
		case e.Kind == Committed:
			if other, ok := acknowledged[e.Revision]; ok && other.Token != e.Token {
				j.found = append(j.found, violation(DoubleCommit, e, "and %s", other))
			}
			acknowledged[e.Revision] = e
			if j.accepted(e.Revision) != e.Token {
				j.found = append(j.found, violation(LostCommit, e, "stored is %q", j.record.Answer))
			}
		case e.Kind != Unknown && stored:
			j.found = append(j.found, violation(RefusedStored, e, "stored is %q", j.record.Answer))
		}
	}
}

// runs checks all callbacks, accepted or not, against each other and against the stored results.
func (j *checker) runs() {
	began := slices.Clone(j.keyEvents.began)
	slices.SortStableFunc(began, func(a, b Event) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), cmp.Compare(a.Attempt, b.Attempt))
	})
	owner := make(map[int64]string) // of each fence
	for i, e := range began {
		if seen := j.record.Answer.upTo(e.Revision); Chain(e.Text) != seen {
			j.found = append(j.found, violation(DifferingView, e, "it should be %q", seen))
		}
		if w, ok := owner[e.Fence]; ok && w != e.Worker {
			j.found = append(j.found, violation(SharedLease, e, "with %s", w))
		}
		owner[e.Fence] = e.Worker
		if e.Revision < int64(len(j.record.Journal)) && e.Fence > j.record.Journal[e.Revision].Fence {
			j.found = append(j.found, violation(StaleCommit, e, "accepted was %+v", j.record.Journal[e.Revision]))
		}
		if i == 0 {
			continue
		}
		switch before := began[i-1]; {
		case before.Revision == e.Revision && (before.Fence == e.Fence || before.Attempt == e.Attempt):
			j.found = append(j.found, violation(SharedLease, e, "with %s", before))
		case before.Fence > e.Fence:
			j.found = append(j.found, violation(FenceShrinks, e, "after %s", before))
		}
	}
}
