package idemtest

import (
	"context"
	"fmt"
)

// boundary is a kind of crash point, between the beginning of a stage and the end of its commit.
type boundary int

const (
	beforeWork boundary = iota + 1
	afterWork
	// beforeCommit: the commit is sent and never arrives.
	beforeCommit
	// afterCommit: the commit is stored, and its reply never arrives.
	afterCommit
	// ownPoint: a boundary that the program marks with CrashPoint.
	ownPoint
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
		ownPoint: "at",
	}
	name := "kill_" + words[m.boundary] + "_" + m.at
	if m.nth > 1 {
		name += fmt.Sprintf("_visit_%d", m.nth)
	}
	return name
}

// processContext is the context key of the process that a context belongs to.
type processContext struct{}

// CrashPoint marks a boundary of the program's own, such as the commit of a transaction in another
// database. [CrashMatrix] kills a process there as well, in a case with the name kill_at_ and name.
// The context is that of the stage, or descends from it. In a process that is killed, CrashPoint
// ends the goroutine ([runtime.Goexit]), so call it in the goroutine of the stage. Deferred calls
// still run: they must do what the death of a process does, such as closing its connections.
//
// Without a process of CrashMatrix in its context, CrashPoint does nothing.
func CrashPoint(ctx context.Context, name string) {
	if p, ok := ctx.Value(processContext{}).(*process); ok {
		p.step(ownPoint, name)
	}
}
