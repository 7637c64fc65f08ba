package httpidem_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// TestS5_OneFieldOfAKnownSyntax sends fields as no client library would.
func TestS5_OneFieldOfAKnownSyntax(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	h := counting(created("done"))
	server := serve(t, s.middleware(nil).Handler(h))
	for _, c := range []struct {
		lines  string
		status int
	}{
		{"Idempotency-Key: a\r\nIdempotency-Key: b\r\n", 400},
		{"Idempotency-Key: a\r\nidempotency-key: a\r\n", 400},
		{"IDEMPOTENCY-KEY: \"a\"\r\nIdempotency-key: \"a\"\r\n", 400},
		{"Idempotency-Key: a\r\nIdempotency-Key:\r\n", 400},
		{"Idempotency-Key: a, b\r\n", 400},
		{"Idempotency-Key: a,\r\n", 400},
		{"Idempotency-Key: \"a\", \"b\"\r\n", 400},
		{"Idempotency-Key:\r\n", 400},
		{"Idempotency-Key: \"\"\r\n", 400},
		{"Idempotency-Key: \"a\r\n", 400},
		{"Idempotency-Key: a\"\r\n", 400},
		{"Idempotency-Key: \"a\\n\"\r\n", 400},
		{"Idempotency-Key: \xc3\xa9\r\n", 400},
		{"Idempotency-Key: \"\xc3\xa9\"\r\n", 400},
		{"Idempotency-Key: a\x00b\r\n", 400},
		{"Idempotency-Key: a\rX-Injected: 1\r\n", 400},
		{"Idempotency-Key: \"a\r\n b\"\r\n", 201}, // an obsolete folded line is one blank
		{"Idempotency-Key: " + strings.Repeat("x", 256) + "\r\n", 400},
		{"Idempotency-Key: " + strings.Repeat("x", 255) + "\r\n", 201},
		{"idempotency-KEY: \t \"one\" \t\r\n", 201},
	} {
		before := s.calls.Load()
		status, answer := raw(t, server.Listener.Addr(), "POST / HTTP/1.1\r\nHost: x\r\nX-Caller: alice\r\nConnection: close\r\n"+c.lines+"Content-Length: 0\r\n\r\n")
		if status != c.status || strings.Contains(strings.ToLower(answer), "\nx-injected") {
			t.Errorf("%q: %d, want %d\n%s", c.lines, status, c.status, answer)
		}
		if c.status == 400 && s.calls.Load() != before {
			t.Errorf("%q: the store was asked", c.lines)
		}
	}
	h.ran(t, 3)
}

// raw sends bytes, and returns the status and everything that came back.
func raw(t *testing.T, addr net.Addr, request string) (status int, answer string) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(bufio.NewReader(conn))
	if err != nil && len(text) == 0 {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		t.Fatalf("no answer: %q", text)
	}
	if status, err = strconv.Atoi(fields[1]); err != nil {
		t.Fatal(err)
	}
	return status, string(text)
}

func TestKeysThatAreRefusedAreEchoedWhenTheyCanBeRead(t *testing.T) {
	t.Parallel()
	old := ulidAt(time.Now().Add(-2 * time.Hour))
	for _, c := range []struct {
		check      func(string) error
		sent, echo string
		result     httpidem.Result
	}{
		{httpidem.UUIDKeys, "readable", "readable", httpidem.ResultKeyRefused},
		{httpidem.UUIDKeys, ` "say \"readable\"";a=1`, `"say \"readable\""`, httpidem.ResultKeyRefused},
		{func(string) error { return errors.New("no") }, "readable", "readable", httpidem.ResultKeyRefused},
		{httpidem.KeysWithin(time.Hour, time.Hour), old, old, httpidem.ResultKeyOutOfWindow},
		{httpidem.UUIDKeys, `not "readable`, "", httpidem.ResultMalformed},
		{httpidem.UUIDKeys, strings.Repeat("x", 300), "", httpidem.ResultMalformed},
	} {
		m := newStore(t).middleware(&httpidem.Config{Key: httpidem.KeyConfig{Check: c.check}, PublishRetention: true})
		w := call(m.Handler(created("done")), newRequest(t.Context(), c.sent, ""))
		exposed := httpidem.InList(w.Header()["Access-Control-Expose-Headers"], "idempotency-key")
		if got := w.Header().Get("Idempotency-Key"); w.Code != http.StatusBadRequest || got != c.echo || exposed != (c.echo != "") {
			t.Errorf("%.30q: %d, echo %q, exposed %v", c.sent, w.Code, got, exposed)
		}
		if m.Count(c.result) != 1 || w.Header().Get(idemheader.Retention) == "" {
			t.Errorf("%.30q: %s %v", c.sent, w.Body, w.Header())
		}
	}
}

func TestOtherHeaderName(t *testing.T) {
	t.Parallel()
	h := newStore(t).middleware(&httpidem.Config{Key: httpidem.KeyConfig{Header: "x-request-token"}}).Handler(created("done"))
	w := call(h, newRequest(t.Context(), "k", ""))
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "X-Request-Token is missing") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	r := newRequest(t.Context(), "k", "")
	r.Header.Set("X-Request-Token", "k")
	if w := call(h, r); w.Code != http.StatusCreated || w.Header().Get("X-Request-Token") != "k" || w.Header()["Idempotency-Key"] != nil {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}
