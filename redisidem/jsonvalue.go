package redisidem

import (
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"
)

// toJSON is json.Marshal for values whose encodings must differ if the values do. It refuses a
// value if JSON omits a part of it without a trace, as with an io.Reader or a struct without
// exported fields.
func toJSON(v any) ([]byte, error) {
	if _, ok := v.(io.Reader); ok && !marshals(reflect.TypeOf(v)) {
		return nil, fmt.Errorf("%T is an io.Reader, whose content must be read first", v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if path, t := unwritten(reflect.ValueOf(v), ""); t != nil {
		return nil, fmt.Errorf("nothing is written of %s, which has no exported field", strings.TrimSpace(path+" "+t.String()))
	}
	return b, nil
}

// neverJSON returns why no value of the type can be written as JSON, or nil if one can.
func neverJSON(t reflect.Type) error {
	for t.Kind() == reflect.Pointer && !marshals(t) {
		t = t.Elem()
	}
	if marshals(t) || marshals(reflect.PointerTo(t)) || t.Kind() == reflect.Interface {
		return nil
	}
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return fmt.Errorf("json: unsupported type: %s", t)
	case reflect.Struct:
		if empty(t) {
			return fmt.Errorf("nothing is written of %s, which has no exported field", t)
		}
		for i := range t.NumField() {
			f := t.Field(i)
			// A nil pointer, an empty slice or a tag such as omitzero may leave nothing to write.
			if written(f) && f.Type.Kind() != reflect.Pointer && f.Tag.Get("json") == "" {
				if err := neverJSON(f.Type); err != nil {
					return fmt.Errorf("%s: %w", f.Name, err)
				}
			}
		}
	case reflect.Map:
		switch key := t.Key(); key.Kind() {
		case reflect.String, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
			reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		default:
			if !key.Implements(textMarshaler) {
				return fmt.Errorf("json: unsupported type: %s", t)
			}
		}
	case reflect.Array:
		if t.Len() > 0 {
			return neverJSON(t.Elem())
		}
	default: // values of the other kinds can be written
	}
	return nil
}

var (
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// marshals reports whether the type has a marshal method of its own.
func marshals(t reflect.Type) bool { return t.Implements(jsonMarshaler) || t.Implements(textMarshaler) }

// written reports whether the struct's field has a field of its own in JSON.
func written(f reflect.StructField) bool {
	return f.IsExported() && !f.Anonymous && f.Tag.Get("json") != "-"
}

// empty reports whether a struct has fields, but none in JSON.
func empty(t reflect.Type) bool { return t.NumField() > 0 && !has(t, nil) }

// has reports whether a struct, or a struct that is embedded in it, has a field in JSON. outer
// holds the structs around it, to stop at recursive types.
func has(t reflect.Type, outer []reflect.Type) bool {
	for _, o := range outer {
		if o == t {
			return false
		}
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if written(f) {
			return true
		}
		if !f.Anonymous || f.Tag.Get("json") == "-" {
			continue
		}
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if f.IsExported() && (inner.Kind() != reflect.Struct || marshals(f.Type) || f.Tag.Get("json") != "") ||
			inner.Kind() == reflect.Struct && has(inner, append(outer, t)) {
			return true
		}
	}
	return false
}

// plainTypes caches which types are plain: no value of such a type has a part that JSON omits.
var plainTypes sync.Map // reflect.Type: bool

func isPlain(t reflect.Type) bool {
	if known, ok := plainTypes.Load(t); ok {
		return known == true
	}
	is := looksPlain(t, make(map[reflect.Type]bool))
	plainTypes.Store(t, is)
	return is
}

func looksPlain(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] || marshals(t) {
		return true
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Interface:
		return false
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return looksPlain(t.Elem(), seen)
	case reflect.Struct:
		if empty(t) {
			return false
		}
		for i := range t.NumField() {
			if f := t.Field(i); (written(f) || f.Anonymous && f.Type.Kind() != reflect.Struct) && !looksPlain(f.Type, seen) {
				return false
			}
			if f := t.Field(i); f.Anonymous && f.Type.Kind() == reflect.Struct && has(f.Type, nil) && !looksPlain(f.Type, seen) {
				return false
			}
		}
	default: // it has no parts
	}
	return true
}

// unwritten finds a part of a value that JSON omits without a trace. It returns the part's path and
// type, or a nil type if JSON writes all parts. JSON must be able to write the value.
func unwritten(v reflect.Value, path string) (string, reflect.Type) {
	if !v.IsValid() || isPlain(v.Type()) || v.CanAddr() && marshals(reflect.PointerTo(v.Type())) {
		return "", nil
	}
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if !v.IsNil() {
			return unwritten(v.Elem(), path)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if at, t := unwritten(v.Index(i), fmt.Sprintf("%s[%d]", path, i)); t != nil {
				return at, t
			}
		}
	case reflect.Map:
		for each := v.MapRange(); each.Next(); {
			if at, t := unwritten(each.Value(), fmt.Sprintf("%s.%v", path, each.Key())); t != nil {
				return at, t
			}
		}
	case reflect.Struct:
		if empty(v.Type()) {
			return path, v.Type()
		}
		for i := range v.NumField() {
			f, field := v.Type().Field(i), v.Field(i)
			embedded := f.Anonymous && (f.Type.Kind() != reflect.Struct || has(f.Type, nil))
			if f.Tag.Get("json") == "-" || !written(f) && !embedded {
				continue
			}
			if f.Anonymous && f.Type.Kind() == reflect.Pointer && f.Type.Elem().Kind() == reflect.Struct && !has(f.Type.Elem(), nil) {
				continue // it adds nothing to the JSON, by design
			}
			if strings.Contains(f.Tag.Get("json"), ",omit") && field.IsZero() {
				continue
			}
			if at, t := unwritten(field, path+"."+f.Name); t != nil {
				return at, t
			}
		}
	default: // it has no parts
	}
	return "", nil
}
