package httpidem_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestDraft_2_4_CallersDigest(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	h := counting(created("done"))
	m := s.middleware(&httpidem.Config{Fingerprint: httpidem.Fingerprint{
		Func: func(d *httpidem.Digest, r *http.Request, _ *httpidem.Body) error {
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

// Tests of the requirements that docs/security.md lists, for those lines that no other test is
// about.

func TestS3_AnotherRouteOrMethodIsAMismatch(t *testing.T) {
	t.Parallel()
	h := counting(created("done"))
	server := serve(t, newStore(t).middleware(&httpidem.Config{Methods: []string{"POST", "PATCH", "PUT"}}).Handler(h))
	wantStatus(t, post(t, server.URL+"/a/b?c=d", "k", ""), http.StatusCreated)
	for _, c := range []struct{ method, target string }{
		{"POST", "/a"},
		{"POST", "/a/b"},
		{"POST", "/a/b?c=d&"},
		{"POST", "/a/b/?c=d"},
		{"POST", "/a%2Fb?c=d"},
		{"POST", "/a/./b?c=d"},
		{"PATCH", "/a/b?c=d"},
		{"PUT", "/a/b?c=d"},
	} {
		a := post(t, server.URL+c.target, "k", "", func(r *http.Request) { r.Method = c.method })
		wantStatus(t, a, http.StatusUnprocessableEntity)
	}
	if a := post(t, server.URL+"/a/b?c=d", "k", ""); !a.replayed() {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	h.ran(t, 1)
}

// TestS4_FingerprintsAreKeyed checks that a reader of Redis cannot compute the stored fingerprint
// of a request without the secret.
func TestS4_FingerprintsAreKeyed(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, secret := range []string{"", strings.Repeat("a", 16), strings.Repeat("b", 16)} {
		s := newStore(t)
		var cfg redisidem.Config
		if secret != "" {
			var err error
			if cfg.FingerprintKeys, err = redisidem.NewFingerprintKeys([]byte(secret)); err != nil {
				t.Fatal(err)
			}
		}
		h := newMiddleware(t, s.service(cfg), nil).Handler(created("done"))
		for _, body := range []string{"1", "2"} {
			if w := call(h, newRequest(t.Context(), "key-"+body, body)); w.Code != http.StatusCreated {
				t.Fatalf("secret %q, body %q: status %d", secret, body, w.Code)
			}
		}
		for _, name := range s.redis.Keys() {
			stored := s.redis.HGet(name, "fingerprint")
			if other, taken := seen[stored]; taken || stored == "" {
				t.Errorf("secret %q has the fingerprint %q of secret %q", secret, stored, other)
			}
			seen[stored] = secret
		}
	}
	if len(seen) != 6 {
		t.Errorf("%d fingerprints are stored, want 6", len(seen))
	}
}

func TestS4_MismatchIsFoundOnEveryPath(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for name, svc := range map[string]*redisidem.Service{
		"store": s.service(redisidem.Config{Namespace: "one"}),
		"copy":  s.service(redisidem.Config{Namespace: "two", CacheBytes: 1 << 20}),
	} {
		h := newMiddleware(t, svc, &httpidem.Config{Wait: time.Second}).Handler(created("secret"))
		call(h, newRequest(t.Context(), "k", "1"))
		call(h, newRequest(t.Context(), "k", "1"))
		before := s.calls.Load()
		if w := call(h, newRequest(t.Context(), "k", "1")); w.Body.String() != "secret" || name == "copy" && s.calls.Load() != before {
			t.Errorf("%s: %d %s, %d calls", name, w.Code, w.Body, s.calls.Load()-before)
		}
		if w := call(h, newRequest(t.Context(), "k", "2")); w.Code != http.StatusUnprocessableEntity || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

// TestFingerprintIsADigestOfItsParts compares it with a digest of all parts at once, for parts of
// every length around the buffer's.
func TestFingerprintIsADigestOfItsParts(t *testing.T) {
	t.Parallel()
	for n := range 1100 {
		part := strings.Repeat("p", n)
		for name, add := range map[string]func(*httpidem.Digest){
			"text":  func(d *httpidem.Digest) { d.Text(part) },
			"bytes": func(d *httpidem.Digest) { d.Bytes([]byte(part)) },
		} {
			f := httpidem.Fingerprint{Func: func(d *httpidem.Digest, _ *http.Request, _ *httpidem.Body) error {
				add(d)
				d.Text("t")
				add(d)
				return nil
			}}
			r := httptest.NewRequest(http.MethodPost, "https://api.example:8443/a", http.NoBody)
			got, err := httpidem.FingerprintOf(f, r, nil)
			var all []byte
			for _, s := range []string{
				"redisidem/httpidem/fingerprint", "\x01", "POST", "https", "api.example:8443", "/a", part, "t", part,
			} {
				all = append(binary.BigEndian.AppendUint64(all, uint64(len(s))), s...)
			}
			want := sha256.Sum256(all)
			if err != nil || got != hex.EncodeToString(want[:]) {
				t.Fatalf("%s of %d bytes: %s, %v, want %x", name, n, got, err, want)
			}
		}
	}
}
