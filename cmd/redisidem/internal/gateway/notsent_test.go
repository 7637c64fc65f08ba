package gateway

import (
	"context"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// TestUpstreamThatCannotBeReachedIsNoAttempt is about requests that were never sent: nothing about
// them is unknown, so that the next one is a first attempt, whatever the policy for interrupted
// ones.
func TestUpstreamThatCannotBeReachedIsNoAttempt(t *testing.T) {
	t.Parallel()
	b := setUp(t, "{routes: [{match: /refuse, interrupted: refuse}, {match: /all, keep: all, interrupted: refuse}]}", Unscoped)
	connections, _ := b.gateway.current.Load().transport.(*upstreamTransport)
	reached := connections.leased.DialContext
	unreachable := func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	for i, path := range []string{"/run", "/refuse", "/all"} {
		connections.leased.CloseIdleConnections()
		connections.leased.DialContext = unreachable
		for range 2 {
			a := b.send("POST", path, "body", "Idempotency-Key", "k"+path[1:])
			b.want(a, 503, "was not sent", false)
			if a.header.Get("Retry-After") != "1" || a.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%v", a.header)
			}
		}
		connections.leased.DialContext = reached
		b.answer(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Idempotency-Attempt") != "1" {
				t.Errorf("attempt %s", r.Header.Get("Idempotency-Attempt"))
			}
			w.WriteHeader(http.StatusCreated)
		})
		b.want(b.send("POST", path, "body", "Idempotency-Key", "k"+path[1:]), 201, "", false)
		b.want(b.send("POST", path, "body", "Idempotency-Key", "k"+path[1:]), 201, "", true)
		if n := b.runs.Load(); n != int64(i+1) {
			t.Errorf("the upstream got %d requests", n)
		}
	}
	if text := b.log.String(); !strings.Contains(text, `"sent":false`) || strings.Contains(text, "krefuse") {
		t.Error(text)
	}
	// Interrupted before, and out of reach now: it is still not known what the first attempt did.
	b.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	b.want(b.send("POST", "/refuse", "", "Idempotency-Key", "k2"), 502, "", false)
	b.want(b.send("POST", "/refuse", "", "Idempotency-Key", "k2"), 503, "outcome of the request is unknown", false)
}
