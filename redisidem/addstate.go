package redisidem

import (
	"encoding/json"
	"fmt"
	"maps"
)

// AddState returns the outcome with fields for the state, in place of a whole new state. The value
// is one that JSON writes as an object, such as a struct or a map. Its fields replace those of the
// same name, and the other fields of the state stay as they are. So each stage can add its part,
// and later stages read them together:
//
//	return redisidem.Next().AddState(Charged{ChargeID: id}), nil
//
// The state that an earlier stage or WithState has set must be an object as well, or null.
// Otherwise the commit returns an error for an outcome that cannot be stored.
func (o Outcome) AddState(v any) Outcome {
	o.added = append(o.added[:len(o.added):len(o.added)], v)
	return o
}

// stateAfter returns the state of the key after the outcome, which sets it or adds to it.
func (o Outcome) stateAfter(key *Key) ([]byte, error) {
	state := key.state
	if o.hasState {
		var err error
		if state, err = marshalState(o.state); err != nil {
			return nil, err
		}
	}
	if len(o.added) == 0 {
		return state, nil
	}
	var fields map[string]json.RawMessage
	if len(state) > 0 {
		if err := json.Unmarshal(state, &fields); err != nil {
			return nil, fmt.Errorf("the state that is added to is not an object: %w", err)
		}
	}
	if fields == nil { // there was no state, or null
		fields = make(map[string]json.RawMessage)
	}
	for _, v := range o.added {
		text, err := toJSON(v)
		if err != nil {
			return nil, err
		}
		var more map[string]json.RawMessage
		if err := json.Unmarshal(text, &more); err != nil || more == nil {
			return nil, fmt.Errorf("%T is not an object, and so cannot be added to the state", v)
		}
		maps.Copy(fields, more)
	}
	return json.Marshal(fields)
}

// marshalState is marshal, except that nil is a value: null.
func marshalState(v any) ([]byte, error) {
	if v == nil {
		return []byte("null"), nil
	}
	return marshal(v)
}
