package redisidem

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"sync"
)

// resultErrors caches resultError by type.
var resultErrors sync.Map // reflect.Type: error

// resultError returns why values of the type cannot be stored, or nil if they can.
func resultError(t reflect.Type) error {
	known, ok := resultErrors.Load(t)
	if !ok {
		var err error
		if why := neverJSON(t); why != nil {
			err = &InvalidError{Field: "result", Reason: "of type " + t.String() + " cannot be stored as JSON: " + why.Error(), Err: why}
		} else if why := loses(t, make(map[reflect.Type]bool)); why != nil {
			err = &InvalidError{Field: "result", Reason: "of type " + t.String() + " would lose a part in JSON: " + why.Error(), Err: why}
		}
		known, _ = resultErrors.LoadOrStore(t, err)
	}
	err, _ := known.(error)
	return err
}

// storeResult returns the response that stores a result. It makes the result what a replay decodes,
// so that the first call returns the same, and takes the status from that.
func storeResult[T any](result *T) Response {
	r := JSON(http.StatusOK, *result)
	if r.err != nil {
		return r
	}
	var again T
	err := json.Unmarshal(r.Body, &again)
	if err == nil {
		r.Code, err = statusOf(&again)
	}
	if err != nil {
		r.err = fmt.Errorf("is JSON from which the result cannot be read again: %w", err)
	}
	*result = again
	return r
}

// statusOf returns the status with which a result is stored. A panic of its method must not end the
// callback, whose work is done.
func statusOf[T any](result *T) (status int, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("StatusCode panicked: %v", v)
		}
	}()
	coder, ok := any(*result).(interface{ StatusCode() int })
	if v := reflect.ValueOf(coder); ok && v.Kind() == reflect.Pointer && v.IsNil() {
		return http.StatusOK, nil // its method may need a value
	}
	if !ok {
		coder, ok = any(result).(interface{ StatusCode() int })
	}
	if ok {
		if code := coder.StatusCode(); code != 0 {
			return code, nil
		}
	}
	return http.StatusOK, nil
}

// decodeResult returns the result that a response holds. It returns ErrOtherType and the zero value
// if the response is not that of a result.
func decodeResult[T any](r *Response) (T, error) {
	var result, none T
	if r.IsZero() {
		return none, fmt.Errorf("%w: the key was finished without a result", ErrOtherType)
	}
	if err := json.Unmarshal(r.Body, &result); err != nil {
		return none, fmt.Errorf("%w: result: %w", ErrOtherType, err)
	}
	status, err := statusOf(&result)
	if err != nil {
		return none, fmt.Errorf("%w: result: %w", ErrOtherType, err)
	}
	if status != r.Code {
		return none, fmt.Errorf("%w: the key was finished with the status %d, and the result would have %d", ErrOtherType, r.Code, status)
	}
	return result, nil
}
