package adaptertest

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// App describes the app that a framework serves. All its routes are for POST.
type App struct {
	// Adapter is placed in front of all routes. Nil means that the app has none.
	Adapter *httpidem.Middleware
	// Status, unless it is 0, is set by a middleware in front of the adapter.
	Status int
	// Recovers adds a middleware in front of the adapter that recovers from panics.
	Recovers bool
	// RecoversBehind adds a middleware behind the adapter that recovers from panics.
	RecoversBehind bool
	// Compresses adds a middleware in front of the adapter that compresses responses.
	Compresses bool
	// Pages makes the app answer unknown routes and methods itself, with PageNotFound and
	// PageNotAllowed.
	Pages bool
	// Routes are the handlers by path.
	Routes map[string]func(c Call) error
}

// The bodies of an App's own 404 and 405.
const (
	PageNotFound   = "there is no such page"
	PageNotAllowed = "there is no such method"
)

// Call is a request that a handler of an App serves.
type Call struct {
	Context context.Context //nolint:containedctx // it stands for the framework's context, which has it, too
	// Get returns a header field of the request. Body is the body of the request.
	Get  func(name string) string
	Body func() string
	// Header sets a header field of the response.
	Header func(name, value string)
	// Status sets the status without writing a response. Write writes one. If its own status is 0,
	// it uses the one that was set.
	Status func(status int)
	Write  func(status int, body string) error
}

// ServeFunc serves an app until the test ends, and returns its address.
type ServeFunc func(t *testing.T, app App) (url string)

// Routing tests requests that have no route in the framework, beside 404s and 405s of handlers.
// Without Pages the framework answers wrong methods itself.
func Routing(t *testing.T, serve ServeFunc) {
	t.Helper()
	for name, keep := range map[string]func(int) httpidem.Disposition{"KeepFinal": nil, "KeepAll": httpidem.KeepAll} {
		for _, pages := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/Pages=%t", name, pages), func(t *testing.T) {
				t.Parallel()
				(&routing{T: t, serve: serve, pages: pages, keep: keep}).test()
			})
		}
	}
	t.Run("StatusInFront", func(t *testing.T) {
		t.Parallel()
		silent := map[string]func(Call) error{"/silent": func(Call) error { return nil }, "/loud": func(c Call) error { return c.Write(201, "done") }}
		plain := serve(t, App{Status: 202, Routes: silent})
		adapted := serve(t, App{Status: 202, Routes: silent, Adapter: NewStore(t).Middleware(nil)})
		for path := range silent {
			want := Post(t, plain+path, "k", "")
			first := Post(t, adapted+path, "k"+path, "")
			wantSame(t, first, want)
			WantReplay(t, Post(t, adapted+path, "k"+path, ""), first)
		}
	})
}

type routing struct {
	*testing.T
	serve ServeFunc
	pages bool
	keep  func(int) httpidem.Disposition
	runs  atomic.Int64
}

func (r *routing) test() {
	routes := map[string]func(Call) error{
		"/orders": func(c Call) error { r.runs.Add(1); return c.Write(201, "ordered") },
		"/absent": func(c Call) error { r.runs.Add(1); return c.Write(404, "no such order") },
		"/closed": func(c Call) error { r.runs.Add(1); return c.Write(405, "closed") },
	}
	store := NewStore(r)
	adapter := store.Middleware(&httpidem.Config{Response: httpidem.ResponseConfig{Status: r.keep}})
	plain := r.serve(r.T, App{Pages: r.pages, Routes: routes})
	adapted := r.serve(r.T, App{Pages: r.pages, Routes: routes, Adapter: adapter})
	for i, request := range []struct{ method, target string }{
		{"POST", "/nowhere"},
		{"POST", "/"},
		{"POST", "/orders/7/lines?a=b"},
		{"POST", "/later"},
		{"PATCH", "/orders"},
		{"PATCH", "/nowhere"},
		{"GET", "/orders"},
		{"HEAD", "/orders"},
		{"HEAD", "/nowhere"},
		{"OPTIONS", "/orders"},
		{"DELETE", "/orders"},
	} {
		as := func(r *http.Request) { r.Method = request.method }
		want := Post(r, plain+request.target, "k", "", as)
		if want.StatusCode < 400 && request.method != "OPTIONS" {
			r.Fatalf("%s %s: the framework has a route: %d", request.method, request.target, want.StatusCode)
		}
		for range 3 {
			wantSame(r, Post(r, adapted+request.target, fmt.Sprint("k", i), "", as), want)
		}
	}
	if n := r.runs.Load(); n != 0 {
		r.Errorf("%d handlers ran", n)
	}
	// The responses of handlers are stored, whatever their status.
	for path := range routes {
		first := Post(r, adapted+path, "own"+path, "")
		wantSame(r, first, Post(r, plain+path, "k", ""))
		WantReplay(r, Post(r, adapted+path, "own"+path, ""), first)
	}
	if n := r.runs.Load(); n != 2*3 {
		r.Errorf("%d handlers ran", n)
	}
	// A key that came before its route runs once the route is deployed, as its first attempt.
	attempt := 0
	routes["/later"] = func(c Call) error { attempt = httpidem.Stage(c.Context).Attempt(); return c.Write(201, "now") }
	deployed := r.serve(r.T, App{Pages: r.pages, Routes: routes, Adapter: adapter})
	first := Post(r, deployed+"/later", "k3", "")
	if first.StatusCode != http.StatusCreated || first.Body != "now" || attempt != 1 {
		r.Errorf("got %d %q on attempt %d", first.StatusCode, first.Body, attempt)
	}
	WantReplay(r, Post(r, deployed+"/later", "k3", ""), first)
}

// Panics tests that the response to a panic, written in front of the adapter, has nothing of the
// handler's response, and that the attempt ends.
func Panics(t *testing.T, serve ServeFunc) {
	t.Helper()
	header := func(c Call) {
		c.Header("X-Half", "1")
		c.Header("Etag", `"half"`)
		c.Header("Set-Cookie", "half=1")
		c.Header("Content-Type", "image/png")
		c.Header("Content-Encoding", "br")
		c.Header("Location", "/half")
		c.Header("Cache-Control", "max-age=60")
	}
	for name, halfway := range map[string]func(c Call){
		"AtOnce": func(Call) {},
		"Header": header,
		"Status": func(c Call) { header(c); c.Status(202) },
		"Empty":  func(c Call) { header(c); _ = c.Write(204, "") },
		"Body":   func(c Call) { header(c); _ = c.Write(201, "half an answer") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var attempts []int
			healed := false
			store := NewStore(t)
			adapter := store.Middleware(nil)
			routes := map[string]func(Call) error{
				"/": func(c Call) error {
					if stage := httpidem.Stage(c.Context); stage != nil {
						attempts = append(attempts, stage.Attempt())
					}
					if healed {
						return c.Write(201, "done")
					}
					halfway(c)
					panic("broken")
				},
				"/clean": func(Call) error { panic("broken") },
			}
			plain := serve(t, App{Recovers: true, Routes: routes})
			adapted := serve(t, App{Recovers: true, Routes: routes, Adapter: adapter})
			want := Post(t, plain+"/clean", "k", "")
			for range 2 {
				wantSame(t, Post(t, adapted+"/", "k", ""), want)
			}
			if n := store.Count(httpidem.ResultPanicked); n != 2 {
				t.Errorf("%d panics were counted", n)
			}
			healed = true
			first := Post(t, adapted+"/", "k", "")
			WantStatus(t, first, 201)
			WantReplay(t, Post(t, adapted+"/", "k", ""), first)
			if fmt.Sprint(attempts) != "[1 2 3]" {
				t.Errorf("the attempts were %v", attempts)
			}
		})
	}
	t.Run("NothingRunsTwice", func(t *testing.T) {
		t.Parallel()
		routes := map[string]func(Call) error{"/": func(c Call) error { header(c); panic("broken") }, "/clean": func(Call) error { panic("broken") }}
		adapter := NewStore(t).Middleware(&httpidem.Config{Response: httpidem.ResponseConfig{Status: httpidem.KeepAll}})
		want := Post(t, serve(t, App{Recovers: true, Routes: routes})+"/clean", "k", "")
		adapted := serve(t, App{Recovers: true, Routes: routes, Adapter: adapter})
		wantSame(t, Post(t, adapted+"/", "k", ""), want)
		WantStatus(t, Post(t, adapted+"/", "k", ""), 410)
	})
	t.Run("WithoutStore", func(t *testing.T) {
		t.Parallel()
		routes := map[string]func(Call) error{"/": func(c Call) error { header(c); panic("broken") }, "/clean": func(Call) error { panic("broken") }}
		store := NewStore(t)
		adapted := serve(t, App{Recovers: true, Routes: routes, Adapter: store.Middleware(&httpidem.Config{FailOpen: true})})
		want := Post(t, serve(t, App{Recovers: true, Routes: routes})+"/clean", "k", "")
		store.Sever()
		wantSame(t, Post(t, adapted+"/", "k", ""), want)
	})
}

// wantSame fails the test unless got equals the answer of the framework without the adapter.
func wantSame(t testing.TB, got, want Answer) {
	t.Helper()
	if got.StatusCode != want.StatusCode || got.Body != want.Body || got.Replayed() {
		t.Errorf("%s %s: got %d %q, replayed %t; want %d %q", got.Request.Method, got.Request.URL.Path, got.StatusCode, got.Body, got.Replayed(),
			want.StatusCode, want.Body)
	}
	a, b := got.Header.Clone(), want.Header.Clone()
	for _, h := range []http.Header{a, b} {
		h.Del("Date")
		h.Del("Idempotency-Key")
		h.Del("Access-Control-Expose-Headers")
		for _, values := range h { // some frameworks list them in random order
			for i, value := range values {
				list := strings.Split(value, ", ")
				slices.Sort(list)
				values[i] = strings.Join(list, ", ")
			}
		}
	}
	if !maps.EqualFunc(a, b, slices.Equal) {
		t.Errorf("%s %s: got %v, want %v", got.Request.Method, got.Request.URL.Path, a, b)
	}
}
