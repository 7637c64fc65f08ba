package echoidem_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/labstack/echo/v5"
	"github.com/labstack/echo/v5/middleware"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/contrib/echoidem"
	"github.com/redisidem/redisidem/internal/adaptertest"
	"github.com/redisidem/redisidem/internal/httpclause"
	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestMain(m *testing.M) {
	redis.SetLogger(adaptertest.Quiet{})
	leak.Main(m)
}

// newEcho makes a server that writes no log.
func newEcho() *echo.Echo {
	e := echo.New()
	e.Logger = slog.New(slog.DiscardHandler)
	return e
}

// TestDraft runs the clauses of the draft against an Echo server.
func TestDraft(t *testing.T) {
	t.Parallel()
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
		s := adaptertest.NewStore(t)
		e := newEcho()
		e.Use(echoidem.New(s.Middleware(cfg)))
		e.Any("/*", func(c *echo.Context) error {
			backend.ServeHTTP(c.Response(), c.Request())
			return nil
		})
		return &httpclause.Target{
			URL:        adaptertest.Serve(t, e).URL,
			As:         func(r *http.Request, name string) { r.Header.Set(adaptertest.CallerHeader, name) },
			StoreCalls: func() int { return int(s.Calls.Load()) },
		}
	})
}

// shop is a server whose handlers' runs are counted.
type shop struct {
	*adaptertest.Store
	echo *echo.Echo
	m    *httpidem.Middleware
	url  string
	runs atomic.Int64
}

// open serves one handler at /orders/:shelf. What stands in front of the middleware can be given.
func open(t *testing.T, cfg *httpidem.Config, handler echo.HandlerFunc, front ...echo.MiddlewareFunc) *shop {
	t.Helper()
	s := &shop{Store: adaptertest.NewStore(t), echo: newEcho()}
	s.m = s.Middleware(cfg)
	s.echo.Use(front...)
	s.echo.Use(echoidem.New(s.m))
	s.echo.POST("/orders/:shelf", func(c *echo.Context) error {
		s.runs.Add(1)
		return handler(c)
	})
	s.url = adaptertest.Serve(t, s.echo).URL + "/orders/7"
	return s
}

func (s *shop) ran(want int64) {
	s.Helper()
	if got := s.runs.Load(); got != want {
		s.Errorf("the handler ran %d times, want %d", got, want)
	}
}

func TestAnswersAreReplayed(t *testing.T) {
	t.Parallel()
	type order struct{ Item string }
	for name, answerWith := range map[string]echo.HandlerFunc{
		"JSON": func(c *echo.Context) error {
			return c.JSON(201, map[string]string{"shelf": c.Param("shelf"), "path": c.Path()})
		},
		"String":    func(c *echo.Context) error { return c.String(200, "ordered") },
		"Blob":      func(c *echo.Context) error { return c.Blob(202, "image/png", []byte{0x89, 'P', 0, 0xff}) },
		"Stream":    func(c *echo.Context) error { return c.Stream(200, "text/csv", strings.NewReader("a,b\n")) },
		"NoContent": func(c *echo.Context) error { return c.NoContent(204) },
		"Redirect":  func(c *echo.Context) error { return c.Redirect(303, "/elsewhere") },
		"Nothing":   func(*echo.Context) error { return nil },
		"Bound": func(c *echo.Context) error {
			var o order
			if err := c.Bind(&o); err != nil {
				return err
			}
			return c.JSON(200, o)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, nil, answerWith)
			kind := func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }
			first := adaptertest.Post(t, s.url, "k", `{"Item":"lamp"}`, kind)
			if first.StatusCode >= 400 {
				t.Errorf("got %d %q", first.StatusCode, first.Body)
			}
			adaptertest.WantReplay(t, adaptertest.Post(t, s.url, "k", `{"Item":"lamp"}`, kind), first)
			s.ran(1)
			if name == "Bound" && first.Body != "{\"Item\":\"lamp\"}\n" {
				t.Errorf("the handler did not get the body: %s", first.Body)
			}
		})
	}
}

func TestTheFirstAnswerIsTheHandlers(t *testing.T) {
	t.Parallel()
	var after int
	var before []string
	s := open(t, nil, func(c *echo.Context) error {
		inner, err := echo.UnwrapResponse(c.Response())
		if err != nil || inner.Committed || inner.Status != http.StatusOK {
			t.Errorf("a fresh response is %+v, %v", inner, err)
		}
		inner.Before(func() { before = append(before, "behind") })
		c.Response().Header().Set("X-Trace", "1")
		c.Response().Header().Set("Etag", `"v1"`)
		c.SetCookie(&http.Cookie{Name: "session", Value: "secret"})
		err = c.JSON(201, map[string]bool{"ok": true})
		if !inner.Committed || inner.Status != 201 || inner.Size == 0 {
			t.Errorf("a used response is %+v", inner)
		}
		return err
	}, func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) error {
			c.Response().Header().Set("X-Front", "front")
			outer, err := echo.UnwrapResponse(c.Response())
			if err != nil {
				return err
			}
			outer.Before(func() { before = append(before, "front") })
			err = next(c)
			after = outer.Status // the middleware in front sees the answer
			return err
		}
	})
	first := adaptertest.Post(t, s.url, "k", "")
	if strings.Join(before, " ") != "behind front" {
		t.Errorf("the hooks ran as %q", before)
	}
	again := adaptertest.Post(t, s.url, "k", "")
	adaptertest.WantReplay(t, again, first)
	for name, want := range map[string][2]string{
		"X-Trace": {"1", ""}, "Etag": {`"v1"`, `"v1"`}, "Set-Cookie": {"session=secret", ""}, "X-Front": {"front", "front"},
		"Idempotency-Key": {"k", "k"}, "Content-Type": {"application/json", "application/json"},
	} {
		if got := [2]string{first.Header.Get(name), again.Header.Get(name)}; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if after != 201 {
		t.Errorf("status %d for the middleware in front", after)
	}
}

func TestTheStageIsInTheContext(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c *echo.Context) error {
		if st := httpidem.Stage(c.Request().Context()); st == nil || st.Attempt() != 1 || st.OutboundKey("x") == "" {
			t.Error("there is no stage")
		}
		c.SetRequest(c.Request().WithContext(context.Background())) // must not reach the middleware in front
		return c.NoContent(200)
	}, func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) error {
			request, response := c.Request(), c.Response()
			err := next(c)
			if c.Request() != request || c.Response() != response {
				t.Error("the middleware in front has another request or response")
			}
			return err
		}
	})
	adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 200)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c *echo.Context) error {
		body, err := io.ReadAll(c.Request().Body)
		if err != nil {
			return err
		}
		return c.String(200, string(body)+" of "+c.Request().Header.Get(adaptertest.CallerHeader))
	})
	as := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(adaptertest.CallerHeader, name) }
	}
	first := adaptertest.Post(t, s.url, "k", "a")
	adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", "b"), 422)
	adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", "a", func(r *http.Request) { r.Header.Del("Idempotency-Key") }), 400)
	adaptertest.WantStatus(t, adaptertest.Post(t, s.url, `"`, "a"), 400)
	adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", "a", as("")), 500)
	bob := adaptertest.Post(t, s.url, "k", "a", as("bob"))
	if bob.Body != "a of bob" || bob.Replayed() {
		t.Errorf("bob got %q", bob.Body)
	}
	adaptertest.WantReplay(t, adaptertest.Post(t, s.url, "k", "a"), first)
	s.ran(2)
}

func TestInFlight(t *testing.T) {
	t.Parallel()
	running, release := make(chan struct{}), make(chan struct{})
	s := open(t, nil, func(c *echo.Context) error {
		close(running)
		<-release
		return c.String(200, "done")
	})
	done := make(chan adaptertest.Answer)
	go func() {
		a, err := adaptertest.Try(t.Context(), s.url, "k", "")
		if err != nil {
			t.Error(err)
		}
		done <- a
	}()
	<-running
	refused := adaptertest.Post(t, s.url, "k", "")
	adaptertest.WantStatus(t, refused, 409)
	if refused.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	close(release)
	first := <-done
	adaptertest.WantReplay(t, adaptertest.Post(t, s.url, "k", ""), first)
	s.ran(1)
}

func TestPanics(t *testing.T) {
	t.Parallel()
	broken := func(c *echo.Context) error {
		_, _ = io.WriteString(c.Response(), "half an answer")
		panic("broken")
	}
	t.Run("RecoveredInFront", func(t *testing.T) {
		t.Parallel()
		s := open(t, nil, broken, middleware.Recover())
		for range 2 {
			if a := adaptertest.Post(t, s.url, "k", ""); a.StatusCode != http.StatusInternalServerError || strings.Contains(a.Body, "half") || a.Replayed() {
				t.Errorf("got %d %q", a.StatusCode, a.Body)
			}
		}
		s.ran(2)
	})
	t.Run("NotRecovered", func(t *testing.T) {
		t.Parallel()
		s := open(t, nil, broken)
		if a, err := adaptertest.Try(t.Context(), s.url, "k", ""); err == nil {
			t.Errorf("got %d", a.StatusCode)
		}
		if n := s.Count(httpidem.ResultPanicked); n == 0 {
			t.Error("not counted")
		}
	})
	t.Run("NothingRunsTwice", func(t *testing.T) {
		t.Parallel()
		s := open(t, &httpidem.Config{Response: httpidem.ResponseConfig{Status: httpidem.KeepAll}}, broken, middleware.Recover())
		adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 500)
		adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 410)
		s.ran(1)
	})
	t.Run("RecoveredBehind", func(t *testing.T) {
		t.Parallel()
		s := &shop{Store: adaptertest.NewStore(t)}
		e := newEcho()
		e.Use(echoidem.New(s.Middleware(nil)), middleware.Recover())
		e.POST("/", func(*echo.Context) error { s.runs.Add(1); panic("broken") })
		url := adaptertest.Serve(t, e).URL
		adaptertest.WantStatus(t, adaptertest.Post(t, url, "k", ""), 500)
		adaptertest.WantStatus(t, adaptertest.Post(t, url, "k", ""), 500)
		s.ran(2)
	})
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handler echo.HandlerFunc
		status  int
		kept    bool
	}{
		"NotFound":    {func(*echo.Context) error { return echo.NewHTTPError(404, "no such shelf") }, 404, true},
		"Unavailable": {func(*echo.Context) error { return echo.NewHTTPError(503, "later") }, 503, false},
		"Plain":       {func(*echo.Context) error { return errors.New("secret") }, 500, false},
		"AfterTheAnswer": {func(c *echo.Context) error {
			return errors.Join(c.String(201, "ordered"), errors.New("the mail was not sent"))
		}, 201, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var seen atomic.Int64
			s := open(t, nil, c.handler, func(next echo.HandlerFunc) echo.HandlerFunc {
				return func(c *echo.Context) error {
					err := next(c)
					if err != nil {
						seen.Add(1)
					}
					return err
				}
			})
			first := adaptertest.Post(t, s.url, "k", "")
			adaptertest.WantStatus(t, first, c.status)
			again := adaptertest.Post(t, s.url, "k", "")
			if !c.kept {
				adaptertest.WantStatus(t, again, c.status)
				s.ran(2)
				return
			}
			adaptertest.WantReplay(t, again, first)
			s.ran(1)
			if seen.Load() != 1 {
				t.Errorf("the middleware in front has seen the error %d times", seen.Load())
			}
		})
	}
	t.Run("AHandlerOfErrorsThatWritesNothing", func(t *testing.T) {
		t.Parallel()
		s := open(t, nil, func(*echo.Context) error { return errors.New("no") })
		s.echo.HTTPErrorHandler = func(*echo.Context, error) {}
		adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 500)
		adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 500)
		s.ran(2)
	})
	t.Run("OfARequestThatIsNotProtected", func(t *testing.T) {
		t.Parallel()
		s := open(t, &httpidem.Config{Key: httpidem.KeyConfig{Optional: true}}, func(*echo.Context) error { return echo.NewHTTPError(404, "no such shelf") })
		adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "", "", func(r *http.Request) { r.Header.Del("Idempotency-Key") }), 404)
	})
}

func TestStoreDown(t *testing.T) {
	t.Parallel()
	t.Run("Closed", func(t *testing.T) {
		t.Parallel()
		s := open(t, nil, func(c *echo.Context) error { return c.String(200, "done") })
		s.Sever()
		adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 503)
		s.ran(0)
		s.Heal()
		adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 200)
	})
	t.Run("Open", func(t *testing.T) {
		t.Parallel()
		s := open(t, &httpidem.Config{FailOpen: true}, func(c *echo.Context) error {
			body, err := io.ReadAll(c.Request().Body)
			c.Response().Header().Set("Idempotency-Replayed", "true")
			switch string(body) {
			case "status":
				return c.NoContent(204)
			case "error":
				return echo.NewHTTPError(418, "no coffee")
			case "nothing":
				return nil
			}
			return errors.Join(err, c.String(201, string(body)))
		})
		s.Sever()
		for body, want := range map[string]struct {
			status int
			body   string
		}{"lamp": {201, "lamp"}, "status": {204, ""}, "nothing": {200, ""}, "error": {418, "{\"message\":\"no coffee\"}\n"}} {
			t.Run(body, func(t *testing.T) {
				t.Parallel() // each waits for the store
				a := adaptertest.Post(t, s.url, "k", body)
				if a.StatusCode != want.status || a.Body != want.body || a.Header.Get("Idempotency-Key") != "k" || a.Replayed() {
					t.Errorf("%s: got %d %q %v", body, a.StatusCode, a.Body, a.Header)
				}
			})
		}
	})
	t.Run("AfterTheWork", func(t *testing.T) {
		t.Parallel()
		var s *shop
		s = open(t, nil, func(c *echo.Context) error {
			c.Response().Header().Set("X-Secret", "1")
			s.Sever()
			return c.String(200, "done")
		})
		a := adaptertest.Post(t, s.url, "k", "")
		if a.StatusCode != http.StatusServiceUnavailable || strings.Contains(a.Body, "done") || a.Header.Get("X-Secret") != "" {
			t.Errorf("got %d %q %v", a.StatusCode, a.Body, a.Header)
		}
		s.Heal()
		adaptertest.Eventually(t, "the commit in the background", func() bool {
			a := adaptertest.Post(t, s.url, "k", "")
			return a.Replayed() && a.Body == "done"
		})
		s.ran(1)
	})
}

func TestClientDisconnects(t *testing.T) {
	t.Parallel()
	running, release := make(chan struct{}), make(chan struct{})
	s := open(t, nil, func(c *echo.Context) error {
		close(running)
		<-release
		if err := c.Request().Context().Err(); err != nil {
			t.Errorf("the handler's context: %v", err)
		}
		return c.String(200, "done")
	})
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := adaptertest.Try(ctx, s.url, "k", "")
		gone <- err
	}()
	<-running
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the client got %v", err)
	}
	close(release)
	adaptertest.Eventually(t, "a replay", func() bool {
		a := adaptertest.Post(t, s.url, "k", "")
		return a.Replayed() && a.Body == "done"
	})
	s.ran(1)
}

func TestStreamsPassThrough(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c *echo.Context) error {
		for range 3 {
			if _, err := io.WriteString(c.Response(), "tick "); err != nil {
				return err
			}
			if err := http.NewResponseController(c.Response()).Flush(); err != nil {
				return err
			}
		}
		return nil
	})
	if a := adaptertest.Post(t, s.url, "k", ""); a.StatusCode != http.StatusOK || a.Body != "tick tick tick " {
		t.Errorf("got %d %q", a.StatusCode, a.Body)
	}
	adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 410)
	s.ran(1)
}

func TestHijackedConnections(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c *echo.Context) error {
		conn, _, err := http.NewResponseController(c.Response()).Hijack()
		if err != nil {
			return err
		}
		_, err = io.WriteString(conn, "HTTP/1.1 299 Mine\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return errors.Join(err, conn.Close())
	})
	adaptertest.WantStatus(t, adaptertest.Post(t, s.url, "k", ""), 299)
	adaptertest.Eventually(t, "a retry that is told so", func() bool { return adaptertest.Post(t, s.url, "k", "").StatusCode == http.StatusGone })
	s.ran(1)
}

func TestScope(t *testing.T) {
	t.Parallel()
	s := adaptertest.NewStore(t)
	m, err := httpidem.New(s.Service, echoidem.Scope(func(c *echo.Context) (string, error) {
		user, ok := c.Get("user").(string)
		if !ok || user == "" {
			return "", errors.New("nobody")
		}
		return user + c.Param("shelf"), nil
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	e := newEcho()
	e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) error {
			c.Set("user", c.Request().Header.Get(adaptertest.CallerHeader))
			return next(c)
		}
	}, echoidem.New(m))
	e.POST("/orders/:shelf", func(c *echo.Context) error { return c.String(200, c.Request().Header.Get(adaptertest.CallerHeader)) })
	url := adaptertest.Serve(t, e).URL
	for _, name := range []string{"alice", "bob"} {
		if a := adaptertest.Post(t, url+"/orders/1", "k", "", func(r *http.Request) { r.Header.Set(adaptertest.CallerHeader, name) }); a.Body != name {
			t.Errorf("%s got %q", name, a.Body)
		}
	}
	adaptertest.WantStatus(t, adaptertest.Post(t, url+"/orders/1", "k", "", func(r *http.Request) { r.Header.Del(adaptertest.CallerHeader) }), 403)
	// Outside of a server there is no context to be asked.
	plain := adaptertest.Serve(t, m.Handler(http.NotFoundHandler())).URL
	adaptertest.WantStatus(t, adaptertest.Post(t, plain, "k", ""), 403)
}

func TestNewRefusesNil(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	echoidem.New(nil)
}

func TestCompressionInFrontDoesWhatEachRetryAccepts(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("ordered ", 500)
	s := open(t, nil, func(c *echo.Context) error { return c.String(200, text) }, middleware.Gzip())
	adaptertest.WantCompressed(t, s.url, text)
	s.ran(2)
}
