package configfile

import (
	"errors"
	"fmt"
)

// FieldError is an error about one field of a configuration.
type FieldError struct {
	// Field is the path of the field, such as routes[0].match. That of the whole file is empty.
	Field string
	Err   error
}

func (e *FieldError) Error() string {
	if e.Field == "" {
		return e.Err.Error()
	}
	return e.Field + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *FieldError) Unwrap() error { return e.Err }

// Invalid returns a [FieldError] with a formatted text.
func Invalid(field, format string, args ...any) error {
	return &FieldError{Field: field, Err: fmt.Errorf(format, args...)}
}

// Within puts the path of the enclosing value before the field of an error. An error without a
// field becomes one about the enclosing value. It returns nil for nil.
func Within(parent string, err error) error {
	var inner *FieldError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &inner):
		return &FieldError{Field: parent + "." + inner.Field, Err: inner.Err}
	}
	return &FieldError{Field: parent, Err: err}
}
