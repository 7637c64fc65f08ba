//go:build unix

package crash

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

// summary is what a ledger tells.
type summary struct {
	keys, commits     int
	replays           int // answers beyond the first of their key
	again             int // runs of a stage that had been begun before
	frozen, cancelled int
}

func (s summary) String() string {
	return fmt.Sprintf("%d keys, %d commits, %d replays, %d stages begun again; 0 double commits, 0 differing replays, "+
		"0 locks past their lease, 0 keys without TTL", s.keys, s.commits, s.replays, s.again)
}

// keysOf returns the keys that a ledger is about.
func keysOf(lines []string) (keys []string) {
	for _, line := range lines {
		if words := strings.Fields(line); len(words) > 1 {
			keys = append(keys, words[1])
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// audit holds what the workers were told against the records. Each violation begins with its key and a colon.
func audit(lines []string, records map[string]*redisidem.Key) (sum summary, violations []string) {
	object := func(key, format string, args ...any) {
		violations = append(violations, key+": "+fmt.Sprintf(format, args...))
	}
	owners := make(map[string]string) // of each fence of a key: its process
	began := make(map[string]bool)    // stages
	asked := make(map[string]bool)    // keys that were answered
	for _, line := range lines {
		words := strings.Fields(line)
		if len(words) < 3 {
			object("?", "the ledger has the line %q", line)
			continue
		}
		key := words[1]
		record := records[key]
		if record == nil {
			object(key, "there is no record")
			continue
		}
		switch words[0] {
		case "run":
			if stage := key + " " + words[2]; began[stage] {
				sum.again++
			} else {
				began[stage] = true
			}
			lease := key + " " + words[3]
			if other, ok := owners[lease]; ok && other != words[4] {
				object(key, "the processes %s and %s have both been given the fence %s", other, words[4], words[3])
			}
			owners[lease] = words[4]
		case "ack":
			i, err := strconv.Atoi(words[2])
			if err != nil || i >= len(record.Journal) {
				object(key, "a worker was told that it had committed revision %s, and the journal is %+v", words[2], record.Journal)
			} else if got := fmt.Sprint(record.Journal[i].Fence); got != words[3] {
				object(key, "the worker with the fence %s was told that it had committed revision %d, and the record says %s", words[3], i, got)
			}
		case "got":
			if body := string(record.Response.Body); body != words[2] {
				object(key, "a worker was told %s, and the record says %s", words[2], body)
			}
			if asked[key] {
				sum.replays++
			}
			asked[key] = true
		case "slept":
			sum.frozen++
			if words[3] == "true" {
				sum.cancelled++
			}
		default:
			object(key, "%s", line)
		}
	}
	for key, record := range records {
		sum.keys++
		sum.commits += len(record.Journal)
		for i := 1; i < len(record.Journal); i++ {
			if record.Journal[i].Fence < record.Journal[i-1].Fence {
				object(key, "the fences fall: %+v", record.Journal)
			}
		}
		for i, e := range record.Journal {
			if e.Revision != int64(i) {
				object(key, "revisions are missing: %+v", record.Journal)
			}
			if !began[fmt.Sprintf("%s %d", key, i)] && owners[fmt.Sprintf("%s %d", key, e.Fence)] != "" {
				object(key, "revision %d was committed without having run", i)
			}
		}
	}
	slices.Sort(violations)
	return sum, violations
}

// TestAuditObjects shows that the audit finds what it is for.
func TestAuditObjects(t *testing.T) {
	record := func(body string, fences ...int64) *redisidem.Key {
		response := redisidem.Response{Code: 200, Body: []byte(body)}
		key := &redisidem.Key{Response: &response}
		for i, f := range fences {
			key.Journal = append(key.Journal, redisidem.JournalEntry{Revision: int64(i), Fence: f})
		}
		return key
	}
	for _, c := range []struct {
		name   string
		ledger []string
		record *redisidem.Key
		want   string // in the violation, or ""
	}{
		{"nothing wrong", []string{"run k 0 7 1", "run k 0 8 2", "ack k 0 8", "got k x", "got k x"}, record("x", 8), ""},
		{"a commit lost", []string{"run k 0 7 1", "ack k 0 7", "got k x"}, record("x", 8), "record says 8"},
		{"two commits", []string{"run k 0 7 1", "run k 0 8 2", "ack k 0 7", "ack k 0 8"}, record("x", 8), "the fence 7"},
		{"a revision lost", []string{"run k 1 7 1", "ack k 1 7"}, record("x", 7), "committed revision 1"},
		{"another answer", []string{"run k 0 7 1", "got k x", "got k y"}, record("x", 7), "told y"},
		{"a fence twice", []string{"run k 0 7 1", "run k 0 7 2"}, record("x", 7), "both been given the fence 7"},
		{"a fence that falls", []string{"run k 0 7 1", "run k 1 6 1"}, record("x", 7, 6), "fences fall"},
		{"no record", []string{"run other 0 7 1"}, record("x", 7), "no record"},
		{"an error", []string{"run k 0 7 1", "bad k record damaged"}, record("x", 7), "damaged"},
	} {
		_, violations := audit(c.ledger, map[string]*redisidem.Key{"k": c.record})
		if got := strings.Join(violations, "\n"); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: the audit says %q, want %q", c.name, got, c.want)
		}
	}
}
