package fiberidem_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"
	"github.com/gofiber/fiber/v3/middleware/compress"
	"github.com/gofiber/fiber/v3/middleware/recover"

	"github.com/redisidem/redisidem/contrib/fiberidem"
	"github.com/redisidem/redisidem/internal/adaptertest"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestAdapter(t *testing.T) {
	t.Parallel()
	adaptertest.Run(t, adaptertest.Framework{Serve: serveApp, ServeHandler: serveHandler})
}

// TestStreamedBodies runs the suite's bodies through an app whose handlers start before the whole
// body has come.
func TestStreamedBodies(t *testing.T) {
	t.Parallel()
	adaptertest.Bodies(t, func(t *testing.T, app adaptertest.App) string {
		t.Helper()
		return serveWith(t, fiber.Config{StreamRequestBody: true}, app)
	})
}

// serveHandler serves a net/http handler for all paths behind the adapter.
func serveHandler(t *testing.T, m *httpidem.Middleware, h http.Handler) string {
	t.Helper()
	f := fiber.New(fiber.Config{ReadBufferSize: 1 << 15}) // the suite sends a long key
	f.Use(fiberidem.New(m))
	f.All("/*", adaptor.HTTPHandler(h))
	return serve(t, f)
}

// serveApp serves an app with Fiber.
func serveApp(t *testing.T, app adaptertest.App) string {
	t.Helper()
	return serveWith(t, fiber.Config{}, app)
}

func serveWith(t *testing.T, cfg fiber.Config, app adaptertest.App) string {
	t.Helper()
	f := fiber.New(cfg)
	if app.Recovers {
		f.Use(recover.New())
	}
	if app.Compresses {
		f.Use(compress.New())
	}
	if app.Status != 0 {
		f.Use(func(c fiber.Ctx) error { return c.Status(app.Status).Next() })
	}
	if app.Adapter != nil {
		f.Use(fiberidem.New(app.Adapter))
	}
	if app.RecoversBehind {
		f.Use(recover.New())
	}
	for path, handler := range app.Routes {
		f.Post(path, func(c fiber.Ctx) error {
			return handler(adaptertest.Call{
				Context: c.Context(), Status: func(status int) { c.Status(status) },
				Get: func(name string) string { return c.Get(name) }, Body: func() string { return string(c.Body()) }, Header: c.Set,
				Write: func(status int, body string) error {
					if status != 0 {
						c.Status(status)
					}
					return c.SendString(body)
				},
			})
		})
	}
	if app.Pages {
		f.Use(func(c fiber.Ctx) error { return c.Status(404).SendString(adaptertest.PageNotFound) })
	}
	return serve(t, f)
}

// TestRequestsWithoutARoute is about handlers and errors for requests without a route.
func TestRequestsWithoutARoute(t *testing.T) {
	t.Parallel()
	s := adaptertest.NewStore(t)
	m := s.Middleware(nil)
	runs := 0
	f := fiber.New()
	f.Use(func(c fiber.Ctx) error {
		err := c.Next()
		if err != nil {
			return c.Status(404).SendString("in front: " + err.Error())
		}
		return nil
	}, fiberidem.New(m))
	f.Post("/absent", func(fiber.Ctx) error { return fiber.ErrNotFound })
	f.Post("/further", func(c fiber.Ctx) error { return c.Next() })
	f.Use("/proxied", func(c fiber.Ctx) error { runs++; return c.Status(201).SendString("made elsewhere") })
	url := serve(t, f)
	for path, want := range map[string]struct {
		status int
		body   string
		kept   bool
	}{
		"/nowhere": {404, "in front: Not Found", false}, "/proxied/x": {201, "made elsewhere", true},
		"/absent": {404, "Not Found", true}, "/further": {404, "Not Found", true},
	} {
		for i := range 3 {
			a := adaptertest.Post(t, url+path, strings.Trim(path, "/"), "")
			if a.StatusCode != want.status || a.Body != want.body || a.Replayed() != (want.kept && i > 0) || a.Header.Get("Idempotency-Key") == "" {
				t.Errorf("%s, %d: got %d %q %v", path, i, a.StatusCode, a.Body, a.Header)
			}
		}
	}
	if runs != 1 {
		t.Errorf("the handler ran %d times", runs)
	}
	if n := s.Count(httpidem.ResultReleased); n != 3 {
		t.Errorf("%d keys were given back", n)
	}
}
