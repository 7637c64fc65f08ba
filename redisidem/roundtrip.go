package redisidem

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
)

// loses returns which part of a type's values JSON would not bring back, or nil if it brings back
// all parts. A field with the tag json:"-" is left out on purpose. The types in seen are not looked
// at again.
func loses(t reflect.Type, seen map[reflect.Type]bool) error {
	if seen[t] {
		return nil
	}
	seen[t] = true
	if pointer := reflect.PointerTo(t); marshals(t) || marshals(pointer) {
		if unmarshals(t) || unmarshals(pointer) {
			return nil
		}
		return fmt.Errorf("%s has a method that writes JSON, and none that reads it", t)
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return loses(t.Elem(), seen)
	case reflect.Map:
		if err := loses(t.Key(), seen); err != nil {
			return err
		}
		return loses(t.Elem(), seen)
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return fmt.Errorf("JSON cannot be read into the interface %s", t)
		}
	case reflect.Struct:
		for i := range t.NumField() {
			if err := fieldLoses(t.Field(i), seen); err != nil {
				return fmt.Errorf("%s: %w", t.Field(i).Name, err)
			}
		}
	default: // it has no parts
	}
	return nil
}

// fieldLoses is loses for a struct's field.
func fieldLoses(f reflect.StructField, seen map[reflect.Type]bool) error {
	switch {
	case f.Tag.Get("json") == "-", f.Name == "_", f.Type.Size() == 0:
		return nil
	case f.IsExported(), f.Anonymous && f.Type.Kind() == reflect.Struct:
		return loses(f.Type, seen)
	}
	return errors.New("the field is not exported")
}

var (
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// unmarshals reports whether the type has an unmarshal method of its own.
func unmarshals(t reflect.Type) bool {
	return t.Implements(jsonUnmarshaler) || t.Implements(textUnmarshaler)
}
