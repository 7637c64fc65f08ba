package httpidem_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

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
		Timeout: 2 * time.Second, Observer: written, Logger: slog.New(slog.NewTextHandler(written, &slog.HandlerOptions{Level: slog.LevelDebug})),
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
