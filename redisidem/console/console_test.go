package console_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/console"
)

func TestNewRefusesBadInput(t *testing.T) {
	t.Parallel()
	in := redisidem.NewInspector(nil)
	for field, make := range map[string]func() (*console.Console, error){
		"inspector":        func() (*console.Console, error) { return console.New(nil, console.Config{}) },
		"Config.Authorize": func() (*console.Console, error) { return console.New(in, console.Config{}) },
		"Config.Refresh": func() (*console.Console, error) {
			return console.New(in, console.Config{Authorize: console.Loopback, Refresh: time.Millisecond})
		},
	} {
		c, err := make()
		if c != nil || !errors.Is(err, redisidem.ErrInvalid) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v, %v", field, c, err)
		}
	}
}

// TestEachPageHasItsHeaders looks at pages, problems and assets.
func TestEachPageHasItsHeaders(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	for path, status := range map[string]int{
		"/": 200, "/find": 200, "/keys": 200, "/keys/" + s.ids["dead"]: 200, "/dead": 200, "/flows": 200, "/flows?count=1": 200, "/audit": 200,
		"/assets/style.css": 200, "/assets/console.js": 200, "/assets/icon.svg": 200,
		"/assets/none.css": 404, "/none": 404, "/keys/x": 400, "/keys?older=x": 400,
	} {
		response := s.serve(httptest.NewRequest(http.MethodGet, path, http.NoBody))
		page := s.text(response, status)
		policy := response.Header.Get("Content-Security-Policy")
		mustHave(t, policy, "default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'")
		mustLack(t, policy, "unsafe", "*", "http:", "https:", "data:")
		if response.Header.Get("X-Content-Type-Options") != "nosniff" || response.Header.Get("Referrer-Policy") != "same-origin" ||
			response.Header.Get("Cross-Origin-Opener-Policy") != "same-origin" || response.Header.Get("Cross-Origin-Resource-Policy") != "same-origin" {
			t.Errorf("%s: the header is %v", path, response.Header)
		}
		if strings.HasPrefix(path, "/assets") {
			continue
		}
		if response.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: the header is %v", path, response.Header)
		}
		// What the policy forbids would not work.
		mustLack(t, page, "style=", "<style", "onclick", "<script>", "javascript:", `="http`, "//cdn")
		mustHave(t, page, "<!doctype html>", `<html lang="en">`, `name="viewport"`)
	}
}

func TestConsoleWorksUnderAPrefix(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	mux := http.NewServeMux()
	mux.Handle("/ops/console/", http.StripPrefix("/ops/console", s.console))
	s.handler = mux
	page := s.get("/ops/console/", 200)
	mustHave(t, page, `href="./assets/style.css?v=`, `href="./keys?state=finished"`, `data-live="./live"`)
	page = s.get("/ops/console/keys/"+s.ids["dead"], 200)
	mustHave(t, page, `href="../assets/style.css?v=`, `action="../acts/requeue"`)
	mustLack(t, page, `href="/`, `src="/`, `action="/`)
	response := s.serve(httptest.NewRequest(http.MethodGet, "/ops/console/find?id="+s.ids["dead"], http.NoBody))
	if got := response.Header.Get("Location"); response.StatusCode != http.StatusSeeOther || got != "./keys/"+s.ids["dead"] {
		t.Errorf("%d to %q", response.StatusCode, got)
	}
	if response := s.serve(httptest.NewRequest(http.MethodGet, "/ops/console", http.NoBody)); response.StatusCode/100 != 3 {
		t.Errorf("without the slash the status is %d", response.StatusCode)
	}
}

// TestOtherSitesMayNotSendForms sends what a browser would send for another site's page.
func TestOtherSitesMayNotSendForms(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	form := map[string][]string{"target": {s.target("dead")}, "confirmed": {"yes"}, "reason": {"trick"}}
	for name, change := range map[string]func(*http.Request){
		"cross-site":   func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"same-site":    func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		"other origin": func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "https://evil.example") },
		"null origin":  func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "null") },
	} {
		r := formRequest("/acts/delete", form)
		change(r)
		mustHave(t, s.text(s.serve(r), http.StatusForbidden), "page of another site")
		if s.state("dead") != "dead" || len(s.audit()) != 0 {
			t.Errorf("%s: the key is %s, the audit %q", name, s.state("dead"), s.audit())
		}
	}
}

func TestUnknownUsersSeeNothing(t *testing.T) {
	t.Parallel()
	s := newShop(t).site(func(c *console.Config) {
		c.Authorize, c.Challenge = func(*http.Request) (console.User, bool) { return console.User{}, false }, `Basic realm="console"`
	})
	for _, path := range []string{"/", "/keys", "/live", "/audit", "/none"} {
		response := s.serve(httptest.NewRequest(http.MethodGet, path, http.NoBody))
		mustLack(t, s.text(response, http.StatusUnauthorized), "<nav", s.ids["dead"], "<table")
		if got := response.Header.Get("WWW-Authenticate"); got != `Basic realm="console"` {
			t.Errorf("%s: the challenge is %q", path, got)
		}
	}
	s.post("/acts/delete", map[string][]string{"target": {"x"}, "confirmed": {"yes"}}, http.StatusUnauthorized)
	noRole := s.site(func(c *console.Config) {
		c.Authorize = func(*http.Request) (console.User, bool) { return console.User{Name: "eve"}, true }
	})
	mustLack(t, noRole.get("/keys", http.StatusForbidden), "<nav", s.ids["dead"])
}

// TestRedisThatGoesAway looks at each page without a server, and at the overview's last numbers.
func TestRedisThatGoesAway(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	svc, err := redisidem.OpenUnchecked("redis://:passw0rd-of-redis@"+s.server.Addr(), &redisidem.Config{Timeout: time.Second})
	s.must(err)
	t.Cleanup(func() { _ = svc.Close(context.Background()) })
	target := s.site().target("dead")
	s.server.RequireAuth("passw0rd-of-redis")
	s.inspector = redisidem.NewInspector(svc)
	c := s.site(func(c *console.Config) { c.Refresh, c.Check = 10*time.Millisecond, svc.Check })
	mustHave(t, c.get("/", 200), "Keys by state")
	s.server.Close()
	t.Cleanup(func() { // or the workers' leases would wait for it
		s.server.RequireAuth("")
		_ = s.server.Restart()
	})
	end := time.Now().Add(20 * time.Second)
	for !strings.Contains(c.get("/", 200), "Redis gave no answer") && time.Now().Before(end) {
		time.Sleep(time.Millisecond) // until the numbers are read again
	}
	mustHave(t, c.get("/", 200), "Redis gave no answer", "Keys by state", "Read at")
	for _, path := range []string{"/keys", "/keys/" + s.ids["dead"], "/find?id=" + s.ids["dead"], "/find?scope=a&value=k", "/dead", "/flows?count=1", "/audit"} {
		mustHave(t, c.get(path, http.StatusServiceUnavailable), "Redis does not answer")
	}
	act := map[string][]string{"target": {target}, "confirmed": {"yes"}, "reason": {"r"}}
	mustHave(t, c.post("/acts/delete", act, http.StatusServiceUnavailable), "Redis does not answer")
	if c.log.Len() == 0 {
		t.Error("nothing is logged")
	}
	mustLack(t, c.log.String()+c.get("/", 200), "passw0rd")
}
