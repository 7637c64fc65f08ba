package redisidem

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Key is an idempotency key as one call read it. It is a snapshot: calls that advance the key
// return a new one. With Config.CacheBytes, the keys of replays share memory and must not be
// changed.
type Key struct {
	// Value is the key's text, and Scope the name of the scope that it belongs to.
	Value string
	Scope string

	// Method, Path and Params are from the first request with the key.
	Method string
	Path   string
	Params []byte

	// RecoveryPoint is the point at which the work continues. While a flow compensates, it is
	// "compensate:" and the revision to undo next.
	RecoveryPoint string
	// Revision is the number of commits that the record has accepted.
	Revision int64
	// Response is the last stored response: the answer of a finished key, or an interim answer. For
	// a finished key it is never nil: without a stored response it is zero ([Response.IsZero]). For
	// a key that is not finished it is nil if no response is stored.
	Response *Response

	// Attempts is how often work on the key may have begun. A claim that was given back before its
	// callback began does not count.
	Attempts int
	// CreatedAt, UpdatedAt and LockedAt are times of the server. UpdatedAt is the time of the last
	// commit. LockedAt is when the lease was granted that a worker has. It is zero without one, and
	// also once a worker that died has lost it. Keys of a stage or a Lease have their own, and keys
	// of Retrieve, DeadLetters and an Inspector that of any worker. Other calls do not ask for the
	// lock, and leave it zero.
	CreatedAt time.Time
	UpdatedAt time.Time
	LockedAt  time.Time
	// LockedBy is the Config.Owner of the process that was granted the lease of LockedAt.
	LockedBy string

	// CanceledAt is when the key was canceled, and zero if it was not.
	CanceledAt time.Time
	// SnoozedUntil is the server's time at which the stage runs again that returned [Snooze]. It is
	// zero if the last commit was not a snooze.
	SnoozedUntil time.Time

	// Flow is the flow that works on the key, as name/version. Empty without a flow.
	Flow string
	// DeadLetter is set if a Completer gave the key up, with the time and the reason. Nil if the
	// key is not a dead letter.
	DeadLetter *DeadLetter
	// LastFailure is the last attempt that ended with its callback's error. It stays when a later
	// attempt succeeds. Nil if none failed. A process with Config.DiscardFailures stores none.
	LastFailure *Failure

	// Journal has an entry for each commit, oldest first. It keeps the last 64 commits. If a stage
	// of the key's flow has a Compensate, it keeps the last 1024 and all compensations. Snoozes of
	// one stage that follow each other have one entry, the last one's.
	Journal []JournalEntry

	id          identity
	fingerprint string
	state       []byte
	earlier     []earlierState // by their revisions
	hasState    bool
	hasInterim  bool        // the stored response is an interim one
	interim     bool        // this call, or the one that it waited for, produced an interim answer
	ownAnswer   bool        // this call made the answer
	noReturn    bool        // it is behind its flow's point of no return
	undoable    bool        // a stage was committed that its flow can undo
	merged      int64       // how many commits were snoozes whose journal entries later ones have replaced
	notKept     string      // the part of the result that could not be stored
	origin      string      // the traceparent of the request that made the key, or ""
	rare        *rareFields // nil without any; never changed
	original    view        // the fields as the library set them
}

// view holds the fields of a key that stages and journals read, besides the name. Two views show
// whether a caller changed them.
type view struct {
	method, path, point string
	params              *byte
	size                int
	revision            int64
	created             int64 // in microseconds
	response            *Response
}

// view returns the current fields of the key.
func (k *Key) view() view {
	var first *byte
	if len(k.Params) > 0 {
		first = &k.Params[0]
	}
	return view{k.Method, k.Path, k.RecoveryPoint, first, len(k.Params), k.Revision, k.CreatedAt.UnixMicro(), k.Response}
}

// unchanged reports whether the key's fields are as the library set them. It does not compare the
// bytes that the fields point to.
func (k *Key) unchanged() bool {
	return k.Value == k.id.Value && k.Scope == k.id.Scope && k.original == k.view()
}

// answer gives a finished key without a stored response the zero Response.
func (k *Key) answer() {
	if k.Finished() && k.Response == nil {
		k.Response = &Response{}
	}
}

// identity names a key and its record in Redis.
type identity = protocol.Identity

// clone returns a copy that shares nothing with k.
func (k *Key) clone() *Key {
	c := *k
	c.Params = bytes.Clone(k.Params)
	c.Journal = slices.Clone(k.Journal)
	c.earlier = slices.Clone(k.earlier)
	if k.Response != nil {
		c.Response = k.Response.clone()
	}
	if k.LastFailure != nil {
		failure := *k.LastFailure
		c.LastFailure = &failure
	}
	if k.rare != nil {
		rare := *k.rare
		c.rare = &rare
	}
	c.original = c.view()
	return &c
}

// copyTexts gives a clone texts of its own. Those of a key that a reply brought are parts of the
// whole reply, and would keep that in memory for as long as the key.
func (k *Key) copyTexts() {
	texts := []*string{
		&k.Value, &k.Scope, &k.Method, &k.Path, &k.RecoveryPoint, &k.Flow, &k.LockedBy, &k.id.Scope, &k.id.Value,
		&k.fingerprint, &k.notKept, &k.origin,
	}
	for i := range k.Journal {
		texts = append(texts, &k.Journal[i].Owner, &k.Journal[i].Stage)
	}
	for i := range k.earlier {
		texts = append(texts, &k.earlier[i].stored)
	}
	if k.LastFailure != nil {
		texts = append(texts, &k.LastFailure.Owner, &k.LastFailure.Text)
	}
	if k.rare != nil {
		texts = append(texts, &k.rare.leasedBy)
	}
	for _, text := range texts {
		*text = strings.Clone(*text)
	}
	k.original = k.view()
}

// asSeen returns the state of the record that the caller has read.
func (k *Key) asSeen() protocol.Seen {
	return protocol.Seen{Revision: k.Revision, CreatedAt: k.CreatedAt}
}

// isStill reports whether the record is still in the state that seen describes. Such a seen was not
// returned by this library: it was decoded from JSON, for example.
func (k *Key) isStill(seen *Key) bool {
	same := seen.CreatedAt.IsZero() || seen.CreatedAt.Equal(k.CreatedAt)
	return same && k.Revision == seen.Revision && k.RecoveryPoint == seen.RecoveryPoint
}

// Finished reports whether the key's work is done.
func (k *Key) Finished() bool { return k.RecoveryPoint == Finished }

// Answered reports whether there is an answer for the caller. The key is then finished, or this
// call produced an interim answer, or the call that it waited for did. A loop over stages ends
// then.
func (k *Key) Answered() bool { return k.Finished() || k.interim }

// Replayed reports whether there is an answer and another call made it. An earlier call finished
// the key, or a call that this one waited for gave an interim answer.
func (k *Key) Replayed() bool { return k.Answered() && !k.ownAnswer }

// result returns the key and the error for a caller that asks for the answer.
func (k *Key) result() (*Key, error) {
	err := k.NotKept()
	return k, err
}

// ID returns the name of the key in events, logs and Redis: a digest of scope and value.
func (k *Key) ID() string { return k.id.Digest }

// Record returns the Redis key of the key's record, which contains the namespace and the ID. It is
// for [Inspector.Exist].
func (k *Key) Record() string { return k.id.Record }

// identify checks a key's text and returns the place of its record. A key is any 1 to
// Config.MaxKeyBytes bytes, compared byte by byte, without case folding or trimming. Invalid UTF-8,
// braces, colons, NUL and line breaks are allowed, because only a digest reaches Redis's key space.
func (sc *Scope) identify(value string) (identity, error) {
	if err := sc.validate(value); err != nil {
		return identity{}, err
	}
	return sc.placeOf(value), nil
}

func (sc *Scope) validate(value string) error {
	limit := sc.service.cfg.MaxKeyBytes
	switch {
	case sc.name == "":
		return invalid("scope", "must not be empty")
	case len(sc.name) > limit:
		return invalid("scope", "is %d bytes long, more than MaxKeyBytes (%d)", len(sc.name), limit)
	case value == "":
		return invalid("key", "must not be empty")
	case len(value) > limit:
		return invalid("key", "is %d bytes long, more than MaxKeyBytes (%d)", len(value), limit)
	}
	return nil
}

// identityOf checks that a key is of this scope and returns its identity.
func (sc *Scope) identityOf(key *Key) (identity, error) {
	if key == nil {
		return identity{}, invalid("key", "must not be nil")
	}
	if key.Scope != sc.name {
		return identity{}, invalid("key", "is of another scope")
	}
	return sc.identify(key.Value)
}
