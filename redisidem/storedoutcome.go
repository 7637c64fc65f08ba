package redisidem

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/redisidem/effect"
)

// storedOutcome is an outcome outside Redis. Texts are bytes, because JSON would change those that
// are not UTF-8.
type storedOutcome struct {
	Version  int             `json:"version"`
	Point    []byte          `json:"point,omitempty"`
	Kind     string          `json:"kind,omitempty"`
	Interim  bool            `json:"interim,omitempty"`
	Leave    bool            `json:"leave,omitempty"`
	Response *storedResponse `json:"response,omitempty"`
	State    *[]byte         `json:"state,omitempty"`
	Added    [][]byte        `json:"added,omitempty"` // to the state, as JSON
	Effects  []effect.Effect `json:"effects,omitempty"`

	Snooze      time.Duration `json:"snooze,omitempty"`
	UntilCalled bool          `json:"until_called,omitempty"`
}

type storedResponse struct {
	Code   int    `json:"code,omitempty"`
	Header []byte `json:"header,omitempty"`
	Body   []byte `json:"body,omitempty"`
}

const (
	storedVersion = 1
	storedNext    = "next"
	storedFail    = "fail"
)

// storedParts is how many times MaxValueBytes an encoded outcome can have: recovery point, headers,
// body, state and effects, each a third longer in JSON.
const storedParts = 8

// EncodeOutcome returns the outcome as bytes, for a store of the program's own. Package
// contrib/sqlidem keeps it in the SQL transaction that did the stage's work. [Stage.DecodeOutcome]
// reads the bytes, in any later run of the stage for this key, also after Redis has lost the
// record. They go through Config.Codec, bound to the key and the recovery point.
//
// EncodeOutcome also returns the outcome with its state marshalled. Return this one from the stage:
// it is the same, byte for byte, that DecodeOutcome returns. Fields of [Outcome.AddState] are
// stored as such, and added to the state that the key has when the outcome is committed.
//
// It checks the outcome as the commit does, so that work whose outcome Redis would refuse can be
// rolled back. Data in Redis it cannot check: if Redis refuses an effect of the outcome, the stage
// ends with that error, and not with ErrNotKept, because its next run returns the outcome again.
//
// The errors are those of [Scope.WorkStage] for an outcome that cannot be stored:
// [ErrInvalid], [ErrNoProgress], [ErrUndecided] and others. [Outcome.Undo] is ErrInvalid as well.
// The bytes of [NothingDone] are nil, because there is nothing to store. EncodeOutcome sends
// nothing to Redis.
func (st *Stage) EncodeOutcome(o Outcome) ([]byte, Outcome, error) {
	switch {
	case o.idle:
		return nil, o, o.checkExtra()
	case o.undo != nil:
		return nil, o, invalid("Outcome.Undo", "is for Scope.Update and Lease.Commit, and cannot be stored outside Redis")
	}
	e, err := st.check(o)
	if err != nil {
		return nil, o, err
	}
	stored := storedOutcome{
		Version: storedVersion, Point: []byte(o.RecoveryPoint), Interim: o.Interim, Leave: o.leave, Effects: e.effects,
		Snooze: o.snooze, UntilCalled: o.untilCalled,
	}
	switch {
	case o.next:
		stored.Kind = storedNext
	case o.failed:
		stored.Kind = storedFail
	}
	if r := e.response; r != nil {
		stored.Response = &storedResponse{Code: r.Code, Header: e.header, Body: r.Body}
	}
	if stored.State, stored.Added, err = o.storedState(); err != nil {
		return nil, o, &InvalidError{Field: "Outcome.State", Reason: "cannot be stored as JSON: " + err.Error(), Err: err}
	}
	o = o.withStored(stored.State, stored.Added)
	plain, err := json.Marshal(stored)
	if err != nil {
		return nil, o, &InvalidError{Field: "Outcome", Reason: "cannot be encoded: " + err.Error(), Err: err}
	}
	if limit := st.outcomeCodec().limit; len(plain) > limit {
		return nil, o, invalid("Outcome", "is %d bytes long with all its parts, more than can be decoded (%d)", len(plain), limit)
	}
	b, err := st.outcomeCodec().encode(st.lease.id, st.key.fingerprint, st.outcomeField(), 0, plain)
	return b, o, err
}

// DecodeOutcome returns the outcome that [Stage.EncodeOutcome] encoded in this or an earlier run of
// the stage for this key. Bytes of a later version of the library or of another [Codec] are
// [ErrDamaged]. With a codec that authenticates, so are those of another key or recovery point.
func (st *Stage) DecodeOutcome(b []byte) (Outcome, error) {
	plain, err := st.outcomeCodec().decode(st.lease.id, st.key.fingerprint, st.outcomeField(), 0, b)
	if err != nil {
		return Outcome{}, err
	}
	var stored storedOutcome
	if err := json.Unmarshal(plain, &stored); err != nil {
		return Outcome{}, damaged("stored outcome: %v", err)
	}
	o := Outcome{
		RecoveryPoint: string(stored.Point), Interim: stored.Interim, leave: stored.Leave, effects: stored.Effects,
		snooze: stored.Snooze, untilCalled: stored.UntilCalled,
	}
	switch {
	case stored.Version != storedVersion:
		return Outcome{}, damaged("stored outcome has version %d, not %d", stored.Version, storedVersion)
	case stored.Kind == storedNext:
		o.next = true
	case stored.Kind == storedFail:
		o.failed = true
	case stored.Kind != "":
		return Outcome{}, damaged("stored outcome is of an unknown kind, %q", stored.Kind)
	}
	if r := stored.Response; r != nil {
		header, err := decodeHeader(string(r.Header))
		if err != nil {
			return Outcome{}, damaged("stored outcome: %v", err)
		}
		o.Response = &Response{Code: r.Code, Header: header, Body: r.Body}
	}
	return o.withStored(stored.State, stored.Added), nil
}

// storedState returns the state that the outcome sets, nil for none, and what it adds to the state.
func (o Outcome) storedState() (state *[]byte, added [][]byte, err error) {
	if o.hasState {
		b, err := marshalState(o.state)
		if err != nil {
			return nil, nil, err
		}
		b = append([]byte{}, b...) // nil would be no state in JSON
		state = &b
	}
	for _, v := range o.added {
		b, err := toJSON(v)
		if err != nil {
			return nil, nil, err
		}
		added = append(added, b)
	}
	return state, added, nil
}

// withStored returns the outcome with what storedState has returned.
func (o Outcome) withStored(state *[]byte, added [][]byte) Outcome {
	if state != nil {
		o = o.WithState(*state)
	}
	o.added, o.elsewhere = nil, true
	for _, b := range added {
		o = o.AddState(json.RawMessage(b))
	}
	return o
}

// check encodes an outcome as the commit of this stage would.
func (st *Stage) check(o Outcome) (encodedOutcome, error) {
	l := st.lease
	o, err := st.resolve(o)
	if err != nil {
		return encodedOutcome{}, err
	}
	return o.encode(l.id, st.key, l.scope.service.cfg.MaxValueBytes)
}

// resolve turns an outcome into the one that is committed, as the flow of the stage does.
func (st *Stage) resolve(o Outcome) (Outcome, error) {
	flow := st.lease.flow
	if flow == nil {
		return o.byHand(st.key)
	}
	stage := flow.stages[st.key.RecoveryPoint]
	if stage == nil {
		return o, fmt.Errorf("%w: %q", ErrUnknownRecoveryPoint, st.key.RecoveryPoint)
	}
	return flow.resolve(stage, st.key, o, false)
}

// outcomeCodec is the codec of the service with the bound of a whole outcome.
func (st *Stage) outcomeCodec() valueCodec {
	v := st.lease.scope.service.valueCodec
	v.limit = storedParts*v.limit + 1<<20
	return v
}

// outcomeField is the name of the encoded outcome in the codec's associated data. It has the key
// and the recovery point, so that the outcomes of two stages cannot be exchanged. The revision may
// be another one when Redis has lost the record.
func (st *Stage) outcomeField() string {
	return "outcome " + st.CommittedKey(JournalEntry{Stage: st.key.RecoveryPoint}, "")
}
