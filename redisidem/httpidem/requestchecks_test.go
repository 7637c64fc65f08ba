package httpidem_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// TestRefusalsComeBeforeTheBody lets a client wait for the permission to send its body.
func TestRefusalsComeBeforeTheBody(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(&httpidem.Config{MaxBodyBytes: 100, Authorize: func(r *http.Request) error {
		if r.Header.Get("X-Denied") != "" {
			return errors.New("denied")
		}
		return nil
	}})
	h := counting(created("done"))
	server := serve(t, m.Handler(h))
	for fields, want := range map[string]string{
		"Content-Length: 10\r\n":                                          "HTTP/1.1 400", // no key
		"Idempotency-Key: a, b\r\nContent-Length: 10\r\n":                 "HTTP/1.1 400",
		"Idempotency-Key: a\r\nContent-Length: 101\r\n":                   "HTTP/1.1 413",
		"Idempotency-Key: a\r\nX-Denied: 1\r\nContent-Length: 10\r\n":     "HTTP/1.1 403",
		"Idempotency-Key: a\r\nContent-Length: 10\r\nX-Denied-Not: 1\r\n": "HTTP/1.1 100",
	} {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nX-Caller: alice\r\nExpect: 100-continue\r\n"+fields+"\r\n")
		line, err := bufio.NewReader(conn).ReadString('\n')
		_ = conn.Close()
		if err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("%q: %q, %v, want %s", fields, line, err, want)
		}
	}
	h.ran(t, 0)
}
