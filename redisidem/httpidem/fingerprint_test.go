package httpidem_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemclient"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

func TestDraft_2_4_VersionIsStoredAndKeysOutliveAChange(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	svc := s.service(redisidem.Config{})
	h := counting(created("done"))
	old := httpidem.Fingerprint{Version: 1}
	fresh := httpidem.Fingerprint{Version: 2, Func: httpidem.JSONFields("amount")}
	before := newMiddleware(t, svc, &httpidem.Config{Fingerprint: old}).Handler(h)
	after := newMiddleware(t, svc, &httpidem.Config{Fingerprint: fresh, OtherFingerprints: []httpidem.Fingerprint{old}}).Handler(h)
	call(before, newRequest(t.Context(), "k", `{"amount":1}`))
	if key, err := svc.Scope("alice").Retrieve(t.Context(), "k"); err != nil || string(key.Params) != "\x01" || key.Path != "/orders" || key.Method != http.MethodPost {
		t.Errorf("stored %+v, %v", key, err)
	}
	if w := call(after, newRequest(t.Context(), "k", `{"amount":1}`)); w.Header().Get(idemheader.Replayed) != "true" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	// The old way of comparing is in force for the old key.
	if w := call(after, newRequest(t.Context(), "k", `{ "amount":1}`)); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	call(after, newRequest(t.Context(), "new", `{"amount":1}`))
	if w := call(after, newRequest(t.Context(), "new", `{ "amount":1, "x": 2}`)); w.Header().Get(idemheader.Replayed) != "true" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	// A version that is not known is refused: nothing is disclosed that could not be compared.
	if w := call(before, newRequest(t.Context(), "new", `{"amount":1}`)); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	h.ran(t, 2)
}

func TestDraft_2_4_CallersDigest(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	h := counting(created("done"))
	m := s.middleware(&httpidem.Config{Fingerprint: httpidem.Fingerprint{
		Func: func(d *httpidem.Digest, r *http.Request, _ []byte) error {
			digest := r.Header.Get("Content-Digest")
			if digest == "" {
				return errors.New("no digest")
			}
			d.Text(digest)
			return nil
		},
	}}).Handler(h)
	send := func(digest, body string) int {
		r := newRequest(t.Context(), "k", body)
		r.Header.Set("Content-Digest", digest)
		return call(m, r).Code
	}
	if a, b, c, d := send("1", "a"), send("1", "b"), send("2", "a"), send("", "a"); a != 201 || b != 201 || c != 422 || d != 400 {
		t.Error(a, b, c, d)
	}
	h.ran(t, 1)
}

func TestChecksOfKeys(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]bool{
		"8e03978e-40d5-43dd-bc93-6894a57f9324": true, "8E03978E-40D5-43DD-BC93-6894A57F9324": true, "8e03978e40d543ddbc936894a57f9324": false,
		"{8e03978e-40d5-43dd-bc93-6894a57f932}": false, "00000000-0000-0000-0000-000000000000": false, "x": false,
		"urn:uuid:8e03978e-40d5-43dd-bc93-6894a57f9324": false,
	} {
		if got := httpidem.UUIDKeys(key) == nil; got != want {
			t.Errorf("UUIDKeys(%s) is %t", key, got)
		}
	}
	if httpidem.MinKeyBytes(3)("abc") != nil || httpidem.MinKeyBytes(3)("ab") == nil {
		t.Error("MinKeyBytes(3)")
	}
	ulid := ulidAt(time.Now())
	check := httpidem.KeysWithin(time.Hour, time.Minute)
	if err := check(ulid); err != nil {
		t.Errorf("%s: %v", ulid, err)
	}
	if err := check(strings.ToLower(ulid)); err != nil {
		t.Errorf("%s: %v", ulid, err)
	}
	var window *httpidem.WindowError
	for _, at := range []time.Duration{-61 * time.Minute, 61 * time.Second} {
		if err := check(ulidAt(time.Now().Add(at))); !errors.As(err, &window) {
			t.Errorf("%v: %v", at, err)
		}
	}
	for _, key := range []string{"", "x", idemclient.NewKey(), strings.Repeat("U", 26), "8" + strings.Repeat("0", 25)} {
		var syntax *idemheader.SyntaxError
		if err := check(key); !errors.As(err, &syntax) {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func ulidAt(at time.Time) string {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	b := []byte(strings.Repeat("Z", 26))
	for i, ms := 9, at.UnixMilli(); i >= 0; i, ms = i-1, ms>>5 {
		b[i] = digits[ms&31]
	}
	return string(b)
}

// FuzzFingerprint checks that two requests have the same fingerprint exactly when what counts is
// the same.
func FuzzFingerprint(f *testing.F) {
	f.Add("POST", "h", "/a", "q=1", "text/plain", []byte("body"), "post", "H:80", "/a", "q=1", "Text/Plain; charset=x", []byte("body"))
	f.Add("POST", "h", "/a", "b", "", []byte("c"), "POST", "h", "/ab", "", "", []byte("c"))
	f.Add("POST", "h", "/", "", "a", []byte{}, "POST", "h", "", "", "", []byte("a"))
	f.Fuzz(func(t *testing.T, m1, h1, p1, q1, t1 string, b1 []byte, m2, h2, p2, q2, t2 string, b2 []byte) {
		one, err1 := fingerprint(m1, h1, p1, q1, t1, b1)
		two, err2 := fingerprint(m2, h2, p2, q2, t2, b2)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		upper1, upper2 := strings.ToUpper(m1), strings.ToUpper(m2)
		same := upper1 == upper2 && httpidem.HostOf(h1) == httpidem.HostOf(h2) && httpidem.PathOf(p1) == httpidem.PathOf(p2) && q1 == q2 &&
			httpidem.MediaType(t1) == httpidem.MediaType(t2) && bytes.Equal(b1, b2)
		if same != (one == two) {
			t.Fatalf("same: %t, same fingerprint: %t", same, one == two)
		}
	})
}

func fingerprint(method, host, path, query, kind string, body []byte) (string, error) {
	r := &http.Request{Method: method, Host: host, URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{"Content-Type": {kind}}}
	return httpidem.FingerprintOf(httpidem.Fingerprint{}, r, body)
}

// TestFingerprintsAreOfOneResource is about targets and hosts that name the same resource, and
// others that do not.
func TestFingerprintsAreOfOneResource(t *testing.T) {
	t.Parallel()
	type request struct {
		host, target string
		tls          bool
	}
	of := func(r request, f httpidem.Fingerprint) string {
		u, err := url.ParseRequestURI(r.target)
		if err != nil {
			t.Fatal(err)
		}
		req := &http.Request{Method: http.MethodPost, Host: r.host, URL: u}
		if r.tls {
			req.TLS = &tls.ConnectionState{}
		}
		text, err := httpidem.FingerprintOf(f, req, []byte(`{"amount": 1}`))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	functions := map[string]httpidem.FingerprintFunc{"whole": nil, "fields": httpidem.JSONFields("amount")}
	for name, f := range functions {
		for _, pair := range [][2]request{
			{{"a.example", "/", false}, {"A.Example", "/", false}},
			{{"a.example", "/", false}, {"a.example:80", "/", false}},
			{{"a.example", "/", false}, {"a.example:", "/", false}},
			{{"a.example", "/", true}, {"a.example:443", "/", true}},
			{{"127.0.0.1:8080", "/", false}, {"127.0.0.1:8081", "/", false}},
			{{"192.0.2.1", "/", false}, {"192.0.2.2", "/", false}},
			{{"[2001:DB8::1]", "/", true}, {"[2001:db8::2]:8443", "/", true}},
			{{"localhost:8080", "/", false}, {"LOCALHOST", "/", false}},
		} {
			if of(pair[0], httpidem.Fingerprint{Func: f}) != of(pair[1], httpidem.Fingerprint{Func: f}) {
				t.Errorf("%s: %v and %v differ", name, pair[0], pair[1])
			}
		}
		for _, pair := range [][2]request{
			{{"a.example", "/", false}, {"b.example", "/", false}},
			{{"a.example", "/", false}, {"a.example:8080", "/", false}},
			{{"a.example", "/", false}, {"a.example:443", "/", false}},
			{{"a.example", "/", false}, {"127.0.0.1", "/", false}},
			{{"localhost.example", "/", false}, {"localhost", "/", false}},
			{{"a.example", "/", true}, {"a.example:80", "/", true}},
			{{"a.example", "/", false}, {"a.example", "/", true}},
			{{"a.example", "/", false}, {"", "/", false}},
		} {
			if of(pair[0], httpidem.Fingerprint{Func: f}) == of(pair[1], httpidem.Fingerprint{Func: f}) {
				t.Errorf("%s: %v and %v are the same", name, pair[0], pair[1])
			}
			if anywhere := (httpidem.Fingerprint{Func: f, AnyHost: true}); of(pair[0], anywhere) != of(pair[1], anywhere) {
				t.Errorf("%s: %v and %v differ with AnyHost", name, pair[0], pair[1])
			}
		}
		for _, pair := range [][2]string{
			{"/", "/?"},
			{"/", "//"},
			{"/a", "/a/"},
			{"/a%2Fb", "/a/b"},
			{"/a%2Fb", "/a%2fb"},
			{"/a|b", "/a%7Cb"},
			{"/%61", "/a"},
			{"/a/./b", "/a/b"},
			{"/?a=1;2", "/?a=1"},
			{"/?a=1&b=2", "/?b=2&a=1"},
			{"/?a=%3b", "/?a=;"},
			{"/?a=%", "/?a="},
			{"/?", "/??"},
		} {
			one, two := request{"h", pair[0], false}, request{"h", pair[1], false}
			if of(one, httpidem.Fingerprint{Func: f}) == of(two, httpidem.Fingerprint{Func: f}) {
				t.Errorf("%s: %s and %s are the same", name, pair[0], pair[1])
			}
		}
	}
	// A program may serve a part of the path, or change it: what it made of the path counts.
	changed := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/other", RawPath: "/a%2Fb"}}
	plain := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/other"}}
	one, err1 := httpidem.FingerprintOf(httpidem.Fingerprint{}, changed, nil)
	two, err2 := httpidem.FingerprintOf(httpidem.Fingerprint{}, plain, nil)
	if err := errors.Join(err1, err2); err != nil || one != two {
		t.Errorf("a path that was changed counts as it came (%v)", err)
	}
}

func TestFieldsInOtherLettersAreNotOverlooked(t *testing.T) {
	t.Parallel()
	fp := httpidem.Fingerprint{Func: httpidem.JSONFields("amount", "to.iban")}
	r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/"}}
	for _, bodies := range [][2]string{
		{`{"Amount":1}`, `{"Amount":2}`},
		{`{"amount":1,"AMOUNT":1}`, `{"amount":1,"AMOUNT":2}`},
		{`{"to":{"IBAN":"X"}}`, `{"to":{"IBAN":"Y"}}`},
		{`{"To":{"iban":"X"}}`, `{"To":{"iban":"Y"}}`},
	} {
		one, _ := httpidem.FingerprintOf(fp, r, []byte(bodies[0]))
		two, _ := httpidem.FingerprintOf(fp, r, []byte(bodies[1]))
		if one == two {
			t.Errorf("%s and %s are taken for the same", bodies[0], bodies[1])
		}
	}
}

func TestBodiesWithoutAnyNamedFieldCountAsAWhole(t *testing.T) {
	t.Parallel()
	of := func(names []string, body string) string {
		fp := httpidem.Fingerprint{Func: httpidem.JSONFields(names...)}
		r := newRequest(t.Context(), "k", body)
		r.Header.Set("Content-Type", "application/json")
		sum, err := httpidem.FingerprintOf(fp, r, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	for _, names := range [][]string{{"amuont"}, {"payment.amuont", "to.iban"}, {"amount.cents"}, nil} {
		one, other := of(names, `{"amount":1,"to":{}}`), of(names, `{"amount":99999,"to":{}}`)
		if one == other {
			t.Errorf("%q: two amounts are one request", names)
		}
		if one != of(names, `{"amount":1,"to":{}}`) {
			t.Errorf("%q: the same body is another request", names)
		}
	}
	// One of them is enough, also if it is null, and what is absent is a value, too.
	names := []string{"amount", "to.iban"}
	if of(names, `{"amount":null,"sent":1}`) != of(names, `{"sent":2,"amount":null}`) {
		t.Error("a field that is not named counts")
	}
	if of(names, `{"amount":1}`) == of(names, `{"amount":1,"to":{"iban":null}}`) || of(names, `{"amount":null}`) == of(names, `{}`) {
		t.Error("absent is null")
	}
}

func TestFieldsThatNoBodyHasCannotBeNamed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "/amount", "/to/iban", ".amount", "amount.", "to..iban", ".", "a\xff", "a\ufffd"} {
		err := httpidem.CheckJSONFields("fine", name)
		var refused *redisidem.InvalidError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), strconv.Quote(name)) {
			t.Errorf("%q: %v", name, err)
		}
		func() {
			defer func() {
				if got, _ := recover().(error); !errors.As(got, &refused) {
					t.Errorf("JSONFields(%q): %v", name, got)
				}
			}()
			httpidem.JSONFields("fine", name)
		}()
	}
	if err := httpidem.CheckJSONFields("amount", "to.iban", "a/b", "grün", "x y"); err != nil {
		t.Error(err)
	}
}

// FuzzJSONFields checks that what selected fields come to depends on their values alone: two bodies
// have the same fingerprint exactly when encoding/json finds the same values in them, or when they
// are the same bytes.
func FuzzJSONFields(f *testing.F) {
	for _, s := range []string{
		`{"a":1}`, `{"a":1.0}`, `{"a":{"b":[1,2,{"c":null}]}}`, `{"a":1,"a":2}`, `[1]`, `{"a":"\ud800"}`, "{\"a\":\"\xff\"}", `{"a":1}{}`, "", "null",
		`{"a": 12345678901234567890}`, `{"a":1e400}`, strings.Repeat(`{"a":`, 200), strings.Repeat("[", 1000),
	} {
		f.Add([]byte(s), []byte(`{"a":1}`))
	}
	fp := httpidem.Fingerprint{Func: httpidem.JSONFields("a", "x.y")}
	f.Fuzz(func(t *testing.T, b1, b2 []byte) {
		r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/"}}
		one, err1 := httpidem.FingerprintOf(fp, r, b1)
		two, err2 := httpidem.FingerprintOf(fp, r, b2)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if one != two {
			return
		}
		v1, ok1 := selected(b1)
		v2, ok2 := selected(b2)
		if ok1 != ok2 || v1 != v2 {
			t.Fatalf("%q and %q have the same fingerprint", b1, b2)
		}
	})
}

// selected returns what encoding/json finds in the fields a and x.y of an object, or the bytes of
// what has neither.
func selected(b []byte) (string, bool) {
	var o map[string]any
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	if err := d.Decode(&o); err != nil || o == nil {
		return string(b), false
	}
	x, _ := o["x"].(map[string]any)
	a, hasA := o["a"]
	y, hasY := x["y"]
	if !hasA && !hasY {
		return string(b), false
	}
	text, err := json.Marshal([]any{hasA, a, hasY, y})
	return string(text), err == nil
}
