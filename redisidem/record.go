package redisidem

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// The fields of a record. The first block is the record of the design this library follows; state and all below are
// ours. All are listed in docs/design.md with what each is for.
const (
	fieldValue     = "idempotency_key"
	fieldMethod    = "request_method"
	fieldPath      = "request_path"
	fieldParams    = "request_params"
	fieldPoint     = "recovery_point"
	fieldCode      = "response_code"
	fieldBody      = "response_body"
	fieldCreatedAt = "created_at"
	fieldLockedAt  = "locked_at"

	fieldVersion     = "v"
	fieldScope       = "scope"
	fieldFingerprint = "fingerprint"
	fieldHeaders     = "response_headers"
	fieldState       = "state"
	fieldAttempts    = "attempts"
	fieldUpdatedAt   = "updated_at"
	fieldRevision    = "revision"
	fieldToken       = "token"
	fieldInterim     = "interim"
	journalPrefix    = "j:"
)

// recordVersion is the schema version written into each record. Readers accept it and the one before it.
const recordVersion = "1"

// journalLength is how many revisions a record's journal remembers. A commit that is repeated after so many later ones
// can no longer be told from a fenced one, and is reported as unknown.
const journalLength = 64

// newRecord returns the field, value, ... of a record to create. The scripts add what only the server knows.
func newRecord(id identity, r encodedRequest) []any {
	fields := []any{
		fieldVersion, recordVersion, fieldScope, id.scope, fieldValue, id.value,
		fieldMethod, r.method, fieldPath, r.path, fieldFingerprint, r.fingerprint,
		fieldPoint, Started, fieldRevision, "0",
	}
	if r.params != nil {
		fields = append(fields, fieldParams, r.params)
	}
	return fields
}

// newKey returns the key of a record just created.
func newKey(id identity, r encodedRequest, at string) (*Key, error) {
	created, err := parseTime(fieldCreatedAt, at)
	if err != nil {
		return nil, err
	}
	return &Key{
		Value: id.value, Scope: id.scope, Method: r.method, Path: r.path, Params: r.params,
		RecoveryPoint: Started, CreatedAt: created, id: id, fingerprint: r.fingerprint,
	}, nil
}

// decodeRecord makes a Key of a record's field, value, ... list. Redis is not trusted on the way back: whatever cannot
// have been written by this library is damage, and so is the record of another key.
func decodeRecord(id identity, pairs []string) (*Key, error) {
	k := &Key{id: id, Revision: -1}
	var r Response
	var err error
	var version, token, locked string
	for i := 0; i+1 < len(pairs) && err == nil; i += 2 {
		v := pairs[i+1]
		switch pairs[i] {
		case fieldVersion:
			version = v
		case fieldScope:
			k.Scope = v
		case fieldValue:
			k.Value = v
		case fieldMethod:
			k.Method = v
		case fieldPath:
			k.Path = v
		case fieldParams:
			k.Params = []byte(v)
		case fieldFingerprint:
			k.fingerprint = v
		case fieldPoint:
			k.RecoveryPoint = v
		case fieldRevision:
			k.Revision, err = parseCount(fieldRevision, v)
		case fieldAttempts:
			var n int64
			n, err = parseCount(fieldAttempts, v)
			k.Attempts = int(n)
		case fieldCode:
			var n int64
			n, err = parseCount(fieldCode, v)
			r.Code = int(n)
		case fieldHeaders:
			if r.Header, err = decodeHeader(v); err != nil {
				err = damaged("%v", err)
			}
		case fieldBody:
			if v != "" {
				r.Body = []byte(v)
			}
		case fieldInterim:
			k.hasInterim = v != ""
		case fieldState:
			k.state, k.hasState = []byte(v), true
		case fieldCreatedAt:
			k.CreatedAt, err = parseTime(fieldCreatedAt, v)
		case fieldUpdatedAt:
			k.UpdatedAt, err = parseTime(fieldUpdatedAt, v)
		case fieldLockedAt:
			locked = v
		case fieldToken:
			token = v
		default:
			if n, ok := strings.CutPrefix(pairs[i], journalPrefix); ok {
				var e JournalEntry
				e, err = decodeJournalEntry(n, v)
				k.Journal = append(k.Journal, e)
			}
		}
	}
	if err == nil && token != "" {
		k.LockedAt, err = parseTime(fieldLockedAt, locked)
	}
	switch {
	case err != nil:
		return nil, err
	case version != recordVersion:
		return nil, damaged("unknown schema version %q", version)
	case k.Scope != id.scope || k.Value != id.value:
		return nil, damaged("the record is another key's")
	case k.RecoveryPoint == "":
		return nil, damaged("%s is missing", fieldPoint)
	case k.Revision < 0:
		return nil, damaged("%s is missing", fieldRevision)
	case k.fingerprint == "":
		return nil, damaged("%s is missing", fieldFingerprint)
	case k.CreatedAt.IsZero():
		return nil, damaged("%s is missing", fieldCreatedAt)
	case r.Code != 0 && (r.Code < 100 || r.Code > 599):
		return nil, damaged("%s is %d", fieldCode, r.Code)
	}
	if !r.empty() {
		k.Response = &r
	}
	slices.SortFunc(k.Journal, func(a, b JournalEntry) int { return int(a.Revision - b.Revision) })
	return k, nil
}

// decodeJournalEntry reads "token fence attempt time stage", as the commit script writes it.
func decodeJournalEntry(revision, s string) (JournalEntry, error) {
	var e JournalEntry
	parts := strings.SplitN(s, " ", 5)
	if len(parts) != 5 {
		return e, damaged("journal entry %s has %d parts", revision, len(parts))
	}
	var errs [4]error
	var attempt int64
	e.Revision, errs[0] = parseCount(journalPrefix, revision)
	e.Fence, errs[1] = parseCount(journalPrefix+revision, parts[1])
	attempt, errs[2] = parseCount(journalPrefix+revision, parts[2])
	e.At, errs[3] = parseTime(journalPrefix+revision, parts[3])
	e.Attempt, e.Stage = int(attempt), parts[4]
	for _, err := range errs {
		if err != nil {
			return e, err
		}
	}
	return e, nil
}

func parseCount(field, s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, damaged("%s is not a number", field)
	}
	return n, nil
}

// parseTime reads the server's time in microseconds.
func parseTime(field, s string) (time.Time, error) {
	n, err := parseCount(field, s)
	return time.UnixMicro(n).UTC(), err
}

// fields returns the field, value, ... that a commit of the outcome to the key writes.
func (o encodedOutcome) fields(k *Key) []any {
	f := []any{fieldPoint, o.point}
	if r := o.replaces(k); r != nil {
		f = append(f, fieldCode, strconv.Itoa(r.Code), fieldHeaders, encodeHeader(r.Header), fieldBody, r.Body)
	}
	switch {
	case o.interim:
		f = append(f, fieldInterim, "1")
	case k.hasInterim:
		f = append(f, fieldInterim, "")
	}
	if o.hasState {
		f = append(f, fieldState, o.state)
	}
	return f
}

// replaces returns the response to write over the key's, or nil to leave that alone. An interim answer was for one
// caller at one moment: what comes after it never leaves it standing as the final one.
func (o encodedOutcome) replaces(k *Key) *Response {
	if o.response == nil && k.hasInterim {
		return &Response{}
	}
	return o.response
}

// apply returns the key as it stands once a commit of the outcome was accepted, with the entry that the journal has of it.
func (o encodedOutcome) apply(k *Key, entry JournalEntry) *Key {
	next := *k
	next.RecoveryPoint = o.point
	next.Revision++
	next.UpdatedAt = entry.At
	next.LockedAt = time.Time{}
	next.interim = o.interim
	next.own = o.point == Finished
	if r := o.replaces(k); r != nil {
		next.Response = nil
		if !r.empty() {
			next.Response = r
		}
	}
	next.hasInterim = o.interim
	entry.Revision, entry.Stage = k.Revision, k.RecoveryPoint
	next.Journal = append(slices.Clip(k.Journal), entry)
	if o.hasState {
		next.state, next.hasState = o.state, true
	}
	return &next
}
