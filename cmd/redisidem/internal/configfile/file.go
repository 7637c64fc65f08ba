package configfile

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// File is a YAML file that was parsed. It is safe for concurrent use.
type File struct {
	name    string
	body    ast.Node                   // nil for an empty file
	anchors map[string]ast.Node        // by name
	places  map[string]*token.Position // of the fields, by their path
}

// Parse parses the text of a file, which has one YAML document. The name is for errors only.
func Parse(name string, text []byte) (*File, error) {
	f := &File{name: name, anchors: make(map[string]ast.Node), places: make(map[string]*token.Position)}
	parsed, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, f.syntaxError(err)
	}
	for _, doc := range parsed.Docs {
		switch {
		case doc.Body == nil:
		case f.body != nil:
			return nil, f.errorAt(doc.Body.GetToken(), errors.New("a second document: the file must have one"))
		default:
			f.body = doc.Body
		}
	}
	if f.body != nil {
		ast.Walk(collector{f}, f.body)
	}
	return f, nil
}

// syntaxError returns an error of the parser, with its position in our form.
func (f *File) syntaxError(err error) error {
	var syntax yaml.Error
	if errors.As(err, &syntax) && syntax.GetToken() != nil {
		text := syntax.GetMessage()
		if strings.Contains(text, "mapping value is not allowed") {
			text += "; a value that ends with a colon needs quotes, such as 'memory:'"
		}
		return f.errorAt(syntax.GetToken(), errors.New(text))
	}
	return fmt.Errorf("%s: %w", f.name, err)
}

func (f *File) errorAt(t *token.Token, err error) error {
	return fmt.Errorf("%s:%d:%d: %w", f.name, t.Position.Line, t.Position.Column, err)
}

// collector collects the anchors and the positions of a file.
type collector struct{ *File }

// Visit implements [ast.Visitor].
func (c collector) Visit(n ast.Node) ast.Visitor {
	if anchor, ok := n.(*ast.AnchorNode); ok {
		c.anchors[anchor.Name.GetToken().Value] = anchor.Value
	}
	field, at := fieldOf(n), n.GetToken()
	switch n := n.(type) {
	case *ast.MappingValueNode:
		field, at = fieldOf(n.Value), n.Key.GetToken()
	case *ast.MappingNode: // whose own token is a colon
		if !n.IsFlowStyle && len(n.Values) > 0 {
			at = n.Values[0].Key.GetToken()
		}
	}
	if at != nil && c.places[field] == nil {
		c.places[field] = at.Position
	}
	return c
}

// fieldOf returns the path of a node, such as routes[0].match. That of the whole document is empty.
func fieldOf(n ast.Node) string { return strings.TrimPrefix(strings.TrimPrefix(n.GetPath(), "$"), ".") }

// Locate returns an error with the name of the file and with the position of its [FieldError]'s
// field. For a field that the file does not have, it is that of the enclosing value. It returns nil
// for nil.
func (f *File) Locate(err error) error {
	var field *FieldError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &field):
		return fmt.Errorf("%s: %w", f.name, err)
	}
	for path := field.Field; path != ""; path = path[:max(0, strings.LastIndexAny(path, ".["))] {
		if at := f.places[path]; at != nil {
			return fmt.Errorf("%s:%d:%d: %w", f.name, at.Line, at.Column, field)
		}
	}
	return fmt.Errorf("%s:1:1: %w", f.name, field)
}

// Values returns the fields with the given names that the document has, as Go values. The name of a
// field of a mapping within the document's mapping is a path, such as console.enabled. A number is
// a uint64, an int64 or a float64. It is for a file that [File.Decode] has accepted.
func (f *File) Values(names []string) (map[string]any, error) {
	values := make(map[string]any)
	if f.body == nil {
		return values, nil
	}
	all := make(map[string]any)
	if err := yaml.NodeToValue(f.body, &all); err != nil {
		return nil, f.syntaxError(err)
	}
	for _, name := range names {
		within := all
		path := strings.Split(name, ".")
		for _, outer := range path[:len(path)-1] {
			within, _ = within[outer].(map[string]any)
		}
		if value, ok := within[path[len(path)-1]]; ok {
			values[name] = value
		}
	}
	return values, nil
}
