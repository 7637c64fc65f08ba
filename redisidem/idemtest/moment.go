package idemtest

import "fmt"

// kind says where between a stage's beginning and the end of its commit a moment is.
type kind int

const (
	beforeWork kind = iota + 1
	afterWork
	// beforeCommit: the commit is sent and never arrives.
	beforeCommit
	// afterCommit: the commit is stored, and its reply never arrives.
	afterCommit
)

// moment is a boundary in the life of a process at which it can die. The zero moment never comes.
type moment struct {
	kind kind
	at   string // the stage's recovery point, with what is done there in front of it if that is not the work
	nth  int    // which of its sort in the process, counted from 1
}

// String returns the boundary as it appears in the name of a test: kill_before_paid.
func (m moment) String() string {
	words := map[kind]string{
		beforeWork: "before", afterWork: "after", beforeCommit: "before_commit_of", afterCommit: "after_commit_of",
	}
	name := "kill_" + words[m.kind] + "_" + m.at
	if m.nth > 1 {
		name += fmt.Sprintf("_visit_%d", m.nth)
	}
	return name
}
