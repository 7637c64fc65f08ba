package redisidem

// Outcome is what a stage's callback returns: where the work continues, and what to tell the caller. Make one with
// [Advance], [Finish] or [Interim]. The zero Outcome finishes the key without a response, as in the design this library
// follows.
type Outcome struct {
	// RecoveryPoint is where the work continues. Empty means Finished.
	RecoveryPoint string
	// Response is stored with the key, whatever the recovery point. Nil leaves an earlier one as it is, but drops an
	// interim one.
	Response *Response
	// Interim makes the response this caller's answer although the key is not finished.
	Interim bool

	state    any
	hasState bool
}

// Advance moves the key on to a recovery point.
func Advance(point string) Outcome { return Outcome{RecoveryPoint: point} }

// Finish ends the work on the key with its response.
func Finish(r Response) Outcome { return Outcome{RecoveryPoint: Finished, Response: &r} }

// Interim answers this caller without finishing the key: the work continues at point when the key is used again. The
// point may be the one the stage started from, as when a customer must confirm a payment first.
func Interim(point string, r Response) Outcome {
	return Outcome{RecoveryPoint: point, Response: &r, Interim: true}
}

// WithState attaches a value for later stages, also in another process after a crash: they read it with [Stage.State].
// A []byte is stored as it is, anything else as JSON; nil, 0, false and "" are values like any other. It replaces the
// state that an earlier stage left.
func (o Outcome) WithState(v any) Outcome {
	o.state, o.hasState = v, true
	return o
}

// encodedOutcome is an Outcome as it is stored.
type encodedOutcome struct {
	point    string
	response *Response
	interim  bool
	state    []byte
	hasState bool
}

func (o Outcome) encode(from string, limit int) (encodedOutcome, error) {
	e := encodedOutcome{point: o.RecoveryPoint, response: o.Response, interim: o.Interim, hasState: o.hasState}
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
	if !e.interim && e.point == from {
		return e, ErrNoProgress
	}
	if e.response != nil {
		if err := e.response.validate(limit); err != nil {
			return e, err
		}
		e.response = e.response.clone()
	}
	if o.hasState {
		var err error
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
