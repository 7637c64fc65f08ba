package console_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/redisidem/redisidem/redisidem/console"
)

func TestTrustedHeaderIsThatOfTheProxy(t *testing.T) {
	t.Parallel()
	h := &console.TrustedHeader{Name: "X-User", Proxies: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("::1/128")}, Operators: []string{"ann"}}
	for _, c := range []struct {
		from   string
		values []string
		want   console.User
	}{
		{"10.1.2.3:9", []string{"ann"}, console.User{Name: "ann", Role: console.RoleOperator}},
		{"[::ffff:10.1.2.3]:9", []string{"bob"}, console.User{Name: "bob", Role: console.RoleViewer}},
		{"[::1]:9", []string{"Ann"}, console.User{Name: "Ann", Role: console.RoleViewer}},
		{"10.2.2.3:9", []string{"ann"}, console.User{}},
		{"10.1.2.3:9", nil, console.User{}},
		{"10.1.2.3:9", []string{""}, console.User{}},
		{"10.1.2.3:9", []string{"ann", "bob"}, console.User{}},
		{"unknown", []string{"ann"}, console.User{}},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.RemoteAddr = c.from
		r.Header["X-User"] = c.values
		r.Header.Set("X-Forwarded-For", "10.1.2.3")
		if u, ok := h.Authorize(r); u != c.want || ok != (c.want.Name != "") {
			t.Errorf("%s from %s: %+v, %v", c.values, c.from, u, ok)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	r.Header.Set("X-User", "ann")
	if _, ok := (&console.TrustedHeader{Name: "X-User"}).Authorize(r); ok {
		t.Error("without proxies a request is accepted")
	}
}
