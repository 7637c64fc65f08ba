package sqlidem

import (
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

func TestJournalSaysAtWhichPointACommitWasMade(t *testing.T) {
	t.Parallel()
	journal := func(points map[int64]string) (j []redisidem.JournalEntry) {
		for n := range int64(200) {
			if p := points[n]; p != "" {
				j = append(j, redisidem.JournalEntry{Revision: n, Stage: p})
			}
		}
		return j
	}
	for _, c := range []struct {
		name          string
		journal       []redisidem.JournalEntry
		now, revision int64
		want          bool
	}{
		{"this point", journal(map[int64]string{0: "started", 1: "here", 2: "there"}), 3, 1, true},
		{"another point", journal(map[int64]string{0: "started", 1: "here", 2: "there"}), 3, 2, false},
		{"an adoption", journal(map[int64]string{0: "started", 1: "adopt:here"}), 2, 1, false},
		{"snoozes of this point, of which the last is in the journal", journal(map[int64]string{0: "started", 9: "here"}), 10, 4, true},
		{"snoozes of another point", journal(map[int64]string{0: "started", 9: "there"}), 10, 4, false},
		{"snoozes at the beginning", journal(map[int64]string{9: "there", 10: "here"}), 11, 4, false},
		{"still in a long journal", journal(map[int64]string{0: "there", 99: "here"}), 100, 0, false},
		{"the oldest that the journal must have", journal(map[int64]string{36: "there", 99: "here"}), 100, 36, false},
		{"older than the journal", journal(map[int64]string{36: "there", 99: "here"}), 100, 35, true},
		{"no journal", nil, 100, 99, true},
	} {
		if got := committedAt(c.journal, c.now, c.revision, "here"); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
