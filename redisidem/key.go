package redisidem

import "time"

// The recovery points every key has. A program's own lie between them.
const (
	// Started is the recovery point of a new key.
	Started = "started"
	// Finished is the recovery point of a key whose work is done. It never changes again.
	Finished = "finished"
)

// Key is an idempotency key as one call saw it: a value that nothing changes behind the caller's back. Calls that move
// it on return a new one. Its JSON form is the record of the design this library follows, which serves operators and
// logs of one's own; it holds the response, so keep it out of shared logs.
type Key struct {
	// Value is the key's text, and Scope whose key it is.
	Value string `json:"idempotency_key"`
	Scope string `json:"scope"`

	// Method, Path and Params are those of the first request.
	Method string `json:"request_method"`
	Path   string `json:"request_path"`
	Params []byte `json:"request_params,omitempty"`

	// RecoveryPoint is where the work continues.
	RecoveryPoint string `json:"recovery_point"`
	// Revision is how many commits the record has accepted.
	Revision int64 `json:"revision"`
	// Response is the last one stored: of a finished key the answer, of another an interim one. Nil if there is none.
	Response *Response `json:"response,omitempty"`

	// Attempts is how often work on the key began.
	Attempts int `json:"attempts"`
	// CreatedAt and UpdatedAt (of the last commit) are the server's times. LockedAt is when the present lease was given;
	// zero when nobody has one.
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`
	LockedAt  time.Time `json:"locked_at,omitzero"`

	// Journal tells who committed which revision, oldest first. It remembers the last 64.
	Journal []JournalEntry `json:"journal,omitempty"`

	id          identity
	fingerprint string
	state       []byte
	hasState    bool
	interim     bool // this very call produced an interim answer
	own         bool // this very call finished the key
}

// JournalEntry is one accepted commit.
type JournalEntry struct {
	// Revision is the one this commit extended, counted from 0.
	Revision int64 `json:"revision"`
	// Stage is the recovery point the work started from.
	Stage string `json:"stage"`
	// Fence is the lease's number, and Attempt the how-many-eth run of this stage it was. An update by hand has attempt 0.
	Fence   int64 `json:"fence"`
	Attempt int   `json:"attempt"`
	// At is the server's time of the commit.
	At time.Time `json:"at"`
}

// Finished reports whether the key's work is done.
func (k *Key) Finished() bool { return k.RecoveryPoint == Finished }

// Answered reports whether there is an answer for the caller: the key is finished, or this very call produced an
// interim answer. A loop over stages ends here.
func (k *Key) Answered() bool { return k.Finished() || k.interim }

// Replayed reports whether the answer is that of an earlier call: the key is finished, and not by this call.
func (k *Key) Replayed() bool { return k.Finished() && !k.own }

// ID returns the name under which events, logs and Redis know the key: a digest of scope and value.
func (k *Key) ID() string { return k.id.digest }
