package httpidem_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// sources returns the key sources of texts such as "header:NAME query:NAME body:POINTER".
func sources(texts string) (all []httpidem.KeySource) {
	for _, text := range strings.Fields(texts) {
		kind, where, _ := strings.Cut(text, ":")
		switch kind {
		case "header":
			all = append(all, httpidem.KeySource{Header: where})
		case "query":
			all = append(all, httpidem.KeySource{Query: where})
		default:
			all = append(all, httpidem.KeySource{Body: where})
		}
	}
	return all
}

func TestKeySourcesThatAreRefused(t *testing.T) {
	t.Parallel()
	svc := newStore(t).service(redisidem.Config{})
	for _, c := range []struct {
		want string
		all  []httpidem.KeySource
	}{
		{"Config.Key.Sources must not be empty", []httpidem.KeySource{}},
		{"KeySource must have one of", []httpidem.KeySource{{}}},
		{"KeySource must have only one of", []httpidem.KeySource{{Header: "X", Query: "x"}}},
		{"KeySource must have only one of", []httpidem.KeySource{{Header: "X"}, {Query: "x", Body: "/x"}}},
		{"KeySource.Header must be the name", []httpidem.KeySource{{Header: "a b"}}},
		{"KeySource.Header must be a field", []httpidem.KeySource{{Header: "cookie"}}},
		{"KeySource.Header must be a field", []httpidem.KeySource{{Header: "Host"}}},
		{"KeySource.Body must be a JSON pointer", []httpidem.KeySource{{Body: "id"}}},
		{"Config.Key.Sources must have those in the body last", []httpidem.KeySource{{Body: "/id"}, {Query: "id"}}},
		{"KeySource.Body must be a JSON pointer", []httpidem.KeySource{{Body: "/a~2"}}},
		{"KeySource.Body must be a JSON pointer", []httpidem.KeySource{{Body: "/a~"}}},
	} {
		_, err := httpidem.New(svc, caller, &httpidem.Config{Key: httpidem.KeyConfig{Sources: c.all}})
		if !errors.Is(err, redisidem.ErrInvalid) || !strings.Contains(err.Error(), "httpidem."+c.want) {
			t.Errorf("%+v: %v, want %s", c.all, err, c.want)
		}
	}
}

// TestKeysAreFoundInTheirPlaces sends each request twice. The echo says which key was found.
func TestKeysAreFoundInTheirPlaces(t *testing.T) {
	t.Parallel()
	const noKey, bad = "no key", "malformed"
	svc := newStore(t).service(redisidem.Config{})
	for i, c := range []struct {
		sources, target, header, body string // the header is NAME: VALUE
		want                          string
	}{
		{"header:x-github-delivery", "/", "X-GitHub-Delivery: 72d3", "", "72d3"},
		{"header:X-Github-Delivery", "/", `X-GitHub-Delivery: "72d3"`, "", `"72d3"`},
		{"header:X-Github-Delivery", "/", "X-GitHub-Delivery: a, b", "", bad},
		{"header:X-Github-Delivery", "/", "Idempotency-Key: 72d3", "", noKey},
		{"header:A header:B", "/", "B: two", "", "two"},
		{"header:A header:B", "/", "A: one\nB: two", "", "one"},
		{"header:A header:B", "/", "A:\nB: two", "", bad},
		{"header:A query:k body:/id", "/?k=two", "", `{"id":"three"}`, `"two"`},
		{"header:A query:k body:/id", "/", "", `{"id":"three"}`, `"three"`},
		{"query:event_id", "/?event_id=e+1", "", "", `"e 1"`},
		{"query:event_id", "/?event_id=e1&event_id=e1", "", "", bad},
		{"query:event_id", "/?event_id=", "", "", bad},
		{"query:event_id", "/?event_id=%20", "", "", bad},
		{"query:event_id", "/?event_id=%C3%A9", "", "", bad},
		{"query:event_id", "/?event_id=" + strings.Repeat("x", 256), "", "", bad},
		{"query:event_id", "/?other=%zz&event_id=e1", "", "", `"e1"`},
		{"query:event_id", "/?EVENT_ID=e1", "", "", noKey},
		{"query:event_id", "/?other=a;b&event_id=e1", "", "", `"e1"`},
		{"query:event_id", "/?event_id=a;b", "", "", bad},
		{"query:event_id", "/?event_id=%zz&event_id=e1", "", "", bad},
		{"body:/id", "/", "Content-Type: application/json", "\xef\xbb\xbf{\"id\":\"a\"}", bad},
		{"body:/id", "/", "Content-Type: application/cloudevents+json", `{"id":`, bad},
		{"body:/id", "/", "Content-Type: application/json", "", noKey},
		{"body:/id", "/", "Content-Encoding: gzip", "\x1f\x8b", bad},
		{"body:/id", "/", "Content-Encoding: identity", "id=a", noKey},
		{"body:/id", "/", "", ` {"id": "evt_1"} `, `"evt_1"`},
		{"body:/id", "/", "", `{"id":"e\u0076t \"1\""}`, `"evt \"1\""`},
		{"body:/id", "/", "", `{"id":12345678901234567890}`, `"12345678901234567890"`},
		{"body:/id", "/", "", `{"id":-7}`, `"-7"`},
		{"body:/id", "/", "", `{"id":1.5}`, bad},
		{"body:/id", "/", "", `{"id":1e3}`, bad},
		{"body:/id", "/", "", `{"id":true}`, bad},
		{"body:/id", "/", "", `{"id":{}}`, bad},
		{"body:/id", "/", "", `{"id":""}`, bad},
		{"body:/id", "/", "", `{"id":"é"}`, bad},
		{"body:/id", "/", "", "{\"id\":\"\xff\"}", bad},
		{"body:/id", "/", "", `{"id":"a","id":"b"}`, bad},
		{"body:/id", "/", "", `{"id":"a","\u0069d":"b"}`, bad},
		{"body:/id", "/", "", `{"id":"a","x":{"id":"b","y":1,"y":2}}`, `"a"`},
		{"body:/id", "/", "", `{"id":null}`, noKey},
		{"body:/id", "/", "", `{"ID":"a"}`, noKey},
		{"body:/id", "/", "", `{"id":"a"} {}`, noKey},
		{"body:/id", "/", "", `id=a`, noKey},
		{"body:/id", "/", "", ``, noKey},
		{"body:/id", "/", "", `"id"`, noKey},
		{"body:/data/object/id", "/", "", `{"id":"x","data":{"object":{"id":"in_1"}}}`, `"in_1"`},
		{"body:/data/object/id", "/", "", `{"data":"object"}`, noKey},
		{"body:/0/id", "/", "", `[{"id":"a"},{"id":"b"}]`, `"a"`},
		{"body:/1/id", "/", "", `[{"id":"a"},{"id":"b"}]`, `"b"`},
		{"body:/01/id", "/", "", `[{"id":"a"},{"id":"b"}]`, noKey},
		{"body:/-/id", "/", "", `[{"id":"a"}]`, noKey},
		{"body:/a~1b/c~0d/~01", "/", "", `{"a/b":{"c~d":{"~1":"deep"}}}`, `"deep"`},
		{"body:/", "/", "", `{"":"empty name"}`, `"empty name"`},
	} {
		m := newMiddleware(t, svc, &httpidem.Config{Key: httpidem.KeyConfig{Sources: sources(c.sources), Optional: true}})
		var seen string
		h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			seen = string(body)
			w.WriteHeader(http.StatusCreated)
		}))
		for again := range 2 {
			seen = "nothing"
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, c.target, strings.NewReader(c.body))
			r.Header.Set(callerHeader, strconv.Itoa(i)) // each has a scope of its own
			for line := range strings.Lines(c.header) {
				name, value, _ := strings.Cut(line, ":")
				r.Header.Add(name, strings.TrimSpace(value))
			}
			w := call(h, r)
			got := w.Header().Get("Idempotency-Key")
			replayed := w.Header().Get("Idempotency-Replayed") == "true"
			switch {
			case w.Code == http.StatusBadRequest:
				got = bad
			case got == "" && !replayed:
				got = noKey
			}
			if got != c.want || replayed != (again > 0 && c.want != noKey && c.want != bad) {
				t.Errorf("%s: %s %s %s: %s (replayed %v), want %s", c.sources, c.target, c.header, c.body, got, replayed, c.want)
			}
			if runs := c.want != bad && !replayed; runs && seen != c.body || !runs && seen != "nothing" {
				t.Errorf("%s: %s %s: the handler saw the body %q", c.sources, c.target, c.body, seen)
			}
		}
	}
}

func TestMissingKeysNameTheirPlaces(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(&httpidem.Config{Key: httpidem.KeyConfig{Sources: sources("header:X-Event query:event body:/id")}})
	w := call(m.Handler(created("done")), newRequest(t.Context(), "k", "{}"))
	const want = "in the header field X-Event, or in the query parameter event, or in the JSON body at /id."
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), want) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if p := m.Policy(); len(p.Sources) != 3 || p.Sources[2].Body != "/id" {
		t.Errorf("the policy is %+v", p)
	}
}

// TestBodiesThatAreReadForTheKeyAreBounded sends bodies that are too large, or break off.
func TestBodiesThatAreReadForTheKeyAreBounded(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	m := s.middleware(&httpidem.Config{MaxBodyBytes: 20, Key: httpidem.KeyConfig{Sources: sources("body:/id"), Optional: true}})
	h := counting(created("done"))
	before := s.calls.Load()
	wantStatus := func(body io.Reader, want int) {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", body)
		r.Header.Set(callerHeader, "shop")
		if w := call(m.Handler(h), r); w.Code != want {
			t.Errorf("the status is %d, want %d: %s", w.Code, want, w.Body)
		}
	}
	wantStatus(strings.NewReader(`{"id":"`+strings.Repeat("x", 20)+`"}`), http.StatusRequestEntityTooLarge)
	wantStatus(io.MultiReader(strings.NewReader(`{"id"`), brokenReader{}), http.StatusBadRequest)
	if s.calls.Load() != before {
		t.Error("the store was asked")
	}
	h.ran(t, 0)
	wantStatus(strings.NewReader("{}"), http.StatusCreated)
	h.ran(t, 1)
}

// TestBodiesAreReadOnlyForCallersThatMayUseAKey looks how much of a body was read for a request
// that is refused, or has its key elsewhere.
func TestBodiesAreReadOnlyForCallersThatMayUseAKey(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, target, caller string
		cfg                  httpidem.Config
		want                 int
	}{
		{"no scope", "/", "", httpidem.Config{}, http.StatusForbidden},
		{"no rights", "/", "shop", httpidem.Config{Authorize: func(*http.Request) error { return errors.New("not allowed") }}, http.StatusForbidden},
		{"over its quota", "/", "shop", httpidem.Config{Quota: noRoom{}}, http.StatusTooManyRequests},
		{"a malformed key elsewhere", "/?id=", "shop", httpidem.Config{}, http.StatusBadRequest},
	} {
		c.cfg.Key = httpidem.KeyConfig{Sources: sources("query:id body:/id"), Optional: true}
		m, err := httpidem.New(newStore(t).service(redisidem.Config{}), func(r *http.Request) (string, error) {
			if name := r.Header.Get(callerHeader); name != "" {
				return name, nil
			}
			return "", errors.New("unknown")
		}, &c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		body := strings.NewReader(`{"id":"evt_1"}`)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, c.target, body)
		r.Header.Set(callerHeader, c.caller)
		if w := call(m.Handler(created("done")), r); w.Code != c.want || body.Len() != int(body.Size()) {
			t.Errorf("%s: the status is %d, want %d, and %d bytes of %d are unread", c.name, w.Code, c.want, body.Len(), body.Size())
		}
	}
}

// TestRequestsWithoutAKeyInTheirBodyFreeTheQuota sends more of them than may be in flight.
func TestRequestsWithoutAKeyInTheirBodyFreeTheQuota(t *testing.T) {
	t.Parallel()
	quota := &bounded{inFlight: 1, stored: 1}
	m := newStore(t).middleware(&httpidem.Config{Quota: quota, Key: httpidem.KeyConfig{Sources: sources("body:/id"), Optional: true}})
	for range 3 {
		for _, c := range []struct {
			body string
			want int
		}{{"{}", http.StatusCreated}, {`{"id":1.5}`, http.StatusBadRequest}} {
			if w := call(m.Handler(created("done")), newRequest(t.Context(), "ignored", c.body)); w.Code != c.want {
				t.Errorf("%s: %d %s", c.body, w.Code, w.Body)
			}
		}
	}
}

// noRoom is a Quota that is used up.
type noRoom struct{}

func (noRoom) Admit(context.Context, string) (func(bool), error) {
	return nil, &httpidem.QuotaError{What: "keys"}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestPrefixesSeparateKeys sends the same natural key to two routes of a scope.
func TestPrefixesSeparateKeys(t *testing.T) {
	t.Parallel()
	svc := newStore(t).service(redisidem.Config{})
	for _, prefix := range []string{"orders:", "refunds:"} {
		m := newMiddleware(t, svc, &httpidem.Config{Key: httpidem.KeyConfig{Sources: sources("body:/id"), Prefix: prefix}})
		h := counting(created(prefix))
		for range 2 {
			w := call(m.Handler(h), newRequest(t.Context(), "ignored", `{"id":17,"for":"`+prefix+`"}`))
			if w.Code != http.StatusCreated || w.Body.String() != prefix || w.Header().Get("Idempotency-Key") != `"17"` {
				t.Errorf("%s: %d %v %s", prefix, w.Code, w.Header(), w.Body)
			}
		}
		h.ran(t, 1)
		if key, err := svc.Scope("alice").Retrieve(t.Context(), prefix+"17"); err != nil || !key.Finished() {
			t.Errorf("%s: %+v %v", prefix, key, err)
		}
	}
}

func TestFlowsReadKeysFromBodies(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(&httpidem.Config{Key: httpidem.KeyConfig{Sources: sources("body:/id")}})
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "f", Version: 1, Stages: []redisidem.FlowStage{
		{Point: redisidem.Started, Work: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Finish(redisidem.Response{Code: http.StatusOK, Body: st.Key().Params}), nil
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := m.Flow(flow, func(_ *http.Request, body []byte) (any, error) { return body, nil })
	if err != nil {
		t.Fatal(err)
	}
	for again := range 2 {
		r := newRequest(t.Context(), "ignored", `{"id":"evt_1"}`)
		w := call(h, r)
		if w.Code != http.StatusOK || w.Body.String() != `{"id":"evt_1"}` || (w.Header().Get("Idempotency-Replayed") == "true") != (again > 0) {
			t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
		}
	}
}
