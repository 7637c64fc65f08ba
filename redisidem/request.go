package redisidem

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/redisidem/redisidem/redisidem/internal/canonicaljson"
	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Request describes the request that a key belongs to. A retry must bring the same request.
type Request struct {
	// Method is the request's method. Upper and lower case are the same.
	Method string
	// Path is the request's path, or another name of the operation.
	Path string
	// Params are the request's parameters. A []byte is stored and compared byte for byte. Any other
	// value, such as a json.RawMessage, is stored and compared as JSON without white space and with
	// sorted names. Numbers are compared as they are written. JSON that is not in UTF-8, has a name
	// twice or is deeper than 100, and a json.RawMessage that is not JSON, stay as they are. Nil:
	// none are stored.
	//
	// An io.Reader is refused, and so is a value that JSON would write as nothing, such as a struct
	// without exported fields. The latter holds for a part of a value, too. Otherwise all requests
	// with such values would be the same. A type that writes its own JSON and leaves a part out
	// cannot be recognised.
	Params any
	// Fingerprint replaces the digest of method, path and params if it is not nil, for callers that
	// decide themselves which requests are the same. It is hashed before it is stored.
	Fingerprint []byte
}

// fingerprintVersion is the prefix of each stored fingerprint. It distinguishes future ways to
// compute one.
const fingerprintVersion = "1:"

// encodedRequest is a Request in the form in which it is stored.
type encodedRequest struct {
	method, path string
	params       []byte // the caller's memory until keep
	given        []byte // Request.Fingerprint, the caller's until keep; nil if not needed
	digest       fingerprint
	bound        bool // the fingerprint covers the params

	// Set by seal.
	fingerprint string // print as text
	stored      []byte // the params as they are stored
}

// fingerprint identifies a request: a version and a digest, as text.
type fingerprint [len(fingerprintVersion) + 43]byte

// keep copies the caller's memory and encodes the request for storage. The copies are needed
// because a command can outlive the call.
func (e *encodedRequest) keep(v valueCodec, id identity) error {
	e.params, e.given = bytes.Clone(e.params), bytes.Clone(e.given)
	return e.seal(v, id)
}

// seal sets the values to store.
func (e *encodedRequest) seal(v valueCodec, id identity) (err error) {
	e.fingerprint = string(e.digest[:])
	if e.params != nil {
		e.stored, err = v.encode(id, e.fingerprint, fieldParams, 0, e.params)
	}
	return err
}

// keyedWith returns the request with the fingerprint that another fingerprint key makes.
func (e *encodedRequest) keyedWith(key []byte, v valueCodec, id identity) (*encodedRequest, error) {
	other := *e
	other.stored = nil
	other.sum(key)
	err := other.seal(v, id)
	return &other, err
}

// record returns the new record for the request.
func (e *encodedRequest) record() protocol.NewRecord {
	return protocol.NewRecord{Method: e.method, Path: e.path, Params: e.stored}
}

// needsParams reports whether the caller needs the params of a finished record. It does if e is
// nil, or if the fingerprint does not cover the params.
func (e *encodedRequest) needsParams() bool { return e == nil || !e.bound }

func (r Request) encode(limit int, key []byte) (encodedRequest, error) {
	e := encodedRequest{method: strings.ToUpper(r.Method), path: r.Path, given: r.Fingerprint, bound: r.Fingerprint == nil}
	for _, part := range []struct{ field, value string }{{"Request.Method", e.method}, {"Request.Path", e.path}} {
		if err := checkSize(part.field, len(part.value), limit); err != nil {
			return e, err
		}
	}
	var err error
	if e.params, err = borrow(r.Params); err != nil {
		return e, &InvalidError{Field: "Request.Params", Reason: "cannot be stored as JSON: " + err.Error(), Err: err}
	}
	if _, isBytes := r.Params.([]byte); !isBytes {
		e.params = canonicaljson.Form(e.params)
	}
	if err := checkSize("Request.Params", len(e.params), limit); err != nil {
		return e, err
	}

	e.sum(key)
	return e, nil
}

// sum computes the fingerprint, keyed unless key is empty.
func (e *encodedRequest) sum(key []byte) {
	var space [512]byte
	b := append(space[:0], "redisidem/fingerprint/1"...)
	if e.given != nil {
		b = protocol.AppendPart(append(b, 'f'), e.given)
	} else {
		b = protocol.AppendPart(append(b, 'r'), e.method)
		b = protocol.AppendPart(b, e.path)
		b = protocol.AppendPart(b, e.params)
	}
	sum := sha256.Sum256(b)
	if len(key) > 0 {
		sum = keyedSum(sum, key)
	}
	base64.RawURLEncoding.Encode(e.digest[copy(e.digest[:], fingerprintVersion):], sum[:])
}

// marshal returns v as the bytes to store, in memory of their own.
func marshal(v any) ([]byte, error) {
	b, err := borrow(v)
	return bytes.Clone(b), err
}

// borrow returns v as the bytes to store, which may be v's own memory. Bytes stay as they are, nil
// is nil, and any other value becomes JSON.
func borrow(v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case []byte:
		return v, nil
	case json.RawMessage:
		return v, nil
	}
	return toJSON(v)
}
