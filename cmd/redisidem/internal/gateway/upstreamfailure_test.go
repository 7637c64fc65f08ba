package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// TestAnswersThatBreakOffAreNotGiven lets the upstream die within an answer that is held back until
// it is complete.
func TestAnswersThatBreakOffAreNotGiven(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"keep: final", "keep: all", "keep: [2xx, 5xx]", "stream: true"} {
		for name, breakOff := range breaks {
			if name == "unknown length" && policy == "stream: true" {
				continue // it goes on as it comes
			}
			t.Run(policy+", "+name, func(t *testing.T) {
				t.Parallel()
				b := setUp(t, "defaults: {interrupted: run, "+policy+"}", Unscoped)
				b.answer(func(w http.ResponseWriter, r *http.Request) {
					if b.runs.Load() == 1 {
						breakOff(w)
					}
					_, _ = fmt.Fprint(w, "whole, attempt ", r.Header.Get("Idempotency-Attempt"))
				})
				a := b.send("POST", "/", "body", "Idempotency-Key", "k")
				b.want(a, 502, "may have executed the request", false)
				if a.header.Get("Content-Type") != "application/problem+json" || a.header.Get("X-Half") != "" || strings.Contains(a.body, "half") {
					t.Errorf("%v %q", a.header, a.body)
				}
				b.want(b.send("POST", "/", "body", "Idempotency-Key", "k"), 200, "whole, attempt 2", false)
				if text := b.log.String(); strings.Contains(text, "aborted") || !strings.Contains(text, `"error":"the connection ended"`) {
					t.Error(text)
				}
			})
		}
	}
}

// breaks are the ways in which an answer breaks off after its beginning.
var breaks = map[string]func(w http.ResponseWriter){
	"known length": func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", "100")
		breakHalfway(w)
	},
	"length over the limit": func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", "10000000")
		breakHalfway(w)
	},
	"unknown length": breakHalfway,
}

func breakHalfway(w http.ResponseWriter) {
	w.Header().Set("X-Half", "half")
	_, _ = io.WriteString(w, "half")
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// TestAnswersThatBreakOffOnTheirWayAreCut is about answers that have left in part already, so that
// no other one can be given.
func TestAnswersThatBreakOffOnTheirWayAreCut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		routes, key string
		before      int // bytes in front of the half
	}{
		"no key":                   {"", "", 0},
		"stream":                   {"defaults: {stream: true}", "k", 0},
		"over the limit":           {"defaults: {max_response: 1000}", "k", 5000},
		"over the limit, keep all": {"defaults: {max_response: 1000, keep: all}", "k", 5000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setUp(t, c.routes, Unscoped)
			b.answer(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write(make([]byte, c.before))
				breakHalfway(w)
			})
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.server.URL, strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			if c.key != "" {
				req.Header.Set("Idempotency-Key", c.key)
			}
			req.GetBody = nil // or net/http would send it again by itself
			if res, err := http.DefaultClient.Do(req); err == nil {
				_, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err == nil {
					t.Errorf("half of an answer is taken for a whole one: %d", res.StatusCode)
				}
			}
			b.server.Close() // which waits for the log
			if text := b.log.String(); strings.Count(text, `"aborted":true`) != 1 {
				t.Error(text)
			}
		})
	}
}

// TestS11_NothingOfABrokenAnswerIsInTheLog has an upstream that answers in what is no HTTP, or not
// all of it.
func TestS11_NothingOfABrokenAnswerIsInTheLog(t *testing.T) {
	t.Parallel()
	b := setUp(t, `
routes:
  - {match: /may, authorize: /may}
  - {match: /ask, interrupted: ask, ask: "/by-key/{key}"}
  - {match: /open, protect: false}
`, Unscoped)
	answers := map[string]string{
		"no status line":  "canary-body of an answer\r\n\r\n",
		"status":          "HTTP/1.1 canary canary\r\n\r\n",
		"field":           "HTTP/1.1 200 OK\r\nSet-Cookie session=canary-token\r\n\r\n",
		"length":          "HTTP/1.1 200 OK\r\nContent-Length: canary\r\n\r\n",
		"coding":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: canary\r\n\r\n",
		"length of chunk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ncanary\r\n",
		"trailer": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" +
			"X-Sum canary-sum\r\n\r\n",
		"nothing": "",
	}
	for name, text := range answers {
		b.answer(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
		})
		for _, path := range []string{"/may", "/run", "/ask", "/ask", "/open"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.server.URL+path, strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Idempotency-Key", strconv.Quote(name+path))
			r.GetBody = nil // or net/http would send it again by itself
			if res, err := http.DefaultClient.Do(r); err == nil {
				_, _ = io.ReadAll(res.Body)
				_ = res.Body.Close()
			}
		}
	}
	log := b.log.String()
	if i := strings.Index(log, "canary"); i >= 0 {
		t.Errorf("the log has %q", log[max(0, i-200):min(len(log), i+100)])
	}
	for _, want := range []string{
		"the answer cannot be read", "the connection ended", "while it sent a response", "whether a caller is authorized", "outcome of a request",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not tell of %q: %s", want, log)
		}
	}
}
