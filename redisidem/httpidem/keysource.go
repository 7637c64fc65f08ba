package httpidem

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/redisidem/redisidem/internal/httptoken"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// KeySource is a place in a request where a key can be. Exactly one of its fields must be set.
//
// A key in a query or a body is taken as it is. It must be 1 to KeyConfig.MaxBytes characters of
// printable ASCII, as a key in quotes.
type KeySource struct {
	// Header is the name of a header field, whose value has the form of an Idempotency-Key.
	Header string
	// Query is the name of a query parameter. A request that has it twice is answered with 400.
	Query string
	// Body is the JSON pointer (RFC 6901) of the key in a JSON body, such as /data/id. The key is a
	// text or a whole number. A body that is not JSON, has nothing there or has null there has no
	// key. A body with a Content-Encoding is not decoded.
	Body string
}

// describe returns the source as a client reads it.
func (s *KeySource) describe() string {
	switch {
	case s.Header != "":
		return "the header field " + s.Header
	case s.Query != "":
		return "the query parameter " + s.Query
	}
	return "the JSON body at " + s.Body
}

// Validate returns a [*redisidem.InvalidError] for a source that [New] does not accept.
func (s *KeySource) Validate() error {
	switch {
	case s.Header != "" && s.Query+s.Body != "", s.Query != "" && s.Body != "":
		return invalid("KeySource", "must have only one of Header, Query and Body")
	case s.Header != "" && !httptoken.Valid(s.Header):
		return invalid("KeySource.Header", "must be the name of a header field: %q", s.Header)
	case s.Header+s.Query+s.Body == "":
		return invalid("KeySource", "must have one of Header, Query and Body")
	}
	if s.Body == "" {
		return nil
	}
	rest := strings.NewReplacer("~0", "", "~1", "").Replace(s.Body)
	if !strings.HasPrefix(s.Body, "/") || strings.Contains(rest, "~") {
		return invalid("KeySource.Body", "must be a JSON pointer such as /data/id: %q", s.Body)
	}
	return nil
}

// sentKey is a key as a request has it.
type sentKey struct {
	key    string
	found  bool
	quoted bool // whether the client is used to keys in quotes
}

// read reads the key of a request from its place. A field that holds no key is an error.
func (s *KeySource) read(r *http.Request, body []byte, strict bool) (sentKey, error) {
	switch {
	case s.Header != "":
		return headerKey(r.Header[s.Header], strict)
	case s.Query != "":
		parameters, _ := url.ParseQuery(r.URL.RawQuery) // without the ones that cannot be parsed
		values, found := parameters[s.Query]
		if !found {
			return sentKey{}, nil
		}
		if len(values) > 1 {
			return sentKey{found: true}, &idemheader.SyntaxError{Reason: "must be in the query once"}
		}
		return textKey(values[0])
	}
	if !json.Valid(body) {
		return sentKey{}, nil
	}
	value, err := pointed(body, s.Body)
	switch {
	case err != nil:
		return sentKey{found: true}, err
	case value == nil, string(value) == "null":
		return sentKey{}, nil
	case value[0] == '"':
		var text string
		_ = json.Unmarshal(value, &text) // it is valid
		return textKey(text)
	case value[0] == '-', '0' <= value[0] && value[0] <= '9':
		if !bytes.ContainsAny(value, ".eE") {
			return textKey(string(value))
		}
	}
	return sentKey{found: true}, &idemheader.SyntaxError{Reason: "must be a text or a whole number"}
}

// headerKey returns the key in the lines of a header field.
func headerKey(lines []string, strict bool) (sentKey, error) {
	if len(lines) == 0 {
		return sentKey{}, nil
	}
	key, err := idemheader.Parse(lines, strict)
	return sentKey{key: key, found: true, quoted: idemheader.IsQuoted(lines[0])}, err
}

// textKey returns a key that is not in a header field, if one could be.
func textKey(text string) (sentKey, error) {
	field, err := idemheader.Format(text)
	if err != nil {
		return sentKey{found: true}, err
	}
	return headerKey([]string{field}, true)
}

// errTwice reports a JSON object in which different readers find different keys.
var errTwice = &idemheader.SyntaxError{Reason: "must be in the body once"}

// pointed returns the value at a JSON pointer in a valid document, or nil if it has none there.
func pointed(document []byte, pointer string) (json.RawMessage, error) {
	value := json.RawMessage(bytes.TrimSpace(document))
	for name := range strings.SplitSeq(pointer[1:], "/") {
		var err error
		if value, err = member(value, strings.NewReplacer("~1", "/", "~0", "~").Replace(name)); err != nil || value == nil {
			return nil, err
		}
	}
	return value, nil
}

// member returns the member of an object or an array, or nil.
func member(of json.RawMessage, name string) (found json.RawMessage, err error) {
	d := json.NewDecoder(bytes.NewReader(of))
	opening, err := d.Token()
	isArray := opening == json.Delim('[')
	if err != nil || !isArray && opening != json.Delim('{') {
		return nil, nil //nolint:nilerr // it has no members
	}
	for i := 0; d.More(); i++ {
		own := strconv.Itoa(i)
		if !isArray {
			token, err := d.Token()
			if err != nil {
				return nil, err
			}
			own, _ = token.(string)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		switch {
		case own != name:
		case found != nil:
			return nil, errTwice
		default:
			found = value
		}
	}
	return found, nil
}

// missingDetail says where a key was looked for.
func missingDetail(sources []KeySource) string {
	places := make([]string, len(sources))
	for i := range sources {
		places[i] = sources[i].describe()
	}
	return "This operation requires an idempotency key in " + strings.Join(places, ", or in ") +
		". Send a fresh one with each new request, and the same one with its retries."
}

// validateSources reports the first source that is invalid.
func (c *KeyConfig) validateSources() error {
	if c.Sources != nil && len(c.Sources) == 0 {
		return invalid("Config.Key.Sources", "must not be empty; leave it nil for the default")
	}
	for i := range c.Sources {
		if err := c.Sources[i].Validate(); err != nil {
			return err
		}
	}
	return nil
}

// inBody reports whether a key may be in the body.
func (c *KeyConfig) inBody() bool {
	for i := range c.Sources {
		if c.Sources[i].Body != "" {
			return true
		}
	}
	return false
}
