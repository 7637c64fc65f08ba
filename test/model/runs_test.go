package model

import (
	"fmt"
	"strconv"
	"strings"
)

// expectation is what a run must show.
type expectation string

const (
	// holds: no assertion fails in any reachable state.
	holds expectation = "holds"
	// refuted: the variant breaks the promise that its row names.
	refuted expectation = "refuted"
	// reached: a limit of the protocol that is known and documented. A run that no longer reaches
	// it means that the documentation is out of date, or that the model has stopped looking.
	reached expectation = "reached"
)

// run is one search of Spin's.
type run struct {
	name      string
	define    string // what makes the variant, with spaces between; empty for the protocol itself
	workers   int
	revisions int
	expect    expectation
	tag       string // of the assertion in protocol.pml that must fail; empty when none may
	second    bool   // the model with a SQL database beside Redis, in sqlFile
	unreduced bool   // without partial order reduction: slower, and one thing less to trust
	about     string
}

// file returns the file with the model.
func (r run) file() string {
	if r.second {
		return sqlFile
	}
	return modelFile
}

// secondStore returns a run of the model with a SQL database, or of one of its variants.
func secondStore(define string, workers, revisions int, tag, about string) run {
	r := broken(define, workers, revisions, tag, about)
	r.second = true
	if define == "" {
		r.name, r.expect, r.unreduced = fmt.Sprintf("sql-%dx%d", workers, revisions), holds, true
	}
	return r
}

// defines returns the arguments for Spin's preprocessor.
func (r run) defines() []string {
	args := []string{"-DN=" + strconv.Itoa(r.workers), "-DR=" + strconv.Itoa(r.revisions)}
	for _, d := range strings.Fields(r.define) {
		args = append(args, "-D"+d)
	}
	return args
}

// protocol returns a run of the protocol itself, of that size.
func protocol(workers, revisions int, unreduced bool) run {
	r := run{
		name:    fmt.Sprintf("protocol-%dx%d", workers, revisions),
		workers: workers, revisions: revisions, expect: holds, unreduced: unreduced,
		about: fmt.Sprintf("the protocol: %d workers, %d revisions", workers, revisions),
	}
	if unreduced {
		r.name += "-unreduced"
		r.about += ", no partial order reduction"
	}
	return r
}

// in returns the run with another part of the model besides the core.
func (r run) in(part, about string) run {
	r.define = part
	r.name += "-" + strings.ReplaceAll(strings.ToLower(part), " ", "-")
	r.about += ", " + about
	return r
}

// brokenIn is broken together with another part of the model.
func brokenIn(part, define, tag, about string) run {
	r := broken(define, 2, 2, tag, about)
	r.define = part + " " + define
	return r
}

// broken returns a run of a variant with the least number of workers and revisions that shows what
// it breaks.
func broken(define string, workers, revisions int, tag, about string) run {
	return run{
		name: define, define: define, workers: workers, revisions: revisions, expect: refuted, tag: tag, about: about,
	}
}

// daily are the sizes of the protocol for every change.
var daily = []run{
	protocol(2, 2, true),
	protocol(2, 3, true), // a lease that is kept twice
	protocol(2, 4, true),
	protocol(3, 2, false),
	protocol(2, 2, true).in("SPLIT", "a slot on the move"),
	protocol(2, 3, true).in("UNLOCK", "an operator who unlocks"),
	protocol(2, 3, true).in("UNLOCK CANCEL", "an operator who unlocks or cancels"),
	protocol(2, 2, true).in("ABSENT", "a record that is not there yet"),
	protocol(2, 3, true).in("LOSS", "failovers that lose data, with WAIT"),
	secondStore("", 2, 2, "", "a SQL database: 2 workers, 2 visits"),
	secondStore("", 3, 1, "", "a SQL database: 3 workers, 1 visit"),
}

// nightly are the sizes of the protocol that take longer.
var nightly = []run{
	protocol(3, 2, true),
	protocol(3, 3, true),
	protocol(4, 1, false),
	protocol(2, 2, false).in("SPLIT UNLOCK", "a slot on the move and an operator who unlocks"),
	protocol(3, 1, false).in("UNLOCK", "an operator who unlocks"),
	protocol(3, 1, false).in("LOSS", "failovers that lose data, with WAIT"),
	secondStore("", 3, 2, "", "a SQL database: 3 workers, 2 visits"),
}

// variants are the broken forms of the protocol, and the limits of the right one.
var variants = []run{
	broken("NOFENCE", 2, 2, "S2", "a commit compares the token, not the fence"),
	broken("NOREV", 2, 2, "S1", "a commit does not compare the revision"),
	broken("NOREVCLAIM", 2, 2, "S3", "a claim does not compare the revision"),
	broken("LOCKONLY", 2, 2, "S4", "the owner of the lock may commit"),
	broken("NAIVE", 2, 2, "S4", "a commit is refused when the lock has expired"),
	broken("NOJOURNAL", 2, 2, "S2", "a repeated commit is not recognised"),
	broken("NOLOCK", 2, 2, "S3", "a claim does not look at the lock"),
	broken("SAMEFENCE", 2, 2, "S3", "the fence does not grow"),
	broken("KEEPANYWAY", 2, 2, "S3", "a kept lease is called held although the lock is gone"),
	broken("LOCKFIRST", 2, 2, "S6", "a claim takes the lock before it looks at the record"),
	broken("NOSPENT", 2, 2, "S5", "tokens that ended their lease are not remembered"),
	broken("ABANDONOWN", 2, 2, "S5", "an abandon that overtakes its claim is not remembered"),
	broken("ABANDONUNKNOWN", 2, 2, "S4", "a worker abandons while its commit is unknown"),
	broken("ABANDONBLIND", 3, 1, "S3", "an abandon deletes the lock of any worker"),
	broken("COMMITBLIND", 3, 1, "S3", "a commit deletes the lock before it knows that it is accepted"),
	broken("RENEWBLIND", 3, 1, "S3", "a renewal takes the lock whatever the record says"),
	brokenIn("SPLIT", "CLAIMUNSEEN", "S7", "a claim in steps does not compare control"),
	brokenIn("SPLIT", "LOOKLATE", "S7", "a claim in steps reads control when it has the lock"),
	brokenIn("SPLIT", "CLAIMUNTAKEN", "S7", "a claim in steps does not take the lock"),
	brokenIn("SPLIT", "KEEPUNTAKEN", "S3", "a commit in steps keeps the lease without the lock"),
	brokenIn("SPLIT", "RENEWUNTAKEN", "S3", "a renewal in steps renews the record without the lock"),
	brokenIn("SPLIT", "FREEFIRST", "S7", "a commit in steps gives the lock back first"),
	brokenIn("SPLIT", "SAMETOKEN", "S3", "a token that gave the lock back in a step claims again, and the step comes late"),
	brokenIn("UNLOCK", "UNLOCKLOCK", "S8", "an operator deletes the lock alone"),
	brokenIn("UNLOCK CANCEL", "CANCELMARK", "S8", "a key is marked as cancelled, and its worker may still commit"),
	brokenIn("UNLOCK", "UNLOCKUNSPENT", "S5", "an operator takes the lease away, and its token is not remembered"),
	brokenIn("SPLIT UNLOCK", "UNLOCKUNSEEN", "S3", "an operator takes the lock of a claim in steps, and control stays the same"),
	brokenIn("ABSENT", "RETURNDEAF", "S9", "a give-back is over with its first reply, also when there was no record yet"),
	brokenIn("LOSS", "NOWAITCOMMIT", "D1", "a commit does not wait for the replica"),
	brokenIn("LOSS", "NOWAITCLAIM", "S4", "a claim does not wait for the replica"),
	brokenIn("LOSS", "NOWAITFENCED", "S2", "the refusal of a commit does not wait for the replica"),
	secondStore("ROWLATE", 2, 2, "Q1", "the row of the visit is written after the commit of the work"),
	secondStore("NOLOOKUP", 2, 2, "Q1", "a worker does not look for the row of the visit"),
	secondStore("OWNOUTCOME", 2, 2, "Q2", "a worker that finds the row returns an outcome of its own"),
	secondStore("NOSQLLOCK", 2, 2, "Q1", "a worker looks without the lock of the key's row"),
	secondStore("NOSQLFENCE", 2, 2, "Q3", "a worker does not compare its fence with that of the key's row"),
	secondStore("BYREVISION", 2, 2, "Q1", "the row of a visit has its revision, and Redis loses the record"),
	secondStore("UNDOLEAVES", 2, 1, "Q5", "the row of a visit that was undone answers the next record"),
	secondStore("NOMARK", 3, 1, "Q4", "the fence is not committed when a row of a lost record is found"),
	secondStore("UNDOBLIND", 2, 1, "Q5", "an undo does not look for an earlier run of it"),
	secondStore("UNSETTLED", 2, 2, "Q4", "a worker takes a COMMIT without a reply for done"),
	{
		name: "NOWAIT", define: "LOSS NOWAIT", workers: 2, revisions: 2, expect: reached, tag: "S4",
		about: "limit: without WAIT a failover forgets leases and commits that were acknowledged",
	},
	{
		name: "REPEATED", define: "SPLIT REPEATED", workers: 2, revisions: 2, expect: reached, tag: "L3",
		about: "limit: a late claim in steps takes the lease of one who claimed before it and asked again",
	},
	{
		name: "ORPHAN", define: "ORPHAN", workers: 2, revisions: 2, expect: reached, tag: "L1",
		about: "limit: a token that ended long ago gets a lease that no worker uses",
	},
	{
		name: "HAUNT", define: "HAUNT", workers: 3, revisions: 1, expect: reached, tag: "L2",
		about: "limit: and so fences a worker whose own lease had run out",
	},
}
