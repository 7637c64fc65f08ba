package httpidem_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestS1_TwoTenantsWithTheSameKeyAreTwoExecutions(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(nil)
	h := counting(func(w http.ResponseWriter, r *http.Request) { created("for "+r.Header.Get(callerHeader))(w, r) })
	server := serve(t, m.Handler(h))
	for range 2 {
		for _, name := range []string{"alice", "bob"} {
			a := post(t, server.URL, "k", "same", func(r *http.Request) { r.Header.Set(callerHeader, name) })
			if a.body != "for "+name {
				t.Errorf("%s got %q", name, a.body)
			}
		}
	}
	h.ran(t, 2)
}

func TestS1_ScopeIsNeverShared(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	svc := s.service(redisidem.Config{})
	revoked := errors.New("revoked")
	for _, c := range []struct {
		name   string
		scope  httpidem.ScopeFunc
		status int
	}{
		{"empty", func(*http.Request) (string, error) { return "", nil }, http.StatusInternalServerError},
		{"too long", func(*http.Request) (string, error) { return strings.Repeat("x", 256), nil }, http.StatusInternalServerError},
		{"refused", func(*http.Request) (string, error) { return "alice", revoked }, http.StatusForbidden},
	} {
		seen := &results{}
		m, err := httpidem.New(svc, c.scope, &httpidem.Config{Observer: seen.observe})
		if err != nil {
			t.Fatal(err)
		}
		h := counting(created("done"))
		w := call(m.Handler(h), newRequest(t.Context(), "k", "b"))
		if w.Code != c.status || strings.Contains(w.Body.String(), "revoked") {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
		if e := seen.last(t); e.Err == nil || c.name == "refused" && !errors.Is(e.Err, revoked) {
			t.Errorf("%s: %+v", c.name, e)
		}
		h.ran(t, 0)
	}
	if n := s.calls.Load(); n != 0 {
		t.Errorf("the store was asked %d times", n)
	}
	if _, err := httpidem.New(svc, nil, nil); !errors.Is(err, redisidem.ErrInvalid) {
		t.Errorf("no scope function: %v", err)
	}
}

func TestS2_RevokedCallerDoesNotGetTheStoredAnswer(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(nil)
	revoked := false
	auth := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if revoked {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		m.Handler(created("secret")).ServeHTTP(w, r)
	})
	if w := call(auth, newRequest(t.Context(), "k", "")); w.Body.String() != "secret" {
		t.Fatal(w)
	}
	revoked = true
	if w := call(auth, newRequest(t.Context(), "k", "")); w.Code != http.StatusUnauthorized || w.Body.Len() > 0 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestS1_UnscopedIsOneScope(t *testing.T) {
	t.Parallel()
	m, err := httpidem.New(newStore(t).service(redisidem.Config{}), httpidem.Unscoped, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := counting(created("done"))
	for _, name := range []string{"alice", "bob"} {
		r := newRequest(t.Context(), "k", "")
		r.Header.Set(callerHeader, name)
		call(m.Handler(h), r)
	}
	h.ran(t, 1)
}

func TestS7_OnlyAllowedFieldsAreReplayed(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	m := s.middleware(&httpidem.Config{Response: httpidem.ResponseConfig{KeepHeaders: []string{"x-order", "X-Hop"}}})
	sent := http.Header{
		"Content-Type": {"text/x"}, "Location": {"/1"}, "Etag": {`"1"`}, "Vary": {"Origin", "Accept"}, "Content-Encoding": {"br"},
		"Content-Language": {"en"}, "Content-Disposition": {"inline"}, "Retry-After": {"7"}, "Link": {"<a>; rel=a, <b>; rel=b", "<c>; rel=c"},
		"X-Order": {"1", "2"}, "X-Content-Type-Options": {"nosniff"}, "Content-Security-Policy": {"sandbox"},
	}
	dropped := http.Header{
		"Set-Cookie": {"canary=1"}, "Www-Authenticate": {"canary"}, "Authorization": {"canary"}, "Proxy-Authenticate": {"canary"},
		"Date": {"canary"}, "X-Request-Id": {"canary"}, "Access-Control-Allow-Origin": {"canary"}, "Server": {"canary"},
		"Alt-Svc": {"canary"}, "Idempotency-Replayed": {"canary"}, "Keep-Alive": {"canary"}, "X-Hop": {"canary"},
		"Connection": {"close, X-Hop"}, "Cache-Control": {"public, max-age=1, canary"}, "Redisidem-Not-Kept": {"canary"},
	}
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		maps.Copy(w.Header(), sent)
		maps.Copy(w.Header(), dropped)
		w.WriteHeader(http.StatusAccepted)
	}))
	outer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Expose-Headers", "X-Outer, idempotency-key")
		w.Header().Set("Vary", "Origin")
		h.ServeHTTP(w, r)
	})
	first, again := call(outer, newRequest(t.Context(), "k", "")), call(outer, newRequest(t.Context(), "k", ""))
	for name, values := range sent {
		if !slices.Equal(first.Header()[name], values) || !slices.Equal(again.Header()[name], values) {
			t.Errorf("%s: first %q, replayed %q", name, first.Header()[name], again.Header()[name])
		}
	}
	if text := fmt.Sprint(again.Header()); strings.Contains(text, "canary") {
		t.Errorf("replayed %v", text)
	}
	if text := s.redis.Dump(); strings.Contains(text, "canary") {
		t.Errorf("stored %v", text)
	}
	for _, w := range []*httptest.ResponseRecorder{first, again} {
		exposed := w.Header()["Access-Control-Expose-Headers"]
		if !slices.Equal(exposed, []string{"X-Outer, idempotency-key", "Idempotency-Replayed"}) {
			t.Errorf("exposed: %q", exposed)
		}
	}
	if again.Header().Get("Cache-Control") != "no-store" || again.Header().Get("Idempotency-Replayed") != "true" || first.Header()["Idempotency-Replayed"] != nil {
		t.Errorf("first %v, replayed %v", first.Header(), again.Header())
	}
}

func TestS7_FieldsThatWerePlantedInTheStoreAreNotSent(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	h := s.middleware(nil).Handler(created("done"))
	call(h, newRequest(t.Context(), "k", ""))
	for _, k := range s.redis.Keys() {
		s.redis.HSet(k, "response_headers", "Set-Cookie: a=1\r\nX-Fine: 1\r\nTransfer-Encoding: chunked\r\n")
	}
	w := call(h, newRequest(t.Context(), "k", ""))
	if w.Code != http.StatusCreated || w.Header()["Set-Cookie"] != nil || w.Header()["Transfer-Encoding"] != nil || w.Header().Get("X-Fine") != "1" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestFieldsAreStoredAsTheyWereSent(t *testing.T) {
	t.Parallel()
	h := newStore(t).middleware(nil).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Link"] = []string{" <a>\r\nSet-Cookie: b=1 ", "nul\x00"}
	}))
	call(h, newRequest(t.Context(), "k", ""))
	w := call(h, newRequest(t.Context(), "k", ""))
	if got := w.Header()["Link"]; w.Code != http.StatusOK || !slices.Equal(got, []string{"<a>  Set-Cookie: b=1"}) {
		t.Errorf("%d %q", w.Code, got)
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

// The canaries are in everything that must stay secret. Each is a text of its own, so that a leak
// says what leaked.
const (
	canaryKey    = "CANARYKEY"
	canaryScope  = "CANARYSCOPE"
	canaryBody   = "CANARYBODY"
	canaryToken  = "CANARYTOKEN"
	canaryQuery  = "CANARYQUERY"
	canaryAnswer = "CANARYANSWER"
)

// trail collects everything that is written about requests.
type trail struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (tr *trail) Write(p []byte) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.text.Write(p)
}

func (tr *trail) Observe(_ context.Context, e redisidem.Event) {
	_, _ = fmt.Fprintf(tr, "%+v %#v\n", e, e)
}

func (tr *trail) observe(_ context.Context, e httpidem.Event) {
	_, _ = fmt.Fprintf(tr, "%+v %#v\n", e, e)
}

func (tr *trail) mustBeClean(t *testing.T, what string) {
	t.Helper()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for line := range strings.Lines(tr.text.String()) {
		if strings.Contains(line, "CANARY") {
			t.Errorf("%s: %s", what, line)
		}
	}
}

func TestS11_NothingSecretIsDisclosed(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	written := &trail{}
	svc := s.service(redisidem.Config{
		Timeout: 100 * time.Millisecond, Observer: written, Logger: slog.New(slog.NewTextHandler(written, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	serveCanary := func(cfg httpidem.Config, h http.HandlerFunc) string {
		cfg.Observer = written.observe
		server := httptest.NewUnstartedServer(newMiddleware(t, svc, &cfg).Handler(h))
		server.Config.ErrorLog = log.New(written, "", 0)
		server.Start()
		t.Cleanup(server.Close)
		return server.URL + "/path?q=" + canaryQuery
	}
	// send makes the problem's text a part of the trail. Only the echo of the key is the client's
	// own.
	send := func(url, key, body string) answer {
		t.Helper()
		a, err := try(t.Context(), url, key, body, func(r *http.Request) {
			r.Header.Set(callerHeader, canaryScope)
			r.Header.Set("Authorization", "Bearer "+canaryToken)
		})
		if err != nil {
			return a // a panic
		}
		if a.Header.Get("Content-Type") == "application/problem+json" {
			a.Header.Del("Idempotency-Key")
			_, _ = fmt.Fprintf(written, "%d %v %s\n", a.StatusCode, a.Header, a.body)
		}
		return a
	}
	keyed := canaryKey + "-1"
	plain := serveCanary(httpidem.Config{}, created(canaryAnswer))
	send(plain, keyed, canaryBody)
	send(plain, keyed, canaryBody)
	send(plain, keyed, "other "+canaryBody)
	send(plain, "\""+canaryKey, canaryBody)
	send(plain, canaryKey+", b", canaryBody)
	send(plain, strings.Repeat(canaryKey, 100), canaryBody)
	send(serveCanary(httpidem.Config{Key: httpidem.KeyConfig{Check: httpidem.UUIDKeys}}, created("")), canaryKey, canaryBody)
	send(serveCanary(httpidem.Config{MaxBodyBytes: 3}, created("")), canaryKey, canaryBody)
	send(serveCanary(httpidem.Config{}, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }), canaryKey+"-2", canaryBody)
	send(serveCanary(httpidem.Config{}, func(http.ResponseWriter, *http.Request) { panic("x") }), canaryKey+"-3", canaryBody)
	used := &bounded{stored: 1}
	for i := range 3 {
		send(serveCanary(httpidem.Config{Quota: used}, created(canaryAnswer)), canaryKey+"-quota-"+strconv.Itoa(i), canaryBody)
	}
	send(serveCanary(httpidem.Config{Authorize: func(*http.Request) error {
		return &httpidem.DeniedError{Status: http.StatusUnauthorized}
	}}, created(canaryAnswer)), canaryKey, canaryBody)
	send(serveCanary(httpidem.Config{}, func(w http.ResponseWriter, r *http.Request) {
		httpidem.NothingDone(r.Context())
		w.WriteHeader(http.StatusServiceUnavailable)
	}), canaryKey+"-nothing", canaryBody)
	send(serveCanary(httpidem.Config{Response: httpidem.ResponseConfig{Drop: true}}, created(canaryAnswer)), canaryKey+"-4", canaryBody)
	send(serveCanary(httpidem.Config{Response: httpidem.ResponseConfig{Drop: true}}, created(canaryAnswer)), canaryKey+"-4", canaryBody)
	send(serveCanary(httpidem.Config{}, func(w http.ResponseWriter, r *http.Request) {
		if url := plain; r.ContentLength > 0 {
			send(url, canaryKey+"-5", canaryBody) // in flight
		}
		w.WriteHeader(http.StatusCreated)
	}), canaryKey+"-5", canaryBody)
	if text := s.redis.Dump(); strings.Contains(text, canaryBody) || strings.Contains(text, canaryToken) || strings.Contains(text, canaryQuery) {
		t.Errorf("stored:\n%s", text)
	}
	for _, k := range s.redis.Keys() {
		_, _ = fmt.Fprintln(written, "key in Redis:", k)
	}
	send(serveCanary(httpidem.Config{}, func(w http.ResponseWriter, _ *http.Request) {
		s.sever()
		w.WriteHeader(http.StatusCreated)
	}), canaryKey+"-6", canaryBody)
	send(plain, canaryKey+"-7", canaryBody)
	send(serveCanary(httpidem.Config{FailOpen: true}, created("")), canaryKey+"-7", canaryBody)
	s.heal()
	for _, k := range s.redis.Keys() {
		s.redis.HSet(k, "control", "garbage")
	}
	for send(plain, keyed, canaryBody).StatusCode == http.StatusServiceUnavailable {
		runtime.Gosched() // the client has not found out yet that the server is back
	}
	written.mustBeClean(t, "written")

	written.mu.Lock()
	defer written.mu.Unlock()
	for _, want := range []string{"mismatch", "committed", "replayed", "redis unavailable", "damaged record", "over-quota", "not-allowed"} {
		if !strings.Contains(strings.ToLower(written.text.String()), strings.ToLower(want)) {
			t.Errorf("the trail misses %q: is it connected?", want)
		}
	}
}

func TestS6_RequestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(&httpidem.Config{MaxBodyBytes: 10})
	h := counting(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		_, again := r.Body.Read(make([]byte, 1))
		second, bodyErr := r.GetBody()
		if bodyErr != nil {
			t.Error(bodyErr)
			return
		}
		copied, _ := io.ReadAll(second)
		_, _ = fmt.Fprintf(w, "%q %v %v %q %d %v", body, err, again, copied, r.ContentLength, r.Trailer)
	})
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Outer-Limit") != "" {
			r.Body = http.MaxBytesReader(w, r.Body, 3)
		}
		m.Handler(h).ServeHTTP(w, r)
	}))
	if a := post(t, server.URL, "a", "\x00\xff binary"); a.body != `"\x00\xff binary" <nil> EOF "\x00\xff binary" 9 map[]` {
		t.Error(a.body)
	}
	chunked := func(r *http.Request) { r.ContentLength = -1 }
	if a := post(t, server.URL, "b", "0123456789", chunked); a.body != `"0123456789" <nil> EOF "0123456789" -1 map[]` {
		t.Error(a.body)
	}
	// The length that was announced is no part of the request's meaning.
	if a := post(t, server.URL, "b", "0123456789"); !a.replayed() {
		t.Error(a.body)
	}
	h.ran(t, 2)
	wantStatus(t, post(t, server.URL, "c", "0123456789X"), http.StatusRequestEntityTooLarge)
	wantStatus(t, post(t, server.URL, "c", "0123456789X", chunked), http.StatusRequestEntityTooLarge)
	wantStatus(t, post(t, server.URL, "c", "0123", func(r *http.Request) { r.Header.Set("X-Outer-Limit", "1") }), http.StatusRequestEntityTooLarge)
	h.ran(t, 2)
	// None of these bound the key.
	if a := post(t, server.URL, "c", "fits"); a.StatusCode != http.StatusOK || a.replayed() {
		t.Error(a.body)
	}
}

func TestTruncatedBodyIsRefused(t *testing.T) {
	t.Parallel()
	h := counting(created("done"))
	r := newRequest(t.Context(), "k", "")
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader("half"), broken{}))
	w := call(newStore(t).middleware(nil).Handler(h), r)
	if w.Code != http.StatusBadRequest {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	h.ran(t, 0)
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestOuterHandlersSeePatternAndForm(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseMultipartForm(1); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusCreated)
	})
	r := newRequest(t.Context(), "k", "--b\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\ncontent\r\n--b--\r\n")
	r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	call(newStore(t).middleware(nil).Handler(mux), r)
	if r.Pattern != "POST /orders" || r.MultipartForm == nil {
		t.Errorf("pattern %q, form %v", r.Pattern, r.MultipartForm)
	}
	if r.MultipartForm != nil {
		_ = r.MultipartForm.RemoveAll()
	}
}
