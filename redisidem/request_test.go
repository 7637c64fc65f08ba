package redisidem

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestFingerprintDistinguishesRequests(t *testing.T) {
	t.Parallel()
	distinct(t, map[string]string{
		"shifted left":     fingerprintOfRequest(t, Request{Method: "POSTS", Path: "/a", Params: []byte("b")}),
		"shifted right":    fingerprintOfRequest(t, Request{Method: "POST", Path: "S/a", Params: []byte("b")}),
		"params into path": fingerprintOfRequest(t, Request{Method: "POST", Path: "S/ab"}),
		"path into params": fingerprintOfRequest(t, Request{Method: "POST", Path: "S", Params: []byte("/ab")}),
		"case of the path": fingerprintOfRequest(t, Request{Method: "POST", Path: "s/a", Params: []byte("b")}),
		"null":             fingerprintOfRequest(t, Request{Params: []byte("null")}),
		"nothing":          fingerprintOfRequest(t, Request{}),
		"empty one":        fingerprintOfRequest(t, Request{Fingerprint: []byte{}}),
		"own":              fingerprintOfRequest(t, Request{Fingerprint: []byte("POST")}),
		"method like own":  fingerprintOfRequest(t, Request{Method: "POST"}),
	})
}

func TestFingerprintIsTheSameForTheSameRequest(t *testing.T) {
	t.Parallel()
	for _, same := range [][2]Request{
		{{Method: "post", Path: "/a"}, {Method: "POST", Path: "/a"}},
		{{Params: map[string]int{"a": 1, "b": 2}}, {Params: []byte(`{"a":1,"b":2}`)}},
		{{Method: "GET", Path: "/a", Fingerprint: []byte("x")}, {Method: "PUT", Params: 1, Fingerprint: []byte("x")}},
	} {
		if fingerprintOfRequest(t, same[0]) != fingerprintOfRequest(t, same[1]) {
			t.Errorf("%+v and %+v differ", same[0], same[1])
		}
	}
}

func TestJSONParamsAreComparedByTheirContent(t *testing.T) {
	t.Parallel()
	type charge struct{ Cents, Amount int64 }
	want := fingerprintOfRequest(t, Request{Params: json.RawMessage(`{"Amount":9007199254740993,"Cents":1}`)})
	for _, params := range []any{
		json.RawMessage(` { "Cents" : 1, "Amount" : 9007199254740993 } `),
		charge{1, 9007199254740993},
		&charge{1, 9007199254740993},
		map[string]any{"Cents": 1, "Amount": json.Number("9007199254740993")},
		[]byte(`{"Amount":9007199254740993,"Cents":1}`),
	} {
		if got := fingerprintOfRequest(t, Request{Params: params}); got != want {
			t.Errorf("%T %s is another request", params, params)
		}
	}
	distinct(t, map[string]string{
		"this":            want,
		"bytes":           fingerprintOfRequest(t, Request{Params: []byte(`{"Cents":1,"Amount":9007199254740993}`)}),
		"a close number":  fingerprintOfRequest(t, Request{Params: json.RawMessage(`{"Amount":9007199254740992,"Cents":1}`)}),
		"written as real": fingerprintOfRequest(t, Request{Params: json.RawMessage(`{"Amount":9007199254740993,"Cents":1.0}`)}),
		"twice":           fingerprintOfRequest(t, Request{Params: json.RawMessage(`{"Amount":9007199254740993,"Cents":1,"Cents":1}`)}),
		"not JSON":        fingerprintOfRequest(t, Request{Params: json.RawMessage(`{"Amount":9007199254740993,"Cents":1`)}),
	})
}

// fingerprintOfRequest returns the fingerprint of a request.
func fingerprintOfRequest(t *testing.T, r Request) string {
	t.Helper()
	e, err := r.encode(1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(e.digest[:]), fingerprintVersion) {
		t.Errorf("the fingerprint %q has no version", string(e.digest[:]))
	}
	return string(e.digest[:])
}

// distinct checks that no two of the named texts are the same.
func distinct(t *testing.T, named map[string]string) {
	t.Helper()
	seen := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if other, ok := seen[named[name]]; ok {
			t.Errorf("%q and %q are the same: %s", other, name, named[name])
		}
		seen[named[name]] = name
	}
}
