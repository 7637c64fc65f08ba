package protocol

import (
	"strconv"
	"time"

	"github.com/redisidem/redisidem/lua"
)

// Seen is the state of a record that the caller has read. The zero value means that the caller has
// not read it.
type Seen struct {
	Revision  int64
	CreatedAt time.Time // distinguishes the record from deleted ones of the same name
}

// args returns the revision and the creation as the scripts take them, empty if the record was not
// read.
func (s Seen) args() (revision, createdAt any) {
	if s.CreatedAt.IsZero() {
		return "", ""
	}
	return s.Revision, s.CreatedAt.UnixMicro()
}

// text returns both in one argument, empty if the record was not read.
func (s Seen) text() string {
	if s.CreatedAt.IsZero() {
		return ""
	}
	return strconv.FormatInt(s.Revision, 10) + " " + strconv.FormatInt(s.CreatedAt.UnixMicro(), 10)
}

// Recovery is when a completer may continue the work on a key. The zero value is for a key that is
// not in a due index.
type Recovery struct {
	Flow  string        // the name of the key's flow, whose due index holds it
	After time.Duration // how long a completer leaves the key alone
	// Deadline is how long after the record's creation a completer looks at it at the latest, for a
	// claim. Left is the rest of that time, for the other calls. 0: there is no deadline.
	Deadline, Left time.Duration
}

// Claim asks for the lease on a key.
type Claim struct {
	ID Identity
	// Seen refuses the claim if the record has advanced.
	Seen Seen
	// Fingerprint refuses the claim if the record has another one; "" for any.
	Fingerprint string
	// New is the record to make if Creates is set and the record does not exist.
	New     NewRecord
	Creates bool
	// NeedsParams asks for the params of a finished record.
	NeedsParams bool
	// WakeChannel is the channel on which the caller is notified that the key is free; "" for none.
	WakeChannel string
	// Waited is how long the caller has waited for the key.
	Waited time.Duration
	// Flow is the flow that will work on the key: its name/version and its recovery points, each
	// followed by a line break. Empty without a flow.
	Flow string
	// Recovery puts the key into a due index.
	Recovery Recovery

	// Completer means that a completer claims, which does not have a wake-up channel. HandedOut is
	// the score with which the due index handed the key out; "" if it does not matter.
	Completer bool
	HandedOut string

	// deadLetterOf is the flow, as name/version, if the key is one of its dead letters.
	deadLetterOf string
}

// claimControl is the number of the claim's argument with the control that the record had before
// the lock was taken. It applies only to a claim without KEYS[2].
const claimControl = 14

// claimCall makes the invocation of the claim script by the attempt with this token.
func (c *Client) claimCall(claim *Claim, token string) Call {
	flags, wake, after := c.flags, claim.WakeChannel, any("")
	if claim.NeedsParams {
		flags += flagParams
	}
	if claim.Completer {
		flags += flagClean
		wake = claim.HandedOut // ARGV[7] is either
	}
	if claim.Waited > 0 {
		flags += flagWaited + strconv.FormatInt(claim.Waited.Microseconds(), 10)
	}
	keys := recordKeys(&claim.ID, claim.Recovery.Flow)
	if claim.Recovery.Flow != "" {
		after = claim.Recovery.After.Milliseconds()
	}
	if claim.deadLetterOf != "" {
		keys = append(keys[:2], claim.ID.indexes(claim.deadLetterOf)...)
		if claim.Recovery.Flow == "" {
			after = c.leaseArg // RecoverAfter is not known here
		}
	}
	seen := claim.Seen.text()
	more := flags != "" || seen != "" || wake != "" || claim.Flow != "" || after != "" || claim.New.Origin != ""
	call := newSizedCall(lua.Claim, more, token, keys...)
	call.durable = true
	call.addTexts(claim.Fingerprint)
	call.add(c.leaseArg, c.lifetimeArg, c.ownerArg)
	if claim.Creates {
		claim.New.add(&call, &claim.ID)
	} else {
		call.addTexts("", "")
	}
	if more {
		call.addTexts(flags, seen, wake, claim.Flow)
		call.add(after)
		deadline := claim.Recovery.Flow != "" && claim.Recovery.Deadline > 0
		if claim.New.Origin != "" || deadline {
			call.addTexts(claim.New.Origin)
		}
		if deadline {
			call.add("", claim.Recovery.Deadline.Milliseconds())
		}
	}
	return call
}

// recordKeys returns the keys of a record and of its lock, and of a flow's due index if a flow is
// named.
func recordKeys(id *Identity, flow string) []string {
	if flow == "" {
		return []string{id.Record, id.Lock}
	}
	return []string{id.Record, id.Lock, id.DueIndex(flow)}
}

// indexes returns the keys of the due index and of the dead letters for a record that belongs to
// the flow with that name/version. An unfinished key of a recoverable flow is in one of them.
func (id *Identity) indexes(flow string) []string {
	name := FlowName(flow)
	if name == "" {
		return nil
	}
	return []string{id.DueIndex(name), id.DeadLetters(name)}
}
