package protocol

// Outcome is the result that a commit or an update writes into a record.
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
	// NotKept is the part of a result that could not be stored; "" if everything was stored.
	NotKept string
	// Undoable marks a key with a committed stage that its flow can undo.
	Undoable bool
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

// outcomeWords is how many words an outcome adds at most.
const outcomeWords = 16

// AppendFields appends the fields that the outcome writes, as field, value, ...
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
