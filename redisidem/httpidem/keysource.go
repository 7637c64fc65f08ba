package httpidem

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"slices"
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
	// Query is the name of a query parameter. A request that has it twice, or in a form that cannot
	// be parsed, is answered with 400.
	Query string
	// Body is the JSON pointer (RFC 6901) of the key in a JSON body, such as /data/id. The key is a
	// text or a whole number. A body of another media type that is not JSON, or that has nothing or
	// null there, has no key. A body that cannot be read as JSON in UTF-8 although its media type
	// says so, and one with a Content-Encoding, are answered with 400.
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
	case unusable(s.Header):
		return invalid("KeySource.Header", "must be a field that a handler sees and that holds no credentials: %q", s.Header)
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

// unusable reports whether a header field holds credentials, which must not be stored, or is not
// in the header of a request because the server removes it.
func unusable(name string) bool {
	return slices.Contains([]string{
		"Authorization", "Proxy-Authorization", "Cookie", "Host", "Connection", "Content-Length", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	}, http.CanonicalHeaderKey(name))
}

// sentKey is a key as a request has it.
type sentKey struct {
	key    string
	found  bool
	quoted bool // whether the client is used to keys in quotes
}

// readBody reads the key from the body. A place that holds no key is an error.
func (s *KeySource) readBody(r *http.Request, body []byte) (sentKey, error) {
	if !json.Valid(body) {
		return sentKey{}, s.unread(r, body)
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

// readQuery reads the key from the parameter. Other parameters may be malformed, but not this one:
// a handler could find a key in it.
func (s *KeySource) readQuery(query string) (key sentKey, err error) {
	for parameter := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(parameter, "=")
		if name, err := url.QueryUnescape(name); err != nil || name != s.Query {
			continue
		}
		if key.found {
			return key, &idemheader.SyntaxError{Reason: "must be in the query once"}
		}
		value, err := url.QueryUnescape(value)
		if err != nil || strings.Contains(parameter, ";") { // a semicolon separates parameters for some readers
			return sentKey{found: true}, &idemheader.SyntaxError{Reason: "must be a query parameter that can be parsed"}
		}
		if key, err = textKey(value); err != nil {
			return key, err
		}
	}
	return key, nil
}

// unread returns an error for a body that is not JSON here and may be JSON for the handler, so that
// a key in it would be overlooked.
func (s *KeySource) unread(r *http.Request, body []byte) error {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	encoding := strings.ToLower(r.Header.Get("Content-Encoding"))
	isJSON := kind == "application/json" || strings.HasSuffix(kind, "+json")
	switch {
	case len(body) == 0:
		return nil
	case encoding != "" && encoding != "identity":
		return &idemheader.SyntaxError{Reason: "must be in a body without Content-Encoding"}
	case isJSON:
		return &idemheader.SyntaxError{Reason: "must be in a body that is JSON in UTF-8"}
	}
	return nil
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
		if i > 0 && c.Sources[i-1].Body != "" && c.Sources[i].Body == "" {
			return invalid("Config.Key.Sources", "must have those in the body last, since a body is read only if no other place has a key")
		}
	}
	return nil
}

// inBody reports whether a key may be in the body.
func (c *KeyConfig) inBody() bool {
	return len(c.Sources) > 0 && c.Sources[len(c.Sources)-1].Body != ""
}

// sent returns the key that a request has in its header or query.
func (c *KeyConfig) sent(r *http.Request) (key sentKey, err error) {
	if c.Sources == nil {
		return headerKey(r.Header[c.Header], c.Strict)
	}
	for i := range c.Sources {
		switch s := &c.Sources[i]; {
		case s.Header != "":
			key, err = headerKey(r.Header[s.Header], c.Strict)
		case s.Query != "":
			key, err = s.readQuery(r.URL.RawQuery)
		}
		if key.found || err != nil {
			break
		}
	}
	return key, err
}

// sentInBody returns the key that a request has in its body.
func (c *KeyConfig) sentInBody(r *http.Request, body []byte) (key sentKey, err error) {
	for i := range c.Sources {
		if s := &c.Sources[i]; s.Body != "" {
			if key, err = s.readBody(r, body); key.found || err != nil {
				break
			}
		}
	}
	return key, err
}
