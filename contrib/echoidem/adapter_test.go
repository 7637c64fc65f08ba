package echoidem_test

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/labstack/echo/v5"
	"github.com/labstack/echo/v5/middleware"

	"github.com/redisidem/redisidem/contrib/echoidem"
	"github.com/redisidem/redisidem/internal/adaptertest"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestAdapter(t *testing.T) {
	t.Parallel()
	adaptertest.Run(t, adaptertest.Framework{Serve: serveApp, ServeHandler: serveHandler, SurvivesPanics: true})
}

// serveHandler serves a net/http handler for all paths behind the adapter.
func serveHandler(t *testing.T, m *httpidem.Middleware, h http.Handler) string {
	t.Helper()
	e := newEcho()
	e.Use(echoidem.New(m))
	e.Any("/*", func(c *echo.Context) error {
		h.ServeHTTP(c.Response(), c.Request())
		return nil
	})
	return adaptertest.Serve(t, e).URL
}

// serveApp serves an app with Echo.
func serveApp(t *testing.T, app adaptertest.App) string {
	t.Helper()
	cfg := echo.Config{Logger: slog.New(slog.DiscardHandler)}
	if app.Pages {
		cfg.Router = echo.NewRouter(echo.RouterConfig{
			NotFoundHandler:         func(c *echo.Context) error { return c.String(404, adaptertest.PageNotFound) },
			MethodNotAllowedHandler: func(c *echo.Context) error { return c.String(405, adaptertest.PageNotAllowed) },
		})
	}
	e := echo.NewWithConfig(cfg)
	if app.Recovers {
		e.Use(middleware.Recover())
	}
	if app.Compresses {
		e.Use(middleware.Gzip())
	}
	if app.Status != 0 {
		e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
			return func(c *echo.Context) error {
				response(t, c).Status = app.Status
				return next(c)
			}
		})
	}
	if app.Adapter != nil {
		e.Use(echoidem.New(app.Adapter))
	}
	if app.RecoversBehind {
		e.Use(middleware.Recover())
	}
	for path, handler := range app.Routes {
		e.POST(path, func(c *echo.Context) error {
			return handler(adaptertest.Call{
				Context: c.Request().Context(), Get: c.Request().Header.Get, Header: c.Response().Header().Set,
				Status: func(status int) { response(t, c).Status = status },
				Body: func() string {
					body, _ := io.ReadAll(c.Request().Body)
					return string(body)
				},
				Write: func(status int, body string) error {
					if status != 0 {
						c.Response().WriteHeader(status)
					}
					_, err := io.WriteString(c.Response(), body)
					return err
				},
			})
		})
	}
	return adaptertest.Serve(t, e).URL
}

func response(t *testing.T, c *echo.Context) *echo.Response {
	t.Helper()
	r, err := echo.UnwrapResponse(c.Response())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestNothingIsCheckedWhereNothingRuns is about requests without a route.
func TestNothingIsCheckedWhereNothingRuns(t *testing.T) {
	t.Parallel()
	var seen atomic.Value
	s := open(t, nil, func(*echo.Context) error { return nil }, func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) error {
			err := next(c)
			if err != nil {
				seen.Store(echo.StatusCode(err))
			}
			return err
		}
	})
	s.Sever()
	before := s.Calls.Load()
	for _, keys := range []http.Header{{}, {"Idempotency-Key": {"k"}}, {"Idempotency-Key": {`"`}}} {
		for url, want := range map[string]int{strings.Replace(s.URL, "orders", "nowhere", 1): 404, s.URL: 405} {
			a := adaptertest.Post(t, url, "", "", func(r *http.Request) { r.Header, r.Method = keys, http.MethodPatch })
			if asked := seen.Swap(0); a.StatusCode != want || asked != want || want == 405 && a.Header.Get("Allow") != "OPTIONS, POST" {
				t.Errorf("%v: got %d %q %v, and in front %v", keys, a.StatusCode, a.Body, a.Header, asked)
			}
		}
	}
	if n := s.Calls.Load() - before; n != 0 {
		t.Errorf("the store was asked %d times", n)
	}
}

// TestRouteNotFoundHandlers is about RouteNotFound, and about groups, which have such routes by
// themselves.
func TestRouteNotFoundHandlers(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	s := adaptertest.NewStore(t)
	e := newEcho()
	adapter := echoidem.New(s.Middleware(nil))
	turn := func(next echo.HandlerFunc) echo.HandlerFunc { // answers for errors in front
		return func(c *echo.Context) error {
			err := next(c)
			if response(t, c).Committed || echo.StatusCode(err) != 404 {
				return err
			}
			return c.String(404, "in front")
		}
	}
	e.RouteNotFound("/proxied/*", func(c *echo.Context) error { runs.Add(1); return c.String(201, "made elsewhere") }, adapter)
	e.RouteNotFound("/page/*", func(c *echo.Context) error { return c.String(404, "page") }, adapter)
	group := e.Group("/group", turn, adapter)
	group.POST("/absent", func(c *echo.Context) error { return c.String(404, "no such item") })
	group.POST("/gone", func(*echo.Context) error { return echo.ErrNotFound })
	url := adaptertest.Serve(t, e).URL
	for path, want := range map[string]struct {
		status int
		body   string
		kept   bool
	}{
		"/proxied/x": {201, "made elsewhere", true}, "/page/x": {404, "page", false}, "/group/nowhere": {404, "in front", false},
		"/group/absent": {404, "no such item", true}, "/group/gone": {404, "{\"message\":\"Not Found\"}\n", true},
	} {
		for i := range 3 {
			a := adaptertest.Post(t, url+path, path[1:], "")
			if a.StatusCode != want.status || a.Body != want.body && (want.kept || i == 0) || a.Replayed() != (want.kept && i > 0) {
				t.Errorf("%s, %d: got %d %q, replayed %t", path, i, a.StatusCode, a.Body, a.Replayed())
			}
		}
	}
	if n := runs.Load(); n != 1 {
		t.Errorf("the handler ran %d times", n)
	}
}

// TestRoutingBehindTheAdapter is about an adapter that runs before the router.
func TestRoutingBehindTheAdapter(t *testing.T) {
	t.Parallel()
	s := adaptertest.NewStore(t)
	adapter := echoidem.New(s.Middleware(nil))
	serve := func(deployed bool) string {
		e := newEcho()
		e.Pre(adapter)
		e.POST("/absent", func(c *echo.Context) error { return c.String(404, "no such item") })
		if deployed {
			e.POST("/later", func(c *echo.Context) error { return c.String(201, "now") })
		}
		return adaptertest.Serve(t, e).URL
	}
	url := serve(false)
	for range 2 {
		if a := adaptertest.Post(t, url+"/later", "k", ""); a.StatusCode != http.StatusNotFound || a.Body != "{\"message\":\"Not Found\"}\n" || a.Replayed() {
			t.Errorf("got %d %q, replayed %t", a.StatusCode, a.Body, a.Replayed())
		}
		a := adaptertest.Post(t, url+"/absent", "k2", "", func(r *http.Request) { r.Method = http.MethodPatch })
		if a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Allow") != "OPTIONS, POST" || a.Replayed() {
			t.Errorf("got %d %q, replayed %t", a.StatusCode, a.Body, a.Replayed())
		}
	}
	first := adaptertest.Post(t, url+"/absent", "k", "")
	adaptertest.WantStatus(t, first, 422) // the key of another request
	first = adaptertest.Post(t, url+"/absent", "k3", "")
	adaptertest.WantReplay(t, adaptertest.Post(t, url+"/absent", "k3", ""), first)
	adaptertest.WantStatus(t, adaptertest.Post(t, serve(true)+"/later", "k", ""), 201)
}
