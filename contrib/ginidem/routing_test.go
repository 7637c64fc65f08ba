package ginidem_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/redisidem/redisidem/contrib/ginidem"
	"github.com/redisidem/redisidem/internal/adaptertest"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// TestNothingIsCheckedWhereNothingRuns is about requests without a route and without a handler
// behind the adapter.
func TestNothingIsCheckedWhereNothingRuns(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(*gin.Context) {})
	nowhere := strings.Replace(s.URL, "orders", "nowhere", 1)
	s.Sever()
	before := s.Calls.Load()
	for _, keys := range []http.Header{{}, {"Idempotency-Key": {"k"}}, {"Idempotency-Key": {`"`}}, {"Idempotency-Key": {"a", "b"}}} {
		a := adaptertest.Post(t, nowhere, "", "", func(r *http.Request) { r.Header = keys })
		if a.StatusCode != http.StatusNotFound || a.Body != "404 page not found" || a.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("%v: got %d %q %v", keys, a.StatusCode, a.Body, a.Header)
		}
	}
	if n := s.Calls.Load() - before; n != 0 {
		t.Errorf("the store was asked %d times", n)
	}
}

func TestMiddlewareBehindDoesNotHideThatThereIsNoRoute(t *testing.T) {
	t.Parallel()
	s := adaptertest.NewStore(t)
	r := gin.New()
	r.HandleMethodNotAllowed = true
	r.Use(ginidem.New(s.Middleware(nil)), func(c *gin.Context) { c.Header("X-Behind", "1"); c.Next() })
	r.POST("/orders", func(*gin.Context) {})
	url := adaptertest.Serve(t, r).URL
	for range 2 {
		a := adaptertest.Post(t, url+"/nowhere", "k", "")
		if a.StatusCode != http.StatusNotFound || a.Body != "404 page not found" || a.Header.Get("X-Behind") != "1" || a.Replayed() {
			t.Errorf("got %d %q %v", a.StatusCode, a.Body, a.Header)
		}
		a = adaptertest.Post(t, url+"/orders", "k2", "", func(r *http.Request) { r.Method = http.MethodPatch })
		if a.StatusCode != http.StatusMethodNotAllowed || a.Body != "405 method not allowed" || a.Header.Get("Allow") != "POST" || a.Replayed() {
			t.Errorf("got %d %q %v", a.StatusCode, a.Body, a.Header)
		}
	}
}

// TestWorkOfNoRouteIsProtected is about a proxy for all paths that no route is for.
func TestWorkOfNoRouteIsProtected(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	s := adaptertest.NewStore(t)
	r := gin.New()
	r.Use(ginidem.New(s.Middleware(nil)))
	r.NoRoute(func(c *gin.Context) { runs.Add(1); c.String(201, "made elsewhere") })
	url := adaptertest.Serve(t, r).URL
	first := adaptertest.Post(t, url+"/elsewhere", "k", "")
	adaptertest.WantStatus(t, first, 201)
	adaptertest.WantReplay(t, adaptertest.Post(t, url+"/elsewhere", "k", ""), first)
	if n := runs.Load(); n != 1 {
		t.Errorf("the handler ran %d times", n)
	}
}

func TestRedirectsOfTheEngine(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c *gin.Context) { c.String(200, "done") })
	for range 2 {
		a := adaptertest.Post(t, s.URL+"/", "k", "")
		if a.StatusCode != http.StatusTemporaryRedirect || a.Header.Get("Location") != "/orders/7" || a.Replayed() {
			t.Errorf("got %d %v", a.StatusCode, a.Header)
		}
	}
	adaptertest.WantStatus(t, s.Post("k", ""), 200)
}

func TestGroupsHaveTheirOwnAdapter(t *testing.T) {
	t.Parallel()
	s := adaptertest.NewStore(t)
	r := gin.New()
	r.NoRoute(func(c *gin.Context) { c.String(404, "no page") })
	group := r.Group("/group", ginidem.New(s.Middleware(nil)))
	group.POST("/absent", func(c *gin.Context) { c.String(404, "no such item") })
	url := adaptertest.Serve(t, r).URL
	for range 2 {
		if a := adaptertest.Post(t, url+"/group/nowhere", "k", ""); a.StatusCode != http.StatusNotFound || a.Body != "no page" || a.Replayed() {
			t.Errorf("got %d %q", a.StatusCode, a.Body)
		}
	}
	first := adaptertest.Post(t, url+"/group/absent", "k", "")
	adaptertest.WantStatus(t, first, 404)
	adaptertest.WantReplay(t, adaptertest.Post(t, url+"/group/absent", "k", ""), first)
}

// TestErrorsThatAreAnsweredInFrontKeepTheHeader is about what the chain did to the header of an
// answer that it left to others.
func TestErrorsThatAreAnsweredInFrontKeepTheHeader(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c *gin.Context) {
		c.Header("X-Trace", "1")
		c.Header("Idempotency-Replayed", "true")
		_ = c.Error(errors.New("no such item"))
	}, answeringErrors)
	for range 2 {
		a := s.Post("k", "")
		if a.StatusCode != http.StatusUnprocessableEntity || a.Header.Get("X-Trace") != "1" || a.Header.Get("Idempotency-Key") != "k" || a.Replayed() {
			t.Errorf("got %d %v", a.StatusCode, a.Header)
		}
	}
	s.WantRuns(2)
	if n, panicked := s.Adapter.Count(httpidem.ResultReleased), s.Adapter.Count(httpidem.ResultPanicked); n != 2 || panicked != 0 {
		t.Errorf("%d were released, and %d panicked", n, panicked)
	}
}

func TestHandleContextBehindIsNamed(t *testing.T) {
	t.Parallel()
	var named atomic.Value
	s := adaptertest.NewStore(t)
	r := gin.New()
	r.Use(gin.CustomRecoveryWithWriter(io.Discard, func(c *gin.Context, v any) { named.Store(v); c.String(500, "broken") }), ginidem.New(s.Middleware(nil)))
	r.POST("/new", func(c *gin.Context) { c.String(201, "done") })
	r.POST("/old", func(c *gin.Context) {
		c.Request.URL.Path = "/new"
		r.HandleContext(c)
	})
	url := adaptertest.Serve(t, r).URL
	for range 2 {
		if a := adaptertest.Post(t, url+"/old", "k", ""); a.StatusCode != http.StatusInternalServerError || a.Replayed() {
			t.Errorf("got %d %q", a.StatusCode, a.Body)
		}
	}
	if text, ok := named.Load().(string); !ok || !strings.Contains(text, "HandleContext") {
		t.Errorf("panicked with %v", named.Load())
	}
}
