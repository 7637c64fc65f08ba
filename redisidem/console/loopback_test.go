package console_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/redisidem/redisidem/redisidem/console"
)

func TestLoopbackIsAnAnonymousViewer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, host string
		want       bool
	}{
		{"127.0.0.1:5", "127.0.0.1:8082", true},
		{"127.9.0.1:5", "localhost:8082", true},
		{"[::1]:5", "[::1]:8082", true},
		{"[::1]:5", "[::1]", true},
		{"[::ffff:127.0.0.1]:5", "localhost", true},
		{"10.0.0.1:5", "localhost:8082", false},
		{"127.0.0.1:5", "evil.example:8082", false},
		{"127.0.0.1:5", "localhost.evil.example", false},
		{"127.0.0.1:5", "10.0.0.1", false},
		{"127.0.0.1:5", "", false},
		{"", "localhost", false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.RemoteAddr, r.Host = c.from, c.host
		u, ok := console.Loopback(r)
		if ok != c.want || ok && u != (console.User{Role: console.RoleViewer}) {
			t.Errorf("from %s to %s: %+v, %v", c.from, c.host, u, ok)
		}
	}
}

func TestLoopbackRefusesProxies(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Via", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix", "X-Real-IP"} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.RemoteAddr, r.Host = "127.0.0.1:5", "localhost:8082"
		if _, ok := console.Loopback(r); !ok {
			t.Fatal("a request without the field is refused")
		}
		r.Header.Set(name, "")
		if _, ok := console.Loopback(r); ok {
			t.Errorf("a request with %s is accepted", name)
		}
	}
}
