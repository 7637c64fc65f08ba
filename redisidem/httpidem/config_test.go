package httpidem_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemclient"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

func TestConfigErrorsNameFieldAndBound(t *testing.T) {
	t.Parallel()
	svc := newStore(t).service(redisidem.Config{MaxKeyBytes: 100, MaxValueBytes: 1000})
	for field, cfg := range map[string]httpidem.Config{
		"Config.Methods":              {Methods: []string{}},
		"Config.Key.Header":           {Key: httpidem.KeyConfig{Header: "a b"}},
		"Config.Key.MaxBytes":         {Key: httpidem.KeyConfig{MaxBytes: 101}},
		"Config.MaxBodyBytes":         {MaxBodyBytes: -1},
		"Config.Response.MaxBytes":    {Response: httpidem.ResponseConfig{MaxBytes: 1001}},
		"Config.MaxRetryAfter":        {MaxRetryAfter: time.Millisecond},
		"Config.MaxWaiting":           {MaxWaiting: -1},
		"Config.Profile":              {Profile: 9},
		"Config.Response.KeepHeaders": {Response: httpidem.ResponseConfig{KeepHeaders: []string{"set-cookie"}}},
		"Config.OtherFingerprints":    {OtherFingerprints: []httpidem.Fingerprint{{}}},
		"Config.PolicyURL":            {PolicyURL: "/relative"},
	} {
		_, err := httpidem.New(svc, httpidem.Unscoped, &cfg)
		var invalid *redisidem.InvalidError
		if !errors.As(err, &invalid) || invalid.Field != "httpidem."+field || invalid.Reason == "" {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, cfg := range []httpidem.Config{
		{Methods: []string{"PO ST"}},
		{Response: httpidem.ResponseConfig{KeepHeaders: []string{"Access-Control-Allow-Origin"}}},
		{Response: httpidem.ResponseConfig{KeepHeaders: []string{"Idempotency-Key"}}},
		{Response: httpidem.ResponseConfig{KeepHeaders: []string{"idempotent-replayed"}}},
		{Key: httpidem.KeyConfig{Header: "X-Key"}, Response: httpidem.ResponseConfig{KeepHeaders: []string{"x-key"}}},
		{PolicyURL: "https://a.example/#b"},
		{PolicyURL: "https://a.example/>"},
		{Response: httpidem.ResponseConfig{KeepHeaders: []string{"Redisidem-Not-Kept"}}},
		{Key: httpidem.KeyConfig{MaxBytes: -1}},
		{Response: httpidem.ResponseConfig{MaxBytes: -1}},
	} {
		if _, err := httpidem.New(svc, httpidem.Unscoped, &cfg); !errors.Is(err, redisidem.ErrInvalid) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
	if _, err := httpidem.New(nil, httpidem.Unscoped, nil); !errors.Is(err, redisidem.ErrInvalid) {
		t.Errorf("no service: %v", err)
	}
}

func TestFieldsThatMustNotBeStoredCannotBeAskedFor(t *testing.T) {
	t.Parallel()
	svc := newStore(t).service(redisidem.Config{})
	for _, name := range []string{
		"Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Authenticate", "Proxy-Connection", "Set-Cookie",
		"Set-Cookie2", "Date", "Age", "Content-Length", "Cache-Control", "Expires", "Authorization", "WWW-Authenticate", "Cookie", "Alt-Svc",
		"Server", "Access-Control-Allow-Credentials", "Idempotency-Replayed", "Idempotency-Key",
	} {
		_, err := httpidem.New(svc, httpidem.Unscoped, &httpidem.Config{Response: httpidem.ResponseConfig{KeepHeaders: []string{strings.ToLower(name)}}})
		if !errors.Is(err, redisidem.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := httpidem.New(svc, httpidem.Unscoped, &httpidem.Config{Response: httpidem.ResponseConfig{KeepHeaders: httpidem.DefaultKeepHeaders()}}); err != nil {
		t.Error(err)
	}
}

func TestPolicyHasTheValuesInForce(t *testing.T) {
	t.Parallel()
	svc := newStore(t).service(redisidem.Config{Retention: 48 * time.Hour})
	m := newMiddleware(t, svc, &httpidem.Config{Methods: []string{"put", "POST"}, PolicyURL: "https://a.example/", Key: httpidem.KeyConfig{Optional: true}})
	p := m.Policy()
	if p.Header != "Idempotency-Key" || !slices.Equal(p.Methods, []string{"POST", "PUT"}) || p.Required || p.Retention != 48*time.Hour ||
		p.MaxKeyBytes != 255 || p.MaxBodyBytes != 1<<20 || p.MaxResponseBytes != 1<<20 || p.Document != "https://a.example/" || p.Lease != 10*time.Second {
		t.Errorf("%+v", p)
	}
	if !slices.Contains(p.Kept, 404) || slices.Contains(p.Kept, 429) || slices.Contains(p.Kept, 500) {
		t.Errorf("kept: %v", p.Kept)
	}
}

func TestOptionalKeysPassAndGeneratedOnesAreReturned(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	h := counting(func(w http.ResponseWriter, r *http.Request) {
		if httpidem.Stage(r.Context()) == nil {
			w.WriteHeader(http.StatusAccepted)
		}
	})
	bare := func() *http.Request {
		r := newRequest(t.Context(), "", "b")
		r.Header.Del("Idempotency-Key")
		return r
	}
	optional := s.middleware(&httpidem.Config{Key: httpidem.KeyConfig{Optional: true}})
	if w := call(optional.Handler(h), bare()); w.Code != http.StatusAccepted || s.calls.Load() != 0 || optional.Count(httpidem.ResultBypassed) != 1 {
		t.Errorf("%d", w.Code)
	}
	generating := s.middleware(&httpidem.Config{Key: httpidem.KeyConfig{Generate: idemclient.NewKey}}).Handler(h)
	w := call(generating, bare())
	made := w.Header().Get("Idempotency-Key")
	if _, err := idemheader.Parse([]string{made}, true); err != nil || w.Code != http.StatusOK {
		t.Errorf("%d, key %q", w.Code, made)
	}
	if w := call(generating, newRequest(t.Context(), made, "b")); w.Header().Get(idemheader.Replayed) != "true" {
		t.Errorf("the key that was made does not work: %d %s", w.Code, w.Body)
	}
}

func TestKeysThatAreRefusedAreEchoedWhenTheyCanBeRead(t *testing.T) {
	t.Parallel()
	old := ulidAt(time.Now().Add(-2 * time.Hour))
	for _, c := range []struct {
		check      func(string) error
		sent, echo string
		result     httpidem.Result
	}{
		{httpidem.UUIDKeys, "readable", "readable", httpidem.ResultKeyRefused},
		{httpidem.UUIDKeys, ` "say \"readable\"";a=1`, `"say \"readable\""`, httpidem.ResultKeyRefused},
		{func(string) error { return errors.New("no") }, "readable", "readable", httpidem.ResultKeyRefused},
		{httpidem.KeysWithin(time.Hour, time.Hour), old, old, httpidem.ResultKeyOutOfWindow},
		{httpidem.UUIDKeys, `not "readable`, "", httpidem.ResultMalformed},
		{httpidem.UUIDKeys, strings.Repeat("x", 300), "", httpidem.ResultMalformed},
	} {
		m := newStore(t).middleware(&httpidem.Config{Key: httpidem.KeyConfig{Check: c.check}, PublishRetention: true})
		w := call(m.Handler(created("done")), newRequest(t.Context(), c.sent, ""))
		exposed := httpidem.InList(w.Header()["Access-Control-Expose-Headers"], "idempotency-key")
		if got := w.Header().Get("Idempotency-Key"); w.Code != http.StatusBadRequest || got != c.echo || exposed != (c.echo != "") {
			t.Errorf("%.30q: %d, echo %q, exposed %v", c.sent, w.Code, got, exposed)
		}
		if m.Count(c.result) != 1 || w.Header().Get(idemheader.Retention) == "" {
			t.Errorf("%.30q: %s %v", c.sent, w.Body, w.Header())
		}
	}
}

func TestOtherHeaderName(t *testing.T) {
	t.Parallel()
	h := newStore(t).middleware(&httpidem.Config{Key: httpidem.KeyConfig{Header: "x-request-token"}}).Handler(created("done"))
	w := call(h, newRequest(t.Context(), "k", ""))
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "X-Request-Token is missing") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	r := newRequest(t.Context(), "k", "")
	r.Header.Set("X-Request-Token", "k")
	if w := call(h, r); w.Code != http.StatusCreated || w.Header().Get("X-Request-Token") != "k" || w.Header()["Idempotency-Key"] != nil {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestProblemsCanBeWrittenByTheProgram(t *testing.T) {
	t.Parallel()
	seen := &results{}
	m := newStore(t).middleware(&httpidem.Config{
		Observer: seen.observe,
		WriteProblem: func(w http.ResponseWriter, _ *http.Request, p *httpidem.Problem) {
			http.Error(w, p.Result.String(), p.Status)
		},
	})
	r := newRequest(context.Background(), `"`, "")
	w := call(m.Handler(created("")), r)
	if w.Code != http.StatusBadRequest || w.Body.String() != "malformed\n" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	var syntax *idemheader.SyntaxError
	if e := seen.last(t); e.Result != httpidem.ResultMalformed || e.Status != 400 || !errors.As(e.Err, &syntax) {
		t.Errorf("%+v", e)
	}
}

func TestNamesOfResultsAndDispositions(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for r := httpidem.ResultBypassed; r <= httpidem.ResultPanicked; r++ {
		if s := r.String(); s == "" || s == "invalid" || seen[s] {
			t.Errorf("result %d is %q", r, s)
		}
		seen[r.String()] = true
	}
	if httpidem.Result(0).String() != "invalid" || httpidem.Result(99).String() != "invalid" || httpidem.Disposition(0).String() != "invalid" {
		t.Error("an invalid value has a name")
	}
	if httpidem.DispositionKeep.String() != "keep" || httpidem.DispositionRelease.String() != "release" || httpidem.DispositionUnknown.String() != "unknown" {
		t.Error("dispositions have other names")
	}
}
