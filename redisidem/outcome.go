package redisidem

import (
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem/effect"
)

// Outcome is the result of a stage: the recovery point at which the work continues, and the answer
// to the caller. Make one with [Advance], [Finish], [Interim], [Snooze], [Next], [Fail] or
// [NothingDone]. The zero Outcome finishes the key without a response, as in the design that this
// library follows.
type Outcome struct {
	// RecoveryPoint is the point at which the work continues. Empty means Finished.
	RecoveryPoint string
	// Response is stored with the key at any recovery point. Nil keeps an earlier response, except
	// an interim one, which is removed.
	Response *Response
	// Interim makes Response the caller's answer although the key is not finished.
	Interim bool

	state    any
	hasState bool
	added    []any // objects that are added to the state, in their order
	effects  []effect.Effect

	// Set by Next, Fail and NothingDone.
	next, failed, idle bool
	// again allows the recovery point that the stage started from.
	again bool
	// Set by Snooze and UntilCalled.
	snooze      time.Duration
	untilCalled bool

	// Set by Undo and Leave: whether the flow's committed work is undone or kept when the key is
	// ended by hand.
	undo  *Flow
	leave bool

	// adoptedBy is the version of the flow to which the outcome moves the key of an earlier one.
	adoptedBy *Flow
	// failedBy is why the flow fails, if that is not its stage's decision.
	failedBy error
	// refused is the error if the flow does not allow the stage's outcome.
	refused error
	// notKept is set if this outcome replaces one that could not be stored.
	notKept *NotKeptError
	// elsewhere means that the program has stored the outcome outside Redis, so that a later run of
	// the stage returns it again.
	elsewhere bool
}

// Advance returns an Outcome that moves the key to a recovery point.
func Advance(point string) Outcome { return Outcome{RecoveryPoint: point} }

// Finish returns an Outcome that finishes the key with a response.
func Finish(r Response) Outcome { return Outcome{RecoveryPoint: Finished, Response: &r} }

// Interim returns an Outcome that answers this caller and leaves the key unfinished. The work
// continues at point when the key is used again. The point may be the one at which the stage
// started, for instance while a customer has to confirm a payment.
//
// Callers that were waiting for the key (Config.Wait) are duplicates, and get the same answer as a
// replay. Calls that begin later continue the work. [Snooze] is an interim answer with a time.
func Interim(point string, r Response) Outcome {
	return Outcome{RecoveryPoint: point, Response: &r, Interim: true}
}

// Next returns an Outcome that moves the key to the next stage of its [Flow]. The last stage cannot
// return it.
func Next() Outcome { return Outcome{next: true} }

// Fail returns an Outcome that finishes the key with an answer that reports a permanent failure. In
// a [Flow] the committed stages are compensated first. Outside of a flow, Fail is the same as
// [Finish].
func Fail(r Response) Outcome {
	o := Finish(r)
	o.failed = true
	return o
}

// NothingDone returns an Outcome for a stage that had nothing to do. The lease is given back,
// nothing is stored, and the key stays as it is. The attempt does not count, unless the stage
// failed earlier in the same run of its [Flow].
func NothingDone() Outcome { return Outcome{idle: true} }

// Undo returns an outcome for [Scope.Update] or [Lease.Commit] that first undoes the committed
// stages of the key's flow. The key then finishes with the outcome's response. The argument is the
// flow that the key belongs to. If the stage at the key's recovery point has CompensateFailed, its
// Compensate runs first, whether or not an attempt at it has begun.
//
// The key moves to its first compensation, and a [Completer] or [Scope.WorkFlow] continues from
// there. A key without anything to undo is finished at once. A key that is already being
// compensated stays at its recovery point.
func (o Outcome) Undo(flow *Flow) Outcome {
	o.undo, o.leave = flow, false
	return o
}

// Leave returns an outcome for [Scope.Update] or [Lease.Commit] that keeps everything that the
// key's flow has committed: nothing is undone.
func (o Outcome) Leave() Outcome {
	o.undo, o.leave = nil, true
	return o
}

// extra names a part that this kind of outcome cannot have, because it would not be applied. It
// returns "" if the outcome has only permitted parts.
func (o Outcome) extra() string {
	switch idle := o.idle; {
	case (idle || o.next || o.failed && o.RecoveryPoint != Finished) && o.RecoveryPoint != "":
		return "Outcome.RecoveryPoint"
	case (idle || o.failed) && o.Interim:
		return "Outcome.Interim"
	case o.untilCalled && o.snooze == 0:
		return "Outcome.UntilCalled"
	case !idle:
		return ""
	case o.Response != nil:
		return "Outcome.Response"
	case o.hasState || len(o.added) > 0:
		return "Outcome.State"
	case len(o.effects) > 0:
		return "Outcome.Effects"
	case o.leave || o.undo != nil:
		return "Outcome.Undo"
	}
	return ""
}

// kind names the function that made the outcome, as far as checkExtra needs it.
func (o Outcome) kind() string {
	switch {
	case o.idle:
		return "NothingDone"
	case o.next:
		return "Next"
	case o.failed:
		return "Fail"
	}
	return "an outcome other than Snooze"
}

// checkExtra returns an error if a part of the outcome would not be applied.
func (o Outcome) checkExtra() error {
	if part := o.extra(); part != "" {
		return invalid(part, "cannot go with %s", o.kind())
	}
	return nil
}

// byHand turns an outcome that was not returned by a flow into one that can be committed to the
// key.
func (o Outcome) byHand(key *Key) (Outcome, error) {
	if err := o.checkExtra(); err != nil {
		return o, err
	}
	compensates := strings.HasPrefix(key.RecoveryPoint, compensating)
	ends := o.RecoveryPoint == "" && o.snooze == 0 || o.RecoveryPoint == Finished || compensates && !strings.HasPrefix(o.RecoveryPoint, compensating)
	switch {
	case o.undo != nil && !ends:
		return o, invalid("Outcome.Undo", "cannot go with the recovery point %q: it is for what ends a key", o.RecoveryPoint)
	case o.undo != nil && key.Flow != o.undo.id:
		return o, &FlowError{Stored: key.Flow, Wanted: o.undo.id}
	case o.undo != nil && compensates:
		o.RecoveryPoint, o.again, o.failed = key.RecoveryPoint, true, false
	case o.undo != nil:
		next, err := o.undo.undoFrom(o.undo.stages[key.RecoveryPoint], key, true)
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

// WithEffects returns the outcome with further writes to Redis. They are applied in their order, in
// the same atomic step as the rest of the outcome. All of them are applied or none, and only once
// even if the commit is repeated. Make their keys with [Stage.ShardKey]. An outcome has at most 64
// effects, and Config.MaxValueBytes bounds them together.
func (o Outcome) WithEffects(effects ...effect.Effect) Outcome {
	o.effects = append(o.effects[:len(o.effects):len(o.effects)], effects...)
	return o
}

// WithState returns the outcome with a value for later stages, which read it with [Stage.State], in
// another process as well. A []byte is stored as it is, any other value as JSON; nil, 0, false and
// "" are values too. The value replaces the state of an earlier stage; see [Outcome.AddState].
func (o Outcome) WithState(v any) Outcome {
	o.state, o.hasState, o.added = v, true, nil
	return o
}

// encodedOutcome is an Outcome as it is stored.
type encodedOutcome struct {
	point     string
	response  *Response
	header    []byte // the encoded header of the response
	interim   bool
	state     []byte
	hasState  bool
	effects   []effect.Effect
	notKept   *NotKeptError
	snooze    time.Duration // the stage runs again after it; 0 if it is not snoozed
	waits     bool          // calls before that get the interim answer
	undoable  bool          // the flow can undo the stage that returned it
	noReturn  bool          // the key is behind the flow's point of no return then
	worked    bool          // a callback returned it, so the work must not run again
	failedBy  error
	adoptedBy *Flow // the version that adopts the key of an earlier one; nil for other outcomes

	// The encoded values to store, and the response that replaces the key's. stored is nil if the
	// key's response stays.
	storedState, storedHeader, storedBody []byte
	stored                                *Response

	// The earlier state that is kept, or nil; why it is one that is lost, or nil; and whether those
	// of the key no longer count.
	keepsEarlier *earlierState
	losesEarlier error
	dropsEarlier bool
}

// keep encodes the outcome's values with the codec for storage with a key.
func (e *encodedOutcome) keep(v valueCodec, id identity, k *Key) (err error) {
	if e.notKept != nil {
		return nil // nothing is stored, and a codec that failed must not run again
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

// encode checks an outcome for a key and encodes its values.
func (o Outcome) encode(id identity, key *Key, limit int) (encodedOutcome, error) {
	from := key.RecoveryPoint
	e := encodedOutcome{
		point: o.RecoveryPoint, response: o.Response, interim: o.Interim, hasState: o.hasState || len(o.added) > 0, notKept: o.notKept,
		failedBy: o.failedBy, adoptedBy: o.adoptedBy, snooze: o.snooze, waits: o.snooze > 0 && !o.untilCalled,
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
	switch {
	case e.point != "":
	case o.snooze > 0:
		e.point = from
	default:
		e.point = Finished
	}
	if err := checkSize("Outcome.RecoveryPoint", len(e.point), limit); err != nil {
		return e, err
	}
	if e.interim && e.point == Finished {
		return e, invalid("Outcome.Interim", "cannot go with the recovery point %q", Finished)
	}
	if e.interim && e.response.IsZero() {
		return e, invalid("Outcome.Response", "must not be empty for an interim answer")
	}
	if !e.interim && !o.again && e.point == from {
		return e, ErrNoProgress
	}
	if e.response != nil {
		if err := e.response.validate(limit); err != nil {
			return e, err
		}
		e.header = encodeHeader(e.response.Header)
		if err := checkSize("Response.Header", len(e.header), limit); err != nil {
			return e, err
		}
		e.response = e.response.clone()
	}
	var err error
	if e.effects, err = checkEffects(o.effects, id, limit); err != nil {
		return e, err
	}
	if e.hasState {
		if e.state, err = o.stateAfter(key); err != nil {
			return e, &InvalidError{Field: "Outcome.State", Reason: "cannot be stored as JSON: " + err.Error(), Err: err}
		}
		if err := checkSize("Outcome.State", len(e.state), limit); err != nil {
			return e, err
		}
	}
	return e, nil
}
