package console_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestOtherSitesMayOnlyLink sends what browsers send for links, scripts, pictures and frames.
func TestOtherSitesMayOnlyLink(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	for _, c := range []struct {
		site, mode, destination, purpose string
		want                             int
	}{
		{"", "", "", "", 200},
		{"none", "navigate", "document", "", 200},
		{"same-origin", "cors", "empty", "", 200},
		{"same-origin", "navigate", "document", "", 200},
		{"cross-site", "navigate", "document", "", 200},
		{"same-site", "navigate", "document", "", 200},
		{"cross-site", "navigate", "", "", 200},
		{"same-origin", "navigate", "document", "prefetch", 200},
		{"cross-site", "navigate", "document", "prefetch;prerender", 403},
		{"cross-site", "navigate", "iframe", "", 403},
		{"cross-site", "no-cors", "image", "", 403},
		{"cross-site", "cors", "empty", "", 403},
		{"same-site", "no-cors", "script", "", 403},
		{"cross-site", "", "", "", 403},
	} {
		for _, path := range []string{"/keys", "/audit"} {
			r := httptest.NewRequest(http.MethodGet, path, http.NoBody)
			for name, value := range map[string]string{"Sec-Fetch-Site": c.site, "Sec-Fetch-Mode": c.mode, "Sec-Fetch-Dest": c.destination, "Sec-Purpose": c.purpose} {
				if value != "" {
					r.Header.Set(name, value)
				}
			}
			if got := s.serve(r).StatusCode; got != c.want {
				t.Errorf("%+v: %s is answered with %d", c, path, got)
			}
		}
	}
}
