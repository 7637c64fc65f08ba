package protocol

import (
	"math"
	"strconv"
	"time"

	"github.com/redisidem/redisidem/lua"
)

// Seen is a record as the caller has read it. The zero value stands for a caller that has not read
// it.
type Seen struct {
	Revision  int64
	CreatedAt time.Time // tells it from records of the same name that were deleted
}

// args returns the revision and the creation as the scripts take them, empty if the record was not
// read.
func (s Seen) args() (revision, createdAt any) {
	if s.CreatedAt.IsZero() {
		return "", ""
	}
	return s.Revision, s.CreatedAt.UnixMicro()
}

// text returns both in one argument.
func (s Seen) text() string {
	if s.CreatedAt.IsZero() {
		return ""
	}
	return strconv.FormatInt(s.Revision, 10) + " " + strconv.FormatInt(s.CreatedAt.UnixMicro(), 10)
}

// Recovery is when a completer may carry a key on. The zero value is for a key that is not in a due
// index.
type Recovery struct {
	Flow  string        // the name of the key's flow, whose due index holds it
	After time.Duration // how long a completer leaves the key alone
}

// NewRecord is what a record that does not exist yet is made of.
type NewRecord struct {
	Method, Path string
	Params       []byte // as they are stored
	HasParams    bool
	Flow         string // name/version; "" if none works on the key
}

// add adds the parts of a record to a call: those that each record has, without their fields'
// names, and then field, value, ... of the others.
func (r *NewRecord) add(c *Call, id *Identity) {
	c.add(id.Scope, id.Value, r.Method, r.Path)
	if r.HasParams {
		c.add("request_params", r.Params)
	}
	if r.Flow != "" {
		c.add("flow", r.Flow)
	}
}

// Claim asks for the lease on a key.
type Claim struct {
	ID Identity
	// Seen refuses the claim when the record has moved on.
	Seen Seen
	// Fingerprint refuses the claim when the record has another one; "" for any.
	Fingerprint string
	// New makes the record, if it does not exist and Creates is set.
	New     NewRecord
	Creates bool
	// NeedsParams asks for the params of a finished record.
	NeedsParams bool
	// WakeChannel is where the caller wants to hear that the key is free; "" for nowhere.
	WakeChannel string
	// Waited is how long the caller has waited for the key already.
	Waited time.Duration
	// Flow describes the flow that is to work on the key, as [NewFlow] returns it; "" for none.
	Flow string
	// Recovery puts the key into a due index.
	Recovery Recovery

	// Completer says that a completer claims, which waits for no channel. HandedOut is the score with
	// which the due index handed the key out; "" if that does not matter.
	Completer bool
	HandedOut string

	deadLetterOf string // the flow, as name/version, of whose dead letters the key is one; "" if it is none
}

// The numbers of claim's arguments that are used apart from claimCall.
const claimControl = 9 // without KEYS[2]: the control that the record had before the lock was taken

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
	call := newCall(lua.Claim, token, 16, keys...)
	call.durable = true
	call.add(claim.Seen.text(), claim.Fingerprint, c.leaseArg, c.lifetimeArg, flags, wake, claim.Flow, after)
	if claim.Creates {
		claim.New.add(&call, &claim.ID)
	}
	return call
}

// recordKeys returns the keys of a record and its lock, and of a flow's due index unless flow is "".
func recordKeys(id *Identity, flow string) []string {
	if flow == "" {
		return []string{id.Record, id.Lock}
	}
	return []string{id.Record, id.Lock, id.DueIndex(flow)}
}

// indexes returns the keys of the due index and of the dead letters for a record that belongs to the
// flow with that name/version. An unfinished key of a recoverable flow is in one of them.
func (id *Identity) indexes(flow string) []string {
	name := FlowName(flow)
	if name == "" {
		return nil
	}
	return []string{id.DueIndex(name), id.DeadLetters(name)}
}

// NewCreate makes the call that returns a key's record, which it makes if it does not exist.
func (c *Client) NewCreate(id Identity, fingerprint string, r NewRecord, needsParams bool) Call {
	call := newCall(lua.Create, NewToken(), 9, id.Record)
	call.durable = true
	flags := c.flags
	if needsParams {
		flags += flagParams
	}
	call.add(fingerprint, c.retentionArg, flags)
	r.add(&call, &id)
	return call
}

// Renew gives a lease its full length again.
type Renew struct {
	ID       Identity
	Token    string
	Fence    int64
	Recovery Recovery
	// DeadLetterOf is the flow, as name/version, of whose dead letters the key is one; "" if it is none.
	DeadLetterOf string
}

// NewRenew makes the call that renews a lease.
func (c *Client) NewRenew(r Renew) Call {
	keys := recordKeys(&r.ID, r.Recovery.Flow)
	if r.DeadLetterOf != "" {
		keys = append(keys, r.ID.indexes(r.DeadLetterOf)...)
	}
	call := newCall(lua.Renew, r.Token, 4, keys...)
	call.add(r.Fence, c.leaseArg, c.retentionArg)
	if r.Recovery.Flow != "" {
		call.add(r.Recovery.After.Milliseconds())
	}
	return call
}

// JournalLength is how many commits a record's journal remembers.
type JournalLength int64

// The lengths of a journal, as the scripts keep it.
const (
	JournalShort JournalLength = 64            // no flow compensates by the journal
	JournalLong  JournalLength = 1024          // a flow may compensate by it
	JournalWhole JournalLength = math.MaxInt64 // a flow compensates by it now
)

// Outcome is what a commit or an update writes into a record.
type Outcome struct {
	RecoveryPoint string
	// Response replaces the stored response if HasResponse.
	Response    Response
	HasResponse bool
	// Interim marks the stored response as an interim one, or removes the mark.
	Interim Mark
	// State is written if HasState.
	State    []byte
	HasState bool
	// NotKept is the part of a result that could not be stored; "" if there is none.
	NotKept string
	// Undoable marks a key of which a stage was committed that its flow can undo.
	Undoable bool
}

// Response is a response as it is stored.
type Response struct {
	Code      int
	Body      []byte
	Header    []byte
	HasHeader bool // or the stored header is left as it is
}

// Mark says what becomes of a mark in a record.
type Mark int

// The marks.
const (
	MarkLeave Mark = iota
	MarkSet
	MarkRemove
)

// outcomeWords is how many words an outcome adds at most.
const outcomeWords = 16

// AppendFields appends the field, value, ... that the outcome writes.
func (o *Outcome) AppendFields(words []any) []any {
	words = append(words, "recovery_point", o.RecoveryPoint)
	if r := &o.Response; o.HasResponse {
		words = append(words, "response_code", r.Code, "response_body", r.Body)
		if r.HasHeader {
			words = append(words, "response_headers", r.Header)
		}
	}
	switch o.Interim {
	case MarkSet:
		words = append(words, "interim", "1")
	case MarkRemove:
		words = append(words, "interim", "")
	case MarkLeave:
	}
	if o.HasState {
		words = append(words, "state", o.State)
	}
	if o.NotKept != "" {
		words = append(words, "not_kept", o.NotKept)
	}
	if o.Undoable {
		words = append(words, "undoable", "1")
	}
	return words
}

// Effect is one effect of a commit.
type Effect struct {
	Type    string // the type of its key; "" for a channel
	Key     string // the key or the channel
	Expiry  time.Duration
	Expires bool
	Command string
	Args    []string // behind the key
}

// Commit stores the outcome of a stage.
type Commit struct {
	ID       Identity
	Token    string
	Fence    int64
	Revision int64  // which the commit extends
	Attempt  int    // at the stage
	Attempts int    // at the key
	From     string // the recovery point that the stage started from
	Keep     bool   // keeps the lease for the next stage
	Journal  JournalLength
	Outcome  Outcome
	Effects  []Effect

	// Recovery is the place of the key in a due index after the commit.
	Recovery Recovery
	// Leaves says that the key is finished and leaves the due index.
	Leaves bool
	// DeadLetter says that the key is a dead letter, which it is no longer.
	DeadLetter bool
	// FlowUnknown says that the caller does not know whether the key's flow is recoverable. The due
	// index decides, by having the key or not.
	FlowUnknown bool
}

// commitFlags is the number of the flags among the arguments of a commit.
const commitFlags = 6

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
	for _, e := range m.Effects {
		if e.Type != "" {
			keys = append(keys, e.Key)
		}
	}
	call := newCall(lua.Commit, m.Token, 11+outcomeWords, keys...)
	call.durable = true
	call.add(m.Fence, m.Revision, m.Attempt, m.Attempts, flags, c.leaseArg, c.lifetimeArg, m.From, c.ownerArg, due)
	words := len(call.words)
	call.add(nil)
	call.words = m.Outcome.AppendFields(call.words)
	call.words[words] = len(call.words) - words - 1
	for i := range m.Effects {
		m.Effects[i].add(&call)
	}
	return call
}

// add adds an effect to a commit, whose keys have the effect's already.
func (e *Effect) add(c *Call) {
	expiry := ""
	if e.Expires {
		expiry = strconv.FormatInt(e.Expiry.Milliseconds(), 10)
	}
	channel := 0
	if e.Type == "" {
		channel = 1 // which is an argument
	}
	c.add(e.Type, expiry, len(e.Args)+channel, e.Command)
	if e.Type == "" {
		c.add(e.Key)
	}
	for _, a := range e.Args {
		c.add(a)
	}
}

// Ending says how an attempt counts that ends without a result. The zero value counts in full.
type Ending struct {
	// NothingDone does not count the attempt at the stage.
	NothingDone bool
	// Unbegun says that no callback has begun: the attempt at the key does not count.
	Unbegun bool
	// Stopped says that a shutdown stopped the attempt: it was begun, and does not use one up.
	Stopped bool
	// Refused, with NothingDone, says that no program could work on the key or read it.
	Refused bool
}

// flags returns the ending as the abandon script takes it.
func (e Ending) flags() string {
	flags := ""
	if e.NothingDone {
		flags += flagIdle
	}
	if e.Unbegun {
		flags += flagUnbegun
	}
	if e.Stopped {
		flags += flagSpared
	}
	if e.Refused {
		flags += flagRefused
	}
	return flags
}

// Abandon ends an attempt without a result.
type Abandon struct {
	ID       Identity
	Token    string
	Ending   Ending
	Recovery Recovery
	// DeadLetter is why the key becomes a dead letter of Recovery's flow, if the attempt still has the
	// lease; "" if it does not become one.
	DeadLetter string
}

// NewAbandon makes the call that abandons a lease.
func (c *Client) NewAbandon(a Abandon) Call {
	keys := recordKeys(&a.ID, a.Recovery.Flow)
	if a.DeadLetter != "" {
		keys = append(keys, a.ID.DeadLetters(a.Recovery.Flow))
	}
	call := newCall(lua.Abandon, a.Token, 4, keys...)
	call.add(a.Ending.flags())
	if a.Recovery.Flow != "" {
		call.add(a.Recovery.After.Milliseconds())
	}
	if a.DeadLetter != "" {
		call.add(a.DeadLetter, c.lifetimeArg)
	}
	return call
}

// Update writes an outcome into a record without a lease.
type Update struct {
	ID      Identity
	Token   string
	Seen    Seen
	Flow    string // the flow that the caller takes the key to belong to, as name/version; "" for none
	Outcome Outcome
}

// NewUpdate makes the call that updates a record.
func (c *Client) NewUpdate(u *Update) Call {
	keys := append(recordKeys(&u.ID, ""), u.ID.indexes(u.Flow)...)
	call := newCall(lua.Update, u.Token, 5+outcomeWords, keys...)
	call.durable = true
	revision, createdAt := u.Seen.args()
	call.add(revision, createdAt, c.retentionArg, c.ownerArg, c.flags)
	call.words = u.Outcome.AppendFields(call.words)
	return call
}

// NewDelete makes the call that deletes the record of a key of that flow, as name/version.
func (c *Client) NewDelete(id Identity, seen Seen, flow string) Call {
	call := newCall(lua.Delete, NewToken(), 4, append(recordKeys(&id, ""), id.indexes(flow)...)...)
	revision, createdAt := seen.args()
	call.add(revision, createdAt, c.deletedArg, c.retentionArg)
	return call
}

// NewUnlock makes the call that takes the lease on a key away.
func (c *Client) NewUnlock(id Identity) Call {
	return newCall(lua.Unlock, NewToken(), 0, id.Record, id.Lock)
}

// NewRequeue makes the call that takes a key out of the dead letters of the flow with that name.
func (c *Client) NewRequeue(id Identity, flow string) Call {
	return newCall(lua.Requeue, NewToken(), 0, id.Record, id.Lock, id.DueIndex(flow), id.DeadLetters(flow))
}

// Due asks for keys that are due.
type Due struct {
	Index string // the Redis key of the due index
	Batch int    // the number of keys at most
	// PutOff is for how long the keys are put off, so that no other completer gets them meanwhile.
	PutOff time.Duration
	// Until is up to when the index was read before in the same scan; "" at first.
	Until string
}

// NewDue makes the call that hands out keys that are due.
func (c *Client) NewDue(d Due) Call {
	call := newCall(lua.Due, NewToken(), 4, d.Index)
	call.add(d.Batch, d.PutOff.Milliseconds(), c.lifetimeArg, d.Until)
	return call
}
