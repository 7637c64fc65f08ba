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
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/contrib/echoidem"
	"github.com/redisidem/redisidem/internal/adaptertest"
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

// open serves one handler at /orders/:shelf, with the given middleware in front of the adapter.
func open(t *testing.T, cfg *httpidem.Config, handler echo.HandlerFunc, front ...echo.MiddlewareFunc) *adaptertest.Shop {
	t.Helper()
	return openEcho(t, newEcho(), cfg, handler, front...)
}

func openEcho(t *testing.T, e *echo.Echo, cfg *httpidem.Config, handler echo.HandlerFunc, front ...echo.MiddlewareFunc) *adaptertest.Shop {
	t.Helper()
	s := adaptertest.NewShop(t, cfg)
	e.Use(front...)
	e.Use(echoidem.New(s.Adapter))
	e.POST("/orders/:shelf", func(c *echo.Context) error {
		s.Runs.Add(1)
		return handler(c)
	})
	s.URL = adaptertest.Serve(t, e).URL + "/orders/7"
	return s
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
			first, _ := open(t, nil, answerWith).WantReplay(`{"Item":"lamp"}`)
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
	first := s.Post("k", "")
	if strings.Join(before, " ") != "behind front" {
		t.Errorf("the hooks ran as %q", before)
	}
	again := s.Post("k", "")
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
	adaptertest.WantStatus(t, s.Post("k", ""), 200)
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
			first := s.Post("k", "")
			adaptertest.WantStatus(t, first, c.status)
			again := s.Post("k", "")
			if !c.kept {
				adaptertest.WantStatus(t, again, c.status)
				s.WantRuns(2)
				return
			}
			adaptertest.WantReplay(t, again, first)
			s.WantRuns(1)
			if seen.Load() != 1 {
				t.Errorf("the middleware in front has seen the error %d times", seen.Load())
			}
		})
	}
	t.Run("ErrorHandlerThatWritesNothing", func(t *testing.T) {
		t.Parallel()
		e := newEcho()
		e.HTTPErrorHandler = func(*echo.Context, error) {}
		openEcho(t, e, nil, func(*echo.Context) error { return errors.New("no") }).WantEach(500)
	})
	t.Run("RequestThatIsNotProtected", func(t *testing.T) {
		t.Parallel()
		s := open(t, &httpidem.Config{Key: httpidem.KeyConfig{Optional: true}}, func(*echo.Context) error { return echo.NewHTTPError(404, "no such shelf") })
		adaptertest.WantStatus(t, s.Post("", "", adaptertest.WithoutKey), 404)
	})
}

func TestErrorsAreAnsweredWithoutTheStore(t *testing.T) {
	t.Parallel()
	s := open(t, &httpidem.Config{FailOpen: true}, func(c *echo.Context) error {
		c.Response().Header().Set("Idempotency-Replayed", "true")
		return echo.NewHTTPError(418, "no coffee")
	})
	s.Sever()
	if a := s.Post("k", ""); a.StatusCode != http.StatusTeapot || a.Body != "{\"message\":\"no coffee\"}\n" ||
		a.Header.Get("Idempotency-Key") != "k" || a.Replayed() {
		t.Errorf("got %d %q %v", a.StatusCode, a.Body, a.Header)
	}
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
	if a := s.Post("k", ""); a.StatusCode != http.StatusOK || a.Body != "tick tick tick " {
		t.Errorf("got %d %q", a.StatusCode, a.Body)
	}
	adaptertest.WantStatus(t, s.Post("k", ""), 410)
	s.WantRuns(1)
}

func TestHijackedConnections(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c *echo.Context) error {
		conn, _, err := http.NewResponseController(c.Response()).Hijack()
		if err != nil {
			return err
		}
		return adaptertest.Hijacked(conn)
	})
	s.WantHijacked()
}

func TestScope(t *testing.T) {
	t.Parallel()
	s := adaptertest.NewStore(t)
	m, err := httpidem.New(s.Service, echoidem.Scope(func(c *echo.Context) (string, error) {
		user, ok := c.Get("user").(string)
		if !ok || user == "" {
			return "", errors.New("no user")
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
	// Outside of a server the scope function has no context.
	outside := adaptertest.Serve(t, m.Handler(http.NotFoundHandler())).URL
	adaptertest.WantScopes(t, adaptertest.Serve(t, e).URL+"/orders/1", outside)
}

func TestNewRefusesNil(t *testing.T) {
	t.Parallel()
	adaptertest.WantPanic(t, func() { echoidem.New(nil) })
}
