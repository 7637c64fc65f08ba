package httpidem_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// pair is two bodies, and whether they are the same request.
type pair struct {
	one, two string
	same     bool
}

// compare compares the fingerprints of pairs of bodies with a media type.
func compare(t *testing.T, f httpidem.FingerprintFunc, kind string, pairs ...pair) {
	t.Helper()
	r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/"}, Header: http.Header{"Content-Type": {kind}}}
	for _, p := range pairs {
		one, err1 := httpidem.FingerprintOf(httpidem.Fingerprint{Func: f}, r, []byte(p.one))
		two, err2 := httpidem.FingerprintOf(httpidem.Fingerprint{Func: f}, r, []byte(p.two))
		if err := errors.Join(err1, err2); err != nil || (one == two) != p.same {
			t.Errorf("%.100q and %.100q: same is %v, %v", p.one, p.two, one == two, err)
		}
	}
}

func TestCanonicalJSONComparesDocuments(t *testing.T) {
	t.Parallel()
	compare(t, httpidem.CanonicalJSON, "application/json",
		pair{`{"a":1,"b":[true,null]}`, "{ \"b\" : [ true,\nnull ], \"a\":1}\n", true},
		pair{`{"a":"\u0061"}`, `{"a":"a"}`, true},
		pair{`[1,2]`, `[1, 2]`, true},
		pair{`[1,2]`, `[2,1]`, false},
		pair{`"x"`, ` "x"`, true},
		pair{`1`, `1.0`, false},
		pair{`{"a":1}`, `{"a":2}`, false},
		pair{`{"a":1}`, `{"a":1,"b":null}`, false},
		pair{`{"a":1,"a":2}`, `{"a":1, "a":2}`, false}, // readers may choose another value
		pair{`{"a":1} {}`, `{"a":1}  {}`, false},
		pair{"{\"a\":\"\xff\"}", "{\"a\":\"\xfe\"}", false},
		pair{strings.Repeat("[", 200) + strings.Repeat("]", 200), " " + strings.Repeat("[", 200) + strings.Repeat("]", 200), false},
		pair{"plain", "plain ", false},
		pair{"", "null", false},
	)
}

func TestJSONFieldsExceptLeavesFieldsOut(t *testing.T) {
	t.Parallel()
	compare(t, httpidem.JSONFieldsExcept("sent_at", "meta.trace"), "application/json",
		pair{`{"a":1,"sent_at":1}`, `{"sent_at":2, "a":1}`, true},
		pair{`{"a":1,"sent_at":1}`, `{"a":1}`, true},
		pair{`{"a":1,"sent_at":1}`, `{"a":2,"sent_at":1}`, false},
		pair{`{"meta":{"trace":1,"x":1}}`, `{"meta":{"x":1,"trace":{"y":2}}}`, true},
		pair{`{"meta":{"trace":1,"x":1}}`, `{"meta":{"trace":1,"x":2}}`, false},
		pair{`{"meta":"trace"}`, `{"meta":"other"}`, false},
		pair{`{"meta":{"sent_at":1}}`, `{"meta":{"sent_at":2}}`, false},
		pair{`{"Sent_At":1}`, `{"Sent_At":2}`, false},
		pair{`[{"sent_at":1}]`, `[{"sent_at":2}]`, false},
		pair{`[1]`, `[ 1 ]`, true},
		pair{`{"sent_at":1,"sent_at":1}`, `{"sent_at":1,"sent_at":2}`, false},
		pair{"plain", "plain ", false},
	)
	one, _ := httpidem.FingerprintOf(httpidem.Fingerprint{Func: httpidem.JSONFieldsExcept("a", "b")}, &http.Request{URL: &url.URL{}}, []byte(`{"c":1}`))
	two, _ := httpidem.FingerprintOf(httpidem.Fingerprint{Func: httpidem.JSONFieldsExcept("b", "a", "a")}, &http.Request{URL: &url.URL{}}, []byte(`{"c":1}`))
	other, _ := httpidem.FingerprintOf(httpidem.Fingerprint{Func: httpidem.JSONFieldsExcept("a")}, &http.Request{URL: &url.URL{}}, []byte(`{"c":1}`))
	if one != two || one == other {
		t.Error("the names of the fields do not count, or their order does")
	}
	defer func() {
		if err, _ := recover().(error); !errors.Is(err, redisidem.ErrInvalid) {
			t.Errorf("an invalid name: %v", err)
		}
	}()
	httpidem.JSONFieldsExcept("a..b")
}
