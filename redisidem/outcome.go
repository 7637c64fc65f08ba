package redisidem

import (
	"errors"
	"strconv"
	"strings"

	"github.com/redisidem/redisidem/redisidem/effect"
)

// Outcome is what a stage's callback returns: where the work continues, and what to tell the
// caller. Make one with [Advance], [Finish] or [Interim]. The zero Outcome finishes the key without
// a response, as in the design this library follows.
type Outcome struct {
	// RecoveryPoint is where the work continues. Empty means Finished.
	RecoveryPoint string
	// Response is stored with the key, whatever the recovery point. Nil leaves an earlier one as it
	// is, but drops an interim one.
	Response *Response
	// Interim makes the response this caller's answer although the key is not finished.
	Interim bool

	state    any
	hasState bool
	effects  []effect.Effect

	// What a flow makes of them: see Next, Fail and NothingDone.
	next, failed, idle bool
	// again allows the recovery point that the stage started from.
	again bool

	// What a key that is ended by hand is to do with what its flow has committed: see Undo and
	// Leave.
	undo  *Flow
	leave bool

	// refused is why a flow's stage ended with an outcome that the flow does not allow.
	refused error
	// notKept is the reason if this outcome takes the place of one that could not be stored.
	notKept *NotKeptError
}

// Advance moves the key on to a recovery point.
func Advance(point string) Outcome { return Outcome{RecoveryPoint: point} }

// Finish ends the work on the key with its response.
func Finish(r Response) Outcome { return Outcome{RecoveryPoint: Finished, Response: &r} }

// Interim answers this caller without finishing the key: the work continues at point when the key
// is used again. The point may be the one the stage started from, as when a customer must confirm a
// payment first. Callers that were waiting for the key meanwhile (Config.Wait) are duplicates, and
// get the same answer, as a replay; calls that begin after it continue the work.
func Interim(point string, r Response) Outcome {
	return Outcome{RecoveryPoint: point, Response: &r, Interim: true}
}

// Next moves the key on to the next stage of its [Flow].
func Next() Outcome { return Outcome{next: true} }

// Fail ends the work on the key for good with an answer that says so. In a [Flow] the compensations
// of the stages that were committed run first. Outside of one it is Finish.
func Fail(r Response) Outcome {
	o := Finish(r)
	o.failed = true
	return o
}

// NothingDone says that there was nothing to do: the lease is given back, nothing is stored, the
// attempt does not count, and the key stays as it is. The attempt counts if the stage failed before
// in the same run of its [Flow].
func NothingDone() Outcome { return Outcome{idle: true} }

// Undo says of an outcome by hand, one of [Scope.Update] or [Lease.Commit], that the flow is to
// undo what was committed before the key is finished with the outcome's response. The key moves on
// to its first compensation, and a [Completer] or [Scope.WorkFlow] carries it on from there. A key
// without anything to undo is finished at once, and one that is being compensated stays where it
// is. The flow is the one that the key belongs to.
func (o Outcome) Undo(flow *Flow) Outcome {
	o.undo, o.leave = flow, false
	return o
}

// Leave says of an outcome by hand, one of [Scope.Update] or [Lease.Commit], that what the key's
// flow has committed stays as it is: nothing is undone.
func (o Outcome) Leave() Outcome {
	o.undo, o.leave = nil, true
	return o
}

// withoutResult is what is committed in place of an outcome that cannot be stored, as err says: the
// key is finished, or what its flow has committed is undone before, if the outcome was Fail.
func (o Outcome) withoutResult(err error) Outcome {
	part := "the outcome"
	var in *InvalidError
	var refused *EffectError
	switch {
	case errors.As(err, &in):
		part = in.Field
	case errors.As(err, &refused):
		part = "Outcome.Effects[" + strconv.Itoa(refused.Index) + "]"
	}
	point := Finished
	if strings.HasPrefix(o.RecoveryPoint, compensating) {
		point = o.RecoveryPoint
	}
	return Outcome{RecoveryPoint: point, leave: true, notKept: &NotKeptError{Part: part, Err: err}}
}

// extra names a part of an outcome that it cannot have, since it would not be applied. It returns
// "" if the outcome has no such part.
func (o Outcome) extra() string {
	switch idle := o.idle; {
	case (idle || o.next || o.failed && o.RecoveryPoint != Finished) && o.RecoveryPoint != "":
		return "Outcome.RecoveryPoint"
	case (idle || o.failed) && o.Interim:
		return "Outcome.Interim"
	case !idle:
		return ""
	case o.Response != nil:
		return "Outcome.Response"
	case o.hasState:
		return "Outcome.State"
	case len(o.effects) > 0:
		return "Outcome.Effects"
	case o.leave || o.undo != nil:
		return "Outcome.Undo"
	}
	return ""
}

// kind names what an outcome was made with.
func (o Outcome) kind() string {
	switch {
	case o.idle:
		return "NothingDone"
	case o.next:
		return "Next"
	}
	return "Fail"
}

// checkExtra reports a part of the outcome that would not be applied.
func (o Outcome) checkExtra() error {
	if part := o.extra(); part != "" {
		return invalid(part, "cannot go with %s", o.kind())
	}
	return nil
}

// byHand turns an outcome that no flow has returned into one that can be committed to the key.
func (o Outcome) byHand(key *Key) (Outcome, error) {
	if err := o.checkExtra(); err != nil {
		return o, err
	}
	compensates := strings.HasPrefix(key.RecoveryPoint, compensating)
	ends := o.RecoveryPoint == "" || o.RecoveryPoint == Finished || compensates && !strings.HasPrefix(o.RecoveryPoint, compensating)
	switch {
	case o.undo != nil && !ends:
		return o, invalid("Outcome.Undo", "cannot go with the recovery point %q: it is for what ends a key", o.RecoveryPoint)
	case o.undo != nil && key.Flow != o.undo.id:
		return o, &FlowError{Stored: key.Flow, Wanted: o.undo.id}
	case o.undo != nil && compensates:
		o.RecoveryPoint, o.again, o.failed = key.RecoveryPoint, true, false
	case o.undo != nil:
		next, err := o.undo.undo(key, len(key.Journal)-1)
		if err != nil {
			return o, err
		}
		o.RecoveryPoint, o.failed = next, false
	case ends && !o.leave && !o.idle && !o.next && (compensates || key.undoable):
		return o, &InvalidError{
			Field: "Outcome", Reason: "ends a key of " + key.Flow + " that has something to undo: say Undo or Leave", Err: ErrUndecided,
		}
	}
	return o, nil
}

// WithEffects attaches writes to Redis that are applied in the same atomic step as the rest of the
// outcome: both or neither, and once however often the commit is repeated. Their keys are made with
// [Stage.ShardKey]. They are applied in their order, with at most 64 to an outcome, and all of them
// together are bounded by Config.MaxValueBytes.
func (o Outcome) WithEffects(effects ...effect.Effect) Outcome {
	o.effects = append(o.effects[:len(o.effects):len(o.effects)], effects...)
	return o
}

// WithState attaches a value for later stages, also in another process after a crash: they read it
// with [Stage.State]. A []byte is stored as it is, anything else as JSON; nil, 0, false and "" are
// values like any other. It replaces the state that an earlier stage left.
func (o Outcome) WithState(v any) Outcome {
	o.state, o.hasState = v, true
	return o
}

// encodedOutcome is an Outcome as it is stored.
type encodedOutcome struct {
	point    string
	response *Response
	header   []byte // the response's header fields
	interim  bool
	state    []byte
	hasState bool
	effects  []effect.Effect
	notKept  *NotKeptError
	undoable bool // the stage behind it can be undone
	worked   bool // a callback has returned it, whose work must not run again

	// As they are stored: the state, and the response to write over the key's, which is nil to
	// leave that alone.
	storedState, storedHeader, storedBody []byte
	stored                                *Response
}

// withoutResult is [Outcome.withoutResult] of the outcome that was encoded.
func (e encodedOutcome) withoutResult(err error) Outcome {
	return Outcome{RecoveryPoint: e.point}.withoutResult(err)
}

// keep makes the outcome ready to be stored with a key.
func (e *encodedOutcome) keep(v valueCodec, id identity, k *Key) (err error) {
	if e.notKept != nil {
		return nil // nothing of it is, and a codec that failed is not asked again
	}
	if e.stored = e.replaces(k); e.stored != nil {
		if len(e.header) > 0 || k.Response != nil {
			if e.storedHeader, err = v.encode(id, k.fingerprint, fieldHeaders, e.stored.Code, e.header); err != nil {
				return err
			}
		}
		if e.storedBody, err = v.encode(id, k.fingerprint, fieldBody, e.stored.Code, e.stored.Body); err != nil {
			return err
		}
	}
	if e.hasState {
		e.storedState, err = v.encode(id, k.fingerprint, fieldState, 0, e.state)
	}
	return err
}

func (o Outcome) encode(id identity, from string, limit int) (encodedOutcome, error) {
	e := encodedOutcome{
		point: o.RecoveryPoint, response: o.Response, interim: o.Interim, hasState: o.hasState, notKept: o.notKept,
	}
	if o.refused != nil {
		return e, o.refused
	}
	if err := o.checkExtra(); err != nil {
		return e, err
	}
	switch {
	case o.idle:
		return e, invalid("Outcome", "is NothingDone, which is for callbacks: a lease is given back with Abandon")
	case o.next:
		return e, invalid("Outcome", "is Next, which is for the stages of a flow: name the recovery point")
	}
	if e.point == "" {
		e.point = Finished
	}
	if len(e.point) > limit {
		return e, invalid("Outcome.RecoveryPoint", "is %d bytes long, more than MaxValueBytes (%d)", len(e.point), limit)
	}
	if e.interim && e.point == Finished {
		return e, invalid("Outcome.Interim", "cannot go with the recovery point %q", Finished)
	}
	if e.interim && e.response.empty() {
		return e, invalid("Outcome.Response", "must not be empty for an interim answer")
	}
	if !e.interim && !o.again && e.point == from {
		return e, ErrNoProgress
	}
	if e.response != nil {
		if err := e.response.validate(limit); err != nil {
			return e, err
		}
		if e.header = encodeHeader(e.response.Header); len(e.header) > limit {
			return e, invalid("Response.Header", "is %d bytes long, more than MaxValueBytes (%d)", len(e.header), limit)
		}
		e.response = e.response.clone()
	}
	var err error
	if e.effects, err = checkEffects(o.effects, id, limit); err != nil {
		return e, err
	}
	if o.hasState {
		if e.state, err = marshalState(o.state); err != nil {
			return e, &InvalidError{Field: "Outcome.State", Reason: "cannot be stored as JSON: " + err.Error(), Err: err}
		}
		if len(e.state) > limit {
			return e, invalid("Outcome.State", "is %d bytes long, more than MaxValueBytes (%d)", len(e.state), limit)
		}
	}
	return e, nil
}

// marshalState differs from marshal in that nil is a value, too.
func marshalState(v any) ([]byte, error) {
	if v == nil {
		return []byte("null"), nil
	}
	return marshal(v)
}
