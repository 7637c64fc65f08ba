package protocol

import (
	"strconv"
	"time"
)

// Outcome is the result that a commit or an update writes into a record.
type Outcome struct {
	RecoveryPoint string
	// Response replaces the stored response if HasResponse.
	Response    Response
	HasResponse bool
	// Interim marks the stored response as an interim one, or removes the mark.
	Interim Mark
	// Snooze is how long after this commit a stage with an interim answer is to run again; 0 if the
	// answer has no such time.
	Snooze time.Duration
	// Merged counts the commits whose journal entries later ones have replaced; 0 leaves the number
	// as it is.
	Merged int64
	// State is written if HasState.
	State    []byte
	HasState bool
	// NotKept is the part of a result that could not be stored; "" if everything was stored.
	NotKept string
	// Undoable marks a key with a committed stage that its flow can undo.
	Undoable bool
	// Flow is the version of its flow that the key belongs to from now on; "" leaves it.
	Flow string
	// NoReturn marks a key that is behind its flow's point of no return.
	NoReturn bool
	// EarlierStates are written as they are.
	EarlierStates []EarlierState
}

// EarlierState is the field of a state that the key had before a commit.
type EarlierState struct {
	Field  string
	Stored string // "" if the state no longer counts
}

// Response is a response as it is stored.
type Response struct {
	Code      int
	Body      []byte
	Header    []byte
	HasHeader bool // false leaves the stored header as it is
}

// Mark is a change of a mark in a record.
type Mark int

// The marks.
const (
	MarkLeave Mark = iota
	MarkSet
	MarkRemove
)

// Fields returns the fields that the outcome writes, as field, value, ...
func (o *Outcome) Fields() []any {
	var c Call // without room for texts, so that it gets no pointers
	o.add(&c)
	return c.words
}

// add adds the fields that the outcome writes to a call, as field, value, ...
func (o *Outcome) add(c *Call) {
	c.add("recovery_point")
	c.addTexts(o.RecoveryPoint)
	if r := &o.Response; o.HasResponse {
		c.add("response_code", r.Code, "response_body", r.Body)
	}
	o.addMore(c)
}

// addResponse adds the code and the body of the response to a commit; the code is "" without one.
func (o *Outcome) addResponse(c *Call) {
	if !o.HasResponse {
		c.addTexts("", "")
		return
	}
	c.addNumber(int64(o.Response.Code))
	c.add(o.Response.Body)
}

// hasMore reports whether the outcome writes fields besides the recovery point and the response's
// code and body.
func (o *Outcome) hasMore() bool {
	return o.HasResponse && o.Response.HasHeader || o.Interim != MarkLeave || o.HasState || o.NotKept != "" || o.Undoable || o.NoReturn || o.Merged > 0 || o.Flow != "" || len(o.EarlierStates) > 0
}

// addMore adds those fields, as field, value, ...
func (o *Outcome) addMore(c *Call) {
	if o.HasResponse && o.Response.HasHeader {
		c.add("response_headers", o.Response.Header)
	}
	switch o.Interim {
	case MarkSet:
		mark := "1"
		if o.Snooze > 0 {
			mark += " " + strconv.FormatInt(o.Snooze.Milliseconds(), 10)
		}
		c.add("interim", mark)
	case MarkRemove:
		c.add("interim", "")
	case MarkLeave:
	}
	if o.HasState {
		c.add("state", o.State)
	}
	if o.NotKept != "" {
		c.add("not_kept")
		c.addTexts(o.NotKept)
	}
	if o.Undoable {
		c.add("undoable", "1")
	}
	if o.NoReturn {
		c.add("no_return", "1")
	}
	if o.Flow != "" {
		c.add("flow")
		c.addTexts(o.Flow)
	}
	if o.Merged > 0 {
		c.add("merged", o.Merged)
	}
	for i := range o.EarlierStates {
		c.addTexts(o.EarlierStates[i].Field, o.EarlierStates[i].Stored)
	}
}
