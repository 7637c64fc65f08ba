package console

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// TestCostlyPagesAreBounded requests pages while the allowed number of others is being made.
func TestCostlyPagesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		operator := func(*http.Request) (User, bool) { return User{Name: "ann", Role: RoleOperator}, true }
		c, err := New(redisidem.NewInspector(nil), Config{Authorize: operator, Write: true})
		if err != nil {
			t.Fatal(err)
		}
		for range maxCostly {
			c.costly <- struct{}{}
		}
		form := httptest.NewRequest(http.MethodPost, "/acts/delete", strings.NewReader(url.Values{"all": {"1"}}.Encode()))
		form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		requests := []*http.Request{form}
		for _, path := range []string{"/keys", "/dead", "/audit", "/audit?limit=50000"} {
			requests = append(requests, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		}
		for _, r := range requests {
			began := time.Now()
			w := httptest.NewRecorder()
			c.ServeHTTP(w, r)
			if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "Try again later") || time.Since(began) != costlyWait {
				t.Errorf("%s: %d after %v", r.URL, w.Code, time.Since(began))
			}
		}
		left, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		c.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(left, http.MethodGet, "/keys", http.NoBody))
		if time.Since(began) != 0 || len(c.costly) != maxCostly {
			t.Errorf("a browser that left waits for %v, and %d pages are made", time.Since(began), len(c.costly))
		}
	})
}
