package redisidem

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// The fields of a record. The first block is from the design that this library follows, and the
// second block is this library's own. docs/design.md describes all of them.
const (
	fieldParams = "request_params"
	fieldPoint  = "recovery_point"
	fieldCode   = "response_code"
	fieldBody   = "response_body"

	fieldControl     = "control"
	fieldRequest     = "request"
	fieldFingerprint = "fingerprint"
	fieldHeaders     = "response_headers"
	fieldState       = "state"
	fieldInterim     = "interim"
	fieldFlow        = "flow"
	fieldOrigin      = "origin"
	fieldDeadLetter  = "dead_letter"
	fieldLastFailure = "last_failure"
	fieldRequeued    = "requeued"
	fieldRefused     = "refused"
	fieldOpenAttempt = "open_attempt"
	fieldNotKept     = "not_kept"
	fieldUndoable    = "undoable"
	fieldMerged      = "merged"
	fieldCanceled    = "canceled"
	fieldNoReturn    = "no_return"
	fieldGeneration  = "generation"
	journalPrefix    = "j:"
)

// control is the field that changes with every step. It consists of the words
//
//	version revision token fence stage_attempts attempts lease spent created owner
//
// It is one field because the scripts read and write all of it at each step, and a field costs them
// more than a word. An absent token is "-", or "~" while a stage is snoozed. The fence is the time
// of the last claim, in microseconds, unless the clock was set back.
type control struct {
	revision, fence         int64
	stageAttempts, attempts int64
	leased                  bool
	created                 time.Time
	owner                   string // of the last claim; "-" before the first one
}

const controlWords = 10

func decodeControl(s string) (control, error) {
	var c control
	// The version comes first: other versions may have another number of words.
	if version, _, _ := strings.Cut(s, " "); version != protocol.Version {
		return c, damaged("unknown schema version %q", version)
	}
	var words [controlWords]string
	rest, more := s, true
	for i := range words {
		if !more {
			return c, damaged("%s has %d words", fieldControl, i)
		}
		words[i], rest, more = strings.Cut(rest, " ")
	}
	if more || words[2] == "" || words[7] == "" || words[9] == "" {
		return c, damaged("%s cannot be read", fieldControl)
	}
	c.leased, c.owner = words[2] != "-" && words[2] != "~", words[9]
	var lease, created int64
	for i, n := range []*int64{1: &c.revision, 3: &c.fence, 4: &c.stageAttempts, 5: &c.attempts, 6: &lease, 8: &created} {
		if n == nil {
			continue
		}
		var err error
		if *n, err = parseCount(fieldControl, words[i]); err != nil {
			return c, err
		}
	}
	c.created = time.UnixMicro(created).UTC()
	return c, nil
}

// newKey returns the key of a record that was just created.
func newKey(id identity, r encodedRequest, created protocol.Created) *Key {
	k := &Key{
		Value: id.Value, Scope: id.Scope, Method: r.method, Path: r.path, Params: r.params,
		RecoveryPoint: Started, CreatedAt: created.At, id: id, fingerprint: r.fingerprint,
	}
	if created.Generation > 0 {
		k.rare = &rareFields{generation: created.Generation}
	}
	k.original = k.view()
	return k
}

// decodeRecord makes a Key from a record's field, value, ... list. It does not trust Redis: a value
// that this library cannot have written is damage, and so is the record of another key.
func decodeRecord(id identity, values valueCodec, pairs []string) (*Key, error) {
	k := &Key{id: id}
	r := storedRecord{key: k}
	for i := 0; i+1 < len(pairs); i += 2 {
		if err := r.read(pairs[i], pairs[i+1]); err != nil {
			return nil, err
		}
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	if err := r.decodeValues(values); err != nil {
		return nil, err
	}
	k.Revision, k.Attempts = r.control.revision, int(r.control.attempts)
	if !r.response.IsZero() && k.notKept == "" { // otherwise the stored response is that of an earlier stage
		response := r.response // alone: r also has the stored form of all values
		k.Response = &response
	}
	k.answer()
	slices.SortFunc(k.Journal, func(a, b JournalEntry) int { return int(a.Revision - b.Revision) })
	for i := range k.Journal {
		k.Journal[i].measure(k.Journal[:i])
	}
	slices.SortFunc(k.earlier, func(a, b earlierState) int { return int(a.revision - b.revision) })
	if n := len(k.Journal); n > 0 {
		k.UpdatedAt = k.Journal[n-1].At
	}
	if r.snooze > 0 {
		k.SnoozedUntil = k.UpdatedAt.Add(r.snooze)
	}
	if k.Finished() {
		k.DeadLetter = nil
	}
	k.original = k.view()
	return k, nil
}

// storedRecord is a record whose values are not decoded yet.
type storedRecord struct {
	key        *Key
	control    control
	hasControl bool
	request    protocol.Request
	response   Response

	header, body, params, state   string
	hasHeader, hasBody, hasParams bool

	snooze time.Duration // from the last commit on
}

// rare returns the key's rare fields, to be set.
func (r *storedRecord) rare() *rareFields {
	if r.key.rare == nil {
		r.key.rare = &rareFields{}
	}
	return r.key.rare
}

// read reads one field.
func (r *storedRecord) read(field, v string) (err error) {
	k := r.key
	switch field {
	case fieldControl:
		r.hasControl = true
		r.control, err = decodeControl(v)
	case fieldRequest:
		var ok bool
		if r.request, ok = protocol.ParseRequest(v); !ok {
			err = damaged("%s cannot be read", fieldRequest)
		}
	case fieldParams:
		r.params, r.hasParams = v, true
	case fieldFingerprint:
		k.fingerprint = v
	case fieldPoint:
		k.RecoveryPoint = v
	case fieldCode:
		var n int64
		n, err = parseCount(fieldCode, v)
		r.response.Code = int(n)
	case fieldHeaders:
		r.header, r.hasHeader = v, true
	case fieldBody:
		r.body, r.hasBody = v, true
	case fieldInterim:
		k.hasInterim = v != ""
		r.snooze, err = decodeSnooze(v)
	case fieldState:
		r.state, k.hasState = v, true
	case fieldOrigin:
		k.origin = v
	case fieldFlow:
		k.Flow, err = v, checkFlow(v)
	case fieldDeadLetter:
		k.DeadLetter, err = decodeDeadLetter(v)
	case fieldLastFailure:
		k.LastFailure, err = decodeFailure(v)
	case fieldNotKept:
		k.notKept = v
	case fieldUndoable:
		k.undoable = v != ""
	case fieldNoReturn:
		k.noReturn = v != ""
	case fieldCanceled:
		k.CanceledAt, err = parseTime(fieldCanceled, v)
	case fieldMerged:
		k.merged, err = parseCount(fieldMerged, v)
	case fieldRequeued:
		r.rare().requeued, err = decodeRequeue(v)
	case fieldRefused:
		r.rare().refused, err = decodeRefusals(v)
	case fieldOpenAttempt:
		r.rare().open, err = decodeOpenAttempt(v)
	case fieldGeneration:
		r.rare().generation, err = decodeGeneration(v)
	default:
		if n, ok := strings.CutPrefix(field, journalPrefix); ok {
			var e JournalEntry
			e, err = decodeJournalEntry(n, v)
			k.Journal = append(k.Journal, e)
		} else if n, ok := strings.CutPrefix(field, earlierPrefix); ok {
			var s earlierState
			if s, ok, err = decodeEarlierState(n, v); ok {
				k.earlier = append(k.earlier, s)
			}
		}
	}
	return err
}

// check returns an error if the record lacks a field, is another key's, or has a code that no
// response has.
func (r *storedRecord) check() error {
	k, code := r.key, r.response.Code
	k.Scope, k.Value, k.Method, k.Path = r.request.Scope, r.request.Value, r.request.Method, r.request.Path
	k.CreatedAt = r.control.created
	if r.control.leased {
		r.rare().leasedAt, r.rare().leasedBy = time.UnixMicro(r.control.fence).UTC(), r.control.owner
	}
	switch {
	case !r.hasControl:
		return damaged("%s is missing", fieldControl)
	case k.Scope != k.id.Scope || k.Value != k.id.Value:
		return damaged("the record is another key's")
	case k.RecoveryPoint == "":
		return damaged("%s is missing", fieldPoint)
	case k.fingerprint == "":
		return damaged("%s is missing", fieldFingerprint)
	case code != 0 && (code < 100 || code > 599):
		return damaged("%s is %d", fieldCode, code)
	case code != 0 && !r.hasBody:
		return damaged("%s is missing", fieldBody)
	}
	return nil
}

// decodeValues decodes the values that go through Config.Codec.
func (r *storedRecord) decodeValues(values valueCodec) (err error) {
	k, response := r.key, &r.response
	decode := func(field string, code int, stored string) ([]byte, error) {
		return values.decode(k.id, k.fingerprint, field, code, []byte(stored))
	}
	if k.LastFailure != nil {
		k.LastFailure.decode(values, k.id, k.fingerprint)
	}
	if r.hasParams {
		if k.Params, err = decode(fieldParams, 0, r.params); err != nil {
			return err
		}
	}
	if k.hasState {
		if k.state, err = decode(fieldState, 0, r.state); err != nil {
			return err
		}
	}
	if r.hasBody {
		if response.Body, err = decode(fieldBody, response.Code, r.body); err != nil {
			return err
		}
	}
	if r.hasHeader {
		lines, err := decode(fieldHeaders, response.Code, r.header)
		if err != nil {
			return err
		}
		if response.Header, err = decodeHeader(string(lines)); err != nil {
			return damaged("%v", err)
		}
	}
	return nil
}

func parseCount(field, s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, damaged("%s is not a number", field)
	}
	return n, nil
}

// checkFlow returns an error for a stored flow that no [NewFlow] has made. Redis keys contain a
// flow's name, so one with other characters could be that of another shard.
func checkFlow(stored string) error {
	name, version, _ := strings.Cut(stored, "/")
	if stored == "" || flowName.MatchString(name) && version != "" && strings.Trim(version, "0123456789") == "" {
		return nil
	}
	return damaged("%s is not the name and version of a flow: %q", fieldFlow, stored)
}

// parseTime parses the server's time in microseconds.
func parseTime(field, s string) (time.Time, error) {
	n, err := parseCount(field, s)
	return time.UnixMicro(n).UTC(), err
}

// fields returns the fields that a commit of the outcome to the key writes.
func (o *encodedOutcome) fields(k *Key) protocol.Outcome {
	f := protocol.Outcome{
		RecoveryPoint: o.point, State: o.storedState, HasState: o.hasState, Undoable: o.undoable && !k.undoable, NoReturn: o.noReturn && !k.noReturn, HasResponse: o.stored != nil, EarlierStates: o.earlierFields(k),
	}
	if o.stored != nil {
		f.Response = protocol.Response{
			Code: o.stored.Code, Body: o.storedBody, Header: o.storedHeader, HasHeader: len(o.storedHeader) > 0 || k.Response != nil,
		}
	}
	switch {
	case o.interim:
		f.Interim, f.Snooze = protocol.MarkSet, o.snooze
		if o.merges(k) {
			f.Merged = k.merged + 1
		}
	case k.hasInterim:
		f.Interim = protocol.MarkRemove
	}
	if o.adoptedBy != nil {
		f.Flow = o.adoptedBy.id
	}
	if o.notKept != nil {
		f.NotKept = o.notKept.Part
	}
	return f
}

// replaces returns the response that replaces the key's, or nil to keep that. An interim answer is
// for one caller at one moment, so it must not remain as the final answer. A later outcome without
// a response removes it.
func (o *encodedOutcome) replaces(k *Key) *Response {
	if o.response == nil && k.hasInterim {
		return &Response{}
	}
	return o.response
}

// apply returns the key after the commit of the outcome was accepted. entry is the commit's journal
// entry, and kept the length of the journal.
func (o *encodedOutcome) apply(k *Key, entry JournalEntry, kept protocol.JournalLength) *Key {
	next := k.copyForCommit()
	next.RecoveryPoint = o.point
	next.Revision++
	next.DeadLetter = nil
	next.UpdatedAt = entry.At
	next.LockedAt, next.LockedBy = time.Time{}, ""
	next.interim = o.interim
	next.ownAnswer = o.interim || o.point == Finished
	if r := o.replaces(k); r != nil {
		next.Response = nil
		if !r.IsZero() {
			next.Response = r
		}
	}
	next.hasInterim = o.interim
	next.undoable = k.undoable || o.undoable
	next.noReturn = k.noReturn || o.noReturn
	if o.adoptedBy != nil {
		next.Flow = o.adoptedBy.id
	}
	if o.notKept != nil {
		next.notKept, next.Response = o.notKept.Part, nil
	}
	next.answer()
	entry.Revision, entry.Stage = k.Revision, o.committedFrom(k.RecoveryPoint)
	entry.measure(k.Journal)
	next.SnoozedUntil = time.Time{}
	if o.snooze > 0 {
		next.SnoozedUntil = entry.At.Add(o.snooze)
	}
	switch {
	case o.merges(k):
		next.merged++
		next.Journal = append(slices.Clip(k.Journal[:len(k.Journal)-1]), entry)
	case len(k.Journal) == 0:
		next.Journal = append(next.Journal, entry)
	default:
		next.Journal = append(k.remembered(kept), entry)
	}
	if o.hasState {
		next.state, next.hasState = o.state, true
	}
	next.earlier = o.earlierAfter(k)
	next.original = next.view()
	return next
}

// A tombstone takes the place of a record that Delete has removed, for Config.Retention from then
// on; delete.lua writes it. It has only the field generation, which counts the deleted records of
// the key. A record that is made in its place keeps the field, so that its outbound keys differ
// from those of the deleted record.

// isTombstone reports whether the field, value, ... list of a record is that of a tombstone.
func isTombstone(pairs []string) bool { return len(pairs) == 2 && pairs[0] == fieldGeneration }

// decodeGeneration reads "generation delete", as the delete script writes it. The name of the
// delete is for the script alone.
func decodeGeneration(s string) (int64, error) {
	generation, _, _ := strings.Cut(s, " ")
	return parseCount(fieldGeneration, generation)
}
