package configfile

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// Decode fills in the struct that into points to, whose fields have yaml tags. Fields that the file
// leaves out stay as they are. An enum tag lists the words that a text may be, with commas between
// them, and a min tag the minimum of a number. Durations must not be negative.
func (f *File) Decode(into any) error {
	if f.body == nil {
		return nil
	}
	return f.Locate(f.decode(f.body, reflect.ValueOf(into).Elem(), ""))
}

// decode decodes a value. Its errors are FieldErrors.
func (f *File) decode(n ast.Node, into reflect.Value, tag reflect.StructTag) error {
	n, err := f.resolve(n)
	if err != nil {
		return err
	}
	if _, ok := n.(*ast.NullNode); ok {
		return Invalid(fieldOf(n), "has no value; leave it out for the default")
	}
	if into.Kind() == reflect.Pointer {
		value := reflect.New(into.Type().Elem())
		if err := f.decode(n, value.Elem(), tag); err != nil {
			return err
		}
		into.Set(value)
		return nil
	}
	if custom, ok := into.Addr().Interface().(yaml.InterfaceUnmarshaler); ok {
		return located(n, custom.UnmarshalYAML(func(v any) error { return yaml.NodeToValue(n, v) }))
	}
	switch into.Kind() { //nolint:exhaustive // configurations have no other kinds
	case reflect.Struct:
		return f.decodeMapping(n, into)
	case reflect.Slice:
		return f.decodeList(n, into, tag)
	}
	return located(n, decodeScalar(n, into, tag))
}

// located makes an error one about the field of a node.
func located(n ast.Node, err error) error {
	if err == nil {
		return nil
	}
	return &FieldError{Field: fieldOf(n), Err: err}
}

// resolve returns the value of an anchor or an alias.
func (f *File) resolve(n ast.Node) (ast.Node, error) {
	for range 100 { // an alias of an alias
		switch node := n.(type) {
		case *ast.AnchorNode:
			n = node.Value
		case *ast.AliasNode:
			value := f.anchors[node.Value.GetToken().Value]
			if value == nil {
				return nil, Invalid(fieldOf(n), "the anchor of alias *%s does not exist", node.Value.GetToken().Value)
			}
			n = value
		default:
			return n, nil
		}
	}
	return nil, Invalid(fieldOf(n), "the alias refers to itself")
}

func (f *File) decodeMapping(n ast.Node, into reflect.Value) error { return f.decodeMerged(n, into, 0) }

// maxMerges is how many mappings one mapping may take values from, one through the other.
const maxMerges = 100

// decodeMerged decodes a mapping that merges of that depth have led to. The values of a mapping
// take precedence over those that it merges, wherever the merge stands.
func (f *File) decodeMerged(n ast.Node, into reflect.Value, depth int) error {
	if depth > maxMerges {
		return Invalid(fieldOf(n), "the mapping is merged into itself")
	}
	mapping, ok := n.(ast.MapNode)
	if !ok {
		return Invalid(fieldOf(n), "must be a mapping of names to values")
	}
	fields := make(map[string]reflect.StructField)
	for _, field := range reflect.VisibleFields(into.Type()) {
		if name, _, _ := strings.Cut(field.Tag.Get("yaml"), ","); name != "" && name != "-" {
			fields[name] = field
		}
	}
	for pairs := mapping.MapRange(); pairs.Next(); {
		pair := pairs.KeyValue()
		if !pair.Key.IsMergeKey() {
			continue
		}
		merged, err := f.resolve(pair.Value)
		if err != nil {
			return err
		}
		if err := f.decodeMerged(merged, into, depth+1); err != nil {
			return err
		}
	}
	for pairs := mapping.MapRange(); pairs.Next(); {
		pair := pairs.KeyValue()
		if pair.Key.IsMergeKey() {
			continue
		}
		name := pair.Key.GetToken().Value
		field, ok := fields[name]
		if !ok {
			return Invalid(fieldOf(pair.Value), "unknown field")
		}
		if err := f.decode(pair.Value, into.FieldByIndex(field.Index), field.Tag); err != nil {
			return err
		}
	}
	return nil
}

func (f *File) decodeList(n ast.Node, into reflect.Value, tag reflect.StructTag) error {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		return Invalid(fieldOf(n), "must be a list")
	}
	values := reflect.MakeSlice(into.Type(), len(list.Values), len(list.Values))
	for i, value := range list.Values {
		if err := f.decode(value, values.Index(i), tag); err != nil {
			return err
		}
	}
	into.Set(values)
	return nil
}

func decodeScalar(n ast.Node, into reflect.Value, tag reflect.StructTag) error {
	if into.Type() == reflect.TypeFor[time.Duration]() {
		text, _ := textOf(n)
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return errors.New("must be a duration that is not negative, such as 1m30s or 0s")
		}
		into.SetInt(int64(d))
		return nil
	}
	switch into.Kind() { //nolint:exhaustive // see the last return
	case reflect.String:
		text, ok := textOf(n)
		if !ok {
			return errors.New("must be text; put numbers and the like in quotes")
		}
		if words := tag.Get("enum"); words != "" && !slices.Contains(strings.Split(words, ","), text) {
			return fmt.Errorf("must be %s, not %q", strings.Join(strings.Split(words, ","), " or "), text)
		}
		into.SetString(text)
		return nil
	case reflect.Bool:
		value, ok := n.(*ast.BoolNode)
		if !ok {
			return errors.New("must be true or false")
		}
		into.SetBool(value.Value)
		return nil
	case reflect.Int, reflect.Int64:
		var number int64
		if _, ok := n.(*ast.IntegerNode); !ok || yaml.NodeToValue(n, &number) != nil || into.OverflowInt(number) {
			return errors.New("must be a whole number")
		}
		if number < 0 {
			return fmt.Errorf("must not be negative: %d", number)
		}
		into.SetInt(number)
		return nil
	}
	return fmt.Errorf("configfile: a field of type %s cannot be decoded", into.Type())
}

// textOf returns the text of a string.
func textOf(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}
