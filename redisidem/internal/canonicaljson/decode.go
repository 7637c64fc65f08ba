package canonicaljson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// MaxDepth limits the nesting of a document.
const MaxDepth = 100

// errRefused is the error for JSON that is not decoded, because its content is ambiguous or its
// depth is over MaxDepth.
var errRefused = errors.New("not one JSON document in UTF-8 without repeated names")

// Decode decodes a text that is exactly one JSON document. The values are map[string]any, []any,
// string, [json.Number], bool and nil.
//
// It returns an error for a text that is not JSON, is deeper than MaxDepth or is not UTF-8. Unlike
// encoding/json it also refuses repeated names, since two decoders may choose different values.
func Decode(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	value, err := decodeValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errRefused
	}
	return value, nil
}

func decodeValue(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return token, Readable(token)
	}
	depth++
	if depth > MaxDepth {
		return nil, errRefused
	}
	if delim == '[' {
		list := []any{}
		for d.More() {
			value, err := decodeValue(d, depth)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		_, err := d.Token()
		return list, err
	}
	object := map[string]any{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if _, twice := object[name]; twice || !ok || Readable(name) != nil {
			return nil, errRefused
		}
		if object[name], err = decodeValue(d, depth); err != nil {
			return nil, err
		}
	}
	_, err = d.Token()
	return object, err
}

// Readable returns an error for a string with the replacement character, which the decoder puts in
// place of invalid bytes. Different texts would become the same.
func Readable(token json.Token) error {
	if s, ok := token.(string); ok && strings.ContainsRune(s, utf8.RuneError) {
		return errRefused
	}
	return nil
}
