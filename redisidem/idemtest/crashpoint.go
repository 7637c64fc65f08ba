package idemtest

import "fmt"

// boundary is a kind of crash point, between the beginning of a stage and the end of its commit.
type boundary int

const (
	beforeWork boundary = iota + 1
	afterWork
	// beforeCommit: the commit is sent and never arrives.
	beforeCommit
	// afterCommit: the commit is stored, and its reply never arrives.
	afterCommit
)

// crashPoint is a point in the run of a process at which it can be killed. The zero value is never
// reached.
type crashPoint struct {
	boundary boundary
	at       string // the stage's recovery point, with a prefix if something other than its work runs there
	nth      int    // how often the process has reached this point, counted from 1
}

// String returns the crash point as it appears in the name of a subtest: kill_before_paid.
func (m crashPoint) String() string {
	words := map[boundary]string{
		beforeWork: "before", afterWork: "after", beforeCommit: "before_commit_of", afterCommit: "after_commit_of",
	}
	name := "kill_" + words[m.boundary] + "_" + m.at
	if m.nth > 1 {
		name += fmt.Sprintf("_visit_%d", m.nth)
	}
	return name
}
