package console

import (
	"context"
	"errors"
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
			c.costly[RoleOperator] <- struct{}{}
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
		if time.Since(began) != 0 || len(c.costly[RoleOperator]) != maxCostly {
			t.Errorf("a browser that left waits for %v, and %d pages are made", time.Since(began), len(c.costly[RoleOperator]))
		}
	})
}

// TestViewersLeaveOperatorsTheirPlaces lets an operator see a page while viewers have all theirs.
func TestViewersLeaveOperatorsTheirPlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, err := New(redisidem.NewInspector(nil), Config{Authorize: func(*http.Request) (User, bool) { return User{}, false }})
		if err != nil {
			t.Fatal(err)
		}
		begin := func(role Role) error {
			v := &visit{r: httptest.NewRequest(http.MethodGet, "/keys", http.NoBody), console: c, user: User{Role: role}}
			return v.beginCostly()
		}
		for range maxCostly {
			if err := begin(RoleViewer); err != nil {
				t.Fatal(err)
			}
		}
		if err := begin(RoleViewer); !errors.Is(err, errManyCostly) {
			t.Errorf("a further viewer: %v", err)
		}
		if err := begin(RoleOperator); err != nil {
			t.Errorf("an operator: %v", err)
		}
	})
}
