package ginidem_test

import (
	"io"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/redisidem/redisidem/contrib/ginidem"
	"github.com/redisidem/redisidem/internal/adaptertest"
)

func TestRouting(t *testing.T) {
	t.Parallel()
	adaptertest.Routing(t, serveApp)
}

func TestWhatRecoveryAnswersHasNothingOfTheHandlers(t *testing.T) {
	t.Parallel()
	adaptertest.Panics(t, serveApp)
}

// serveApp serves an app with gin.
func serveApp(t *testing.T, app adaptertest.App) string {
	t.Helper()
	r := gin.New()
	r.HandleMethodNotAllowed = true
	if app.Recovers {
		r.Use(gin.RecoveryWithWriter(io.Discard))
	}
	if app.Status != 0 {
		r.Use(func(c *gin.Context) { c.Status(app.Status) })
	}
	if app.Adapter != nil {
		r.Use(ginidem.New(app.Adapter))
	}
	if app.Pages {
		r.NoRoute(func(c *gin.Context) { c.String(404, adaptertest.PageNotFound) })
		r.NoMethod(func(c *gin.Context) { c.String(405, adaptertest.PageNotAllowed) })
	}
	for path, handler := range app.Routes {
		r.POST(path, func(c *gin.Context) {
			err := handler(adaptertest.Call{
				Context: c.Request.Context(), Header: c.Header, Status: c.Status,
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
