package adaptertest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/internal/httpclause"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// Framework is a web framework with its adapter.
type Framework struct {
	// Serve serves an app with the framework.
	Serve ServeFunc
	// ServeHandler serves a net/http handler for all paths and methods behind the adapter. It must
	// accept a key of 10,000 bytes.
	ServeHandler func(t *testing.T, m *httpidem.Middleware, h http.Handler) (url string)
	// SurvivesPanics reports whether the server of the framework recovers from a panic that reaches
	// it, and closes the connection.
	SurvivesPanics bool
}

// Run runs the suite that every adapter must pass.
func Run(t *testing.T, f Framework) {
	t.Helper()
	for name, test := range map[string]func(t *testing.T, f Framework){
		"Draft":             draft,
		"Routing":           func(t *testing.T, f Framework) { Routing(t, f.Serve) },
		"Recovery":          func(t *testing.T, f Framework) { Panics(t, f.Serve) },
		"Panics":            panics,
		"Bodies":            func(t *testing.T, f Framework) { Bodies(t, f.Serve) },
		"Refusals":          refusals,
		"InFlight":          inFlight,
		"ClientDisconnects": clientDisconnects,
		"StoreDown":         storeDown,
		"Compression":       compression,
		"Webhooks":          webhooks,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, f)
		})
	}
}

// open serves an app with one handler behind an adapter.
func (f Framework) open(t *testing.T, cfg *httpidem.Config, handler func(Call) error, app App) *Shop {
	t.Helper()
	s := NewShop(t, cfg)
	app.Adapter = s.Adapter
	app.Routes = map[string]func(Call) error{"/orders": func(c Call) error {
		s.Runs.Add(1)
		return handler(c)
	}}
	s.URL = f.Serve(t, app) + "/orders"
	return s
}

func done(c Call) error { return c.Write(200, "done") }

// draft runs the clauses of package httpclause.
func draft(t *testing.T, f Framework) {
	httpclause.Run(t, func(t *testing.T, o httpclause.Options, backend http.Handler) *httpclause.Target {
		cfg := &httpidem.Config{
			Key: httpidem.KeyConfig{Strict: o.Strict, Optional: o.Optional}, Methods: o.Methods, PolicyURL: o.PolicyURL, PublishRetention: o.PublishRetention,
		}
		if o.UUIDs {
			cfg.Key.Check = httpidem.UUIDKeys
		}
		if o.Window > 0 {
			cfg.Key.Check = httpidem.KeysWithin(o.Window, o.Window)
		}
		if o.JSONFields != nil {
			cfg.Fingerprint.Func = httpidem.JSONFields(o.JSONFields...)
		}
		if o.KeepAll {
			cfg.Response.Status = httpidem.KeepAll
		}
		s := NewStore(t)
		return &httpclause.Target{
			URL:        f.ServeHandler(t, s.Middleware(cfg), backend),
			As:         func(r *http.Request, name string) { as(name)(r) },
			StoreCalls: func() int { return int(s.Calls.Load()) },
		}
	})
}

func refusals(t *testing.T, f Framework) {
	s := f.open(t, nil, func(c Call) error { return c.Write(200, c.Body()+" of "+c.Get(CallerHeader)) }, App{})
	first := s.Post("k", "a")
	WantStatus(t, s.Post("k", "b"), 422)
	WantStatus(t, s.Post("k", "a", WithoutKey), 400)
	WantStatus(t, s.Post(`"`, "a"), 400)
	WantStatus(t, s.Post("k", "a", as("")), 500)
	if bob := s.Post("k", "a", as("bob")); bob.Body != "a of bob" || bob.Replayed() {
		t.Errorf("bob got %q", bob.Body)
	}
	WantReplay(t, s.Post("k", "a"), first)
	s.WantRuns(2)
}

func inFlight(t *testing.T, f Framework) {
	running, release := make(chan struct{}), make(chan struct{})
	s := f.open(t, nil, func(c Call) error {
		close(running)
		<-release
		return done(c)
	}, App{})
	answered := make(chan Answer)
	go func() {
		a, err := Try(t.Context(), s.URL, "k", "")
		if err != nil {
			t.Error(err)
		}
		answered <- a
	}()
	<-running
	refused := s.Post("k", "")
	WantStatus(t, refused, 409)
	if refused.Header.Get("Retry-After") == "" {
		t.Error("the refusal has no Retry-After")
	}
	close(release)
	first := <-answered
	WantReplay(t, s.Post("k", ""), first)
	s.WantRuns(1)
}

func clientDisconnects(t *testing.T, f Framework) {
	running, release := make(chan struct{}), make(chan struct{})
	s := f.open(t, nil, func(c Call) error {
		close(running)
		<-release
		if err := c.Context.Err(); err != nil {
			t.Errorf("the handler's context has ended: %v", err)
		}
		return done(c)
	}, App{})
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := Try(ctx, s.URL, "k", "")
		gone <- err
	}()
	<-running
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the client got %v", err)
	}
	close(release)
	s.wantLater("done")
}

func panics(t *testing.T, f Framework) {
	broken := func(c Call) error {
		c.Header("X-Half", "1")
		_ = c.Write(200, "half an answer")
		panic("broken")
	}
	if f.SurvivesPanics {
		t.Run("NotRecovered", func(t *testing.T) {
			t.Parallel()
			s := f.open(t, nil, broken, App{})
			if a, err := Try(t.Context(), s.URL, "k", ""); err == nil {
				t.Errorf("got %d", a.StatusCode)
			}
			if n := s.Count(httpidem.ResultPanicked); n == 0 {
				t.Error("the panic was not counted")
			}
		})
	}
	t.Run("RecoveredBehind", func(t *testing.T) {
		t.Parallel()
		f.open(t, nil, func(Call) error { panic("broken") }, App{RecoversBehind: true}).WantEach(500)
	})
}

func storeDown(t *testing.T, f Framework) {
	t.Run("Closed", func(t *testing.T) {
		t.Parallel()
		s := f.open(t, nil, done, App{})
		s.Sever()
		WantStatus(t, s.Post("k", ""), 503)
		s.WantRuns(0)
		s.Heal()
		WantStatus(t, s.Post("k", ""), 200)
	})
	t.Run("Open", func(t *testing.T) {
		t.Parallel()
		s := f.open(t, &httpidem.Config{FailOpen: true}, func(c Call) error {
			c.Header("Idempotency-Replayed", "true")
			switch body := c.Body(); body {
			case "status":
				return c.Write(204, "")
			case "nothing":
				return nil
			default:
				return c.Write(201, body)
			}
		}, App{})
		s.Sever()
		for body, want := range map[string]struct {
			status int
			body   string
		}{"lamp": {201, "lamp"}, "status": {204, ""}, "nothing": {200, ""}} {
			t.Run(body, func(t *testing.T) {
				t.Parallel() // each waits for the store
				a := s.Post("k", body)
				if a.StatusCode != want.status || a.Body != want.body || a.Header.Get("Idempotency-Key") != "k" || a.Replayed() {
					t.Errorf("got %d %q %v, want %+v", a.StatusCode, a.Body, a.Header, want)
				}
			})
		}
	})
	t.Run("AfterTheWork", func(t *testing.T) {
		t.Parallel()
		var s *Shop
		s = f.open(t, nil, func(c Call) error {
			c.Header("X-Secret", "1")
			s.Sever()
			return done(c)
		}, App{})
		s.WantUnacknowledged()
	})
}

func compression(t *testing.T, f Framework) {
	text := strings.Repeat("ordered ", 500)
	s := f.open(t, nil, func(c Call) error {
		c.Header("Content-Type", "text/plain; charset=utf-8")
		return c.Write(200, text)
	}, App{Compresses: true})
	WantCompressed(t, s.URL, text)
	s.WantRuns(2)
}
