package ginidem_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/redisidem/redisidem/contrib/ginidem"
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
	r := gin.New()
	r.Use(ginidem.New(m))
	r.Any("/*path", func(c *gin.Context) { h.ServeHTTP(c.Writer, c.Request) })
	return adaptertest.Serve(t, r).URL
}

// serveApp serves an app with gin.
func serveApp(t *testing.T, app adaptertest.App) string {
	t.Helper()
	r := gin.New()
	r.HandleMethodNotAllowed = true
	if app.Recovers {
		r.Use(gin.RecoveryWithWriter(io.Discard))
	}
	if app.Compresses {
		r.Use(gzipped)
	}
	if app.Status != 0 {
		r.Use(func(c *gin.Context) { c.Status(app.Status) })
	}
	if app.Adapter != nil {
		r.Use(ginidem.New(app.Adapter))
	}
	if app.RecoversBehind {
		r.Use(gin.RecoveryWithWriter(io.Discard))
	}
	if app.Pages {
		r.NoRoute(func(c *gin.Context) { c.String(404, adaptertest.PageNotFound) })
		r.NoMethod(func(c *gin.Context) { c.String(405, adaptertest.PageNotAllowed) })
	}
	for path, handler := range app.Routes {
		r.POST(path, func(c *gin.Context) {
			err := handler(adaptertest.Call{
				Context: c.Request.Context(), Get: c.GetHeader, Header: c.Header, Status: c.Status,
				Body: func() string {
					body, _ := io.ReadAll(c.Request.Body)
					return string(body)
				},
				Write: func(status int, body string) error {
					c.Status(status)
					c.Writer.WriteHeaderNow()
					_, err := c.Writer.WriteString(body)
					return err
				},
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	return adaptertest.Serve(t, r).URL
}

// gzipped compresses as gin's own middleware does: it sets the encoding before the rest of the
// chain runs.
func gzipped(c *gin.Context) {
	if !strings.Contains(c.GetHeader("Accept-Encoding"), "gzip") {
		return
	}
	c.Header("Content-Encoding", "gzip")
	z := gzip.NewWriter(c.Writer)
	c.Writer = &zipWriter{c.Writer, z}
	defer func() { _ = z.Close() }()
	c.Next()
}

type zipWriter struct {
	gin.ResponseWriter
	to io.Writer
}

func (w *zipWriter) WriteHeader(status int) {
	w.Header().Del("Content-Length")
	w.ResponseWriter.WriteHeader(status)
}

func (w *zipWriter) Write(p []byte) (int, error)       { return w.to.Write(p) }
func (w *zipWriter) WriteString(s string) (int, error) { return w.to.Write([]byte(s)) }
