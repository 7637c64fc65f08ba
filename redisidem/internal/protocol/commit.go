package protocol

import (
	"math"
	"strconv"
	"time"

	"github.com/redisidem/redisidem/lua"
)

// JournalLength is how many commits a record's journal remembers.
type JournalLength int64

// The lengths of a journal, as the scripts keep it.
const (
	JournalShort JournalLength = 64            // no flow compensates by the journal
	JournalLong  JournalLength = 1024          // a flow may compensate by it
	JournalWhole JournalLength = math.MaxInt64 // a flow compensates by it now
)

// Effect is one effect of a commit.
type Effect struct {
	Type    string // the type of its key; "" for a channel
	Key     string // the key or the channel
	Expiry  time.Duration
	Expires bool
	Command string
	Args    []string // after the key
}

// Commit stores the outcome of a stage.
type Commit struct {
	ID       Identity
	Token    string
	Fence    int64
	Revision int64  // which the commit extends
	Attempt  int    // at the stage
	From     string // the recovery point that the stage started from
	Keep     bool   // keeps the lease for the next stage
	Journal  JournalLength
	Outcome  Outcome
	Effects  []Effect

	// Recovery is the place of the key in a due index after the commit.
	Recovery Recovery
	// Leaves means that the key is finished and leaves the due index.
	Leaves bool
	// DeadLetter means that the key is a dead letter, which this commit ends.
	DeadLetter bool
	// FlowUnknown means that the caller does not know whether the key's flow is recoverable. The
	// script then checks whether the due index has the key.
	FlowUnknown bool
	// Snoozed means that a flow's claims get the interim answer until the time that the outcome has
	// as its Snooze.
	Snoozed bool
	// Merged means that the commit before was a snooze of the same stage, and so is this one. Its
	// journal entry replaces that commit's.
	Merged bool
}

// commitFlags is the number of the flags among the arguments of a commit.
const commitFlags = 8

// NewCommit makes the call that commits an outcome.
func (c *Client) NewCommit(m *Commit) Call {
	flags := c.flags
	if m.Keep {
		flags += flagKeep
	}
	switch m.Journal {
	case JournalLong:
		flags += flagJournal
	case JournalWhole:
		flags += flagUndoing
	case JournalShort:
	}
	keys, due := recordKeys(&m.ID, m.Recovery.Flow), any("")
	if m.Recovery.Flow != "" {
		due = "-"
		if !m.Leaves {
			due = m.Recovery.After.Milliseconds()
		}
	}
	if m.DeadLetter {
		flags += flagRevived
		if m.Recovery.Flow != "" {
			keys = append(keys, m.ID.DeadLetters(m.Recovery.Flow))
		}
	}
	if m.FlowUnknown {
		flags += flagByHand
	}
	if m.Snoozed {
		flags += flagSnoozed
	}
	if m.Merged {
		flags += flagMerged
	}
	for _, e := range m.Effects {
		if e.Type != "" {
			keys = append(keys, e.Key)
		}
	}
	more := flags != "" || due != "" || m.Outcome.hasMore() || len(m.Effects) > 0
	call := newSizedCall(lua.Commit, more, m.Token, keys...)
	call.durable = true
	control, entry := m.claimed(c.owner)
	call.addTexts(control)
	call.add(c.lifetimeArg)
	call.addTexts(entry, m.Outcome.RecoveryPoint)
	m.Outcome.addResponse(&call)
	if more {
		call.add(flags, due)
		words := len(call.words)
		call.add(nil)
		m.Outcome.addMore(&call)
		call.words[words] = len(call.words) - words - 1
	}
	for i := range m.Effects {
		m.Effects[i].add(&call)
	}
	return call
}

// claimed returns how the record's control begins under the lease that commits, and the commit's
// part of its journal entry.
func (m *Commit) claimed(owner string) (control, entry string) {
	var space [256]byte
	b := append(space[:0], Version+" "...)
	b = append(strconv.AppendInt(b, m.Revision, 10), ' ')
	b = append(append(b, m.Token...), ' ')
	b = append(strconv.AppendInt(b, m.Fence, 10), ' ')
	n := len(b)
	b = append(strconv.AppendInt(b, int64(m.Attempt), 10), ' ')
	b = append(append(b, owner...), ' ')
	both := string(append(b, m.From...)) // one allocation
	return both[:n], both[n:]
}

// add adds an effect's arguments to a commit. The call has the effect's key already.
func (e *Effect) add(c *Call) {
	expiry := ""
	if e.Expires {
		expiry = strconv.FormatInt(e.Expiry.Milliseconds(), 10)
	}
	channel := 0
	if e.Type == "" {
		channel = 1 // the channel is an argument
	}
	c.add(e.Type, expiry, len(e.Args)+channel, e.Command)
	if e.Type == "" {
		c.add(e.Key)
	}
	for _, a := range e.Args {
		c.add(a)
	}
}
