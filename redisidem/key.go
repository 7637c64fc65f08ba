package redisidem

import (
	"bytes"
	"slices"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// The recovery points every key has. A program's own lie between them.
const (
	// Started is the recovery point of a new key.
	Started = "started"
	// Finished is the recovery point of a key whose work is done. It never changes again.
	Finished = "finished"
)

// Key is an idempotency key as one call saw it: a value that nothing changes behind the caller's
// back. Calls that move it on return a new one.
type Key struct {
	// Value is the key's text, and Scope whose key it is.
	Value string
	Scope string

	// Method, Path and Params are those of the first request.
	Method string
	Path   string
	Params []byte

	// RecoveryPoint is where the work continues. While a flow undoes what it has done it is
	// compensate: and the revision that is undone next.
	RecoveryPoint string
	// Revision is how many commits the record has accepted.
	Revision int64
	// Response is the last one stored: of a finished key the answer, of another an interim one. Nil
	// if no response is stored.
	Response *Response

	// Attempts is how often work on the key may have begun. A claim that was given back before its
	// callback does not count.
	Attempts int
	// CreatedAt and UpdatedAt (of the last commit) are the server's times. LockedAt is when the
	// present lease was given; zero while the key has no lease.
	CreatedAt time.Time
	UpdatedAt time.Time
	LockedAt  time.Time

	// Flow is the flow that works on the key, as name/version; empty if none does.
	Flow string
	// DeadLetter says when and why a Completer gave the key up; nil if the key is not a dead
	// letter.
	DeadLetter *DeadLetter

	// Journal has an entry for each commit, oldest first. It keeps the last 64, or the last 1024
	// and all compensations if a stage of the key's flow has a Compensate.
	Journal []JournalEntry

	id          identity
	fingerprint string
	state       []byte
	hasState    bool
	hasInterim  bool // the stored response is an interim one
	interim     bool // this very call, or the one that it has waited for, produced an interim answer
	own         bool // this very call made the answer
	requeued    requeue
	refused     refusals
	notKept     string // the part of the result that could not be stored
	undoable    bool   // a stage was committed that its flow can undo
	generation  int64  // how many records of the key were deleted, one within a retention of the other
	made        view   // what the library made the key
}

// view holds the fields of a key that stages and journals read.
type view struct {
	value, scope, method, path, point string
	params                            *byte
	size                              int
	revision                          int64
	created                           time.Time
	response                          *Response
}

// view returns the key's fields as they are.
func (k *Key) view() view {
	var first *byte
	if len(k.Params) > 0 {
		first = &k.Params[0]
	}
	return view{
		k.Value, k.Scope, k.Method, k.Path, k.RecoveryPoint, first, len(k.Params), k.Revision, k.CreatedAt,
		k.Response,
	}
}

// unchanged reports whether the key is as a call of this library's made it. The bytes that its
// fields point to are not looked at.
func (k *Key) unchanged() bool { return k.made == k.view() }

// identity names a key and its record in Redis.
type identity = protocol.Identity

// clone returns a copy that shares nothing with k.
func (k *Key) clone() *Key {
	c := *k
	c.Params = bytes.Clone(k.Params)
	c.Journal = slices.Clone(k.Journal)
	if k.Response != nil {
		c.Response = k.Response.clone()
	}
	c.made = c.view()
	return &c
}

// asSeen returns which state of the key's record the caller has read.
func (k *Key) asSeen() protocol.Seen {
	return protocol.Seen{Revision: k.Revision, CreatedAt: k.CreatedAt}
}

// isStill reports whether the record is as seen says. That key was not returned by this library: it
// was decoded from JSON, for example.
func (k *Key) isStill(seen *Key) bool {
	same := seen.CreatedAt.IsZero() || seen.CreatedAt.Equal(k.CreatedAt)
	return same && k.Revision == seen.Revision && k.RecoveryPoint == seen.RecoveryPoint
}

// Finished reports whether the key's work is done.
func (k *Key) Finished() bool { return k.RecoveryPoint == Finished }

// Answered reports whether there is an answer for the caller: the key is finished, or this very
// call, or the one that it has waited for, produced an interim answer. A loop over stages ends
// here.
func (k *Key) Answered() bool { return k.Finished() || k.interim }

// Replayed reports whether there is an answer and it is another call's: an earlier one has finished
// the key, or one that this call has waited for gave an interim answer.
func (k *Key) Replayed() bool { return k.Answered() && !k.own }

// NotKept returns a [*NotKeptError] if the key's work was done and its result could not be stored.
// Nil: it is not so.
func (k *Key) NotKept() error {
	if k.notKept == "" || !k.Finished() {
		return nil
	}
	return &NotKeptError{Part: k.notKept}
}

// result returns the key and the error that a caller gets who asks for its answer.
func (k *Key) result() (*Key, error) {
	err := k.NotKept()
	return k, err
}

// ID returns the name under which events, logs and Redis know the key: a digest of scope and value.
func (k *Key) ID() string { return k.id.Digest }
