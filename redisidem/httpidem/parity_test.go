package httpidem_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// answers are handlers whose first answer must be the same with and without the middleware, to the
// byte.
var answers = map[string]http.HandlerFunc{
	"nothing":           func(http.ResponseWriter, *http.Request) {},
	"status only":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) },
	"small body":        func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) },
	"small body, empty": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(nil) },
	"text":              func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") },
	"binary": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte{0, 1, 2, 0xff, 0xfe, '\r', '\n', 0})
	},
	"html is sniffed":     func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<!doctype html><p>x")) },
	"large body":          func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(large(5000)) },
	"large body in parts": func(w http.ResponseWriter, _ *http.Request) { writeParts(w, large(9000), 1000) },
	"large body with its length": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "5000")
		_, _ = w.Write(large(5000))
	},
	"copied": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.Copy(w, strings.NewReader(strings.Repeat("x", 3000)))
	},
	"no type": func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		_, _ = w.Write([]byte("<html>"))
	},
	"encoded": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "br")
		_, _ = w.Write([]byte{0x0b, 0x02, 0x80, 'h', 'e', 'l', 'l', 'o', 0x03})
	},
	"no content, but written": func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
		n, err := w.Write([]byte("x"))
		report(w, n, err)
	},
	"not modified": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.WriteHeader(http.StatusNotModified)
	},
	"two statuses": func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte("x"))
	},
	"header after status": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Before", "1")
		w.WriteHeader(http.StatusOK)
		w.Header().Set("X-After", "1")
		w.Header().Del("X-Before")
		_, _ = w.Write([]byte("x"))
	},
	"many values": func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Link"] = []string{"<a>; rel=a, <b>; rel=b", "<c>; rel=c"}
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		w.Header().Set("X-Injected", "a\r\nSet-Cookie: c=3")
	},
	"trailers": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "Digest")
		_, _ = w.Write([]byte("x"))
		w.Header().Set("Digest", "abc")
		w.Header().Set(http.TrailerPrefix+"Late", "1")
	},
	"trailers of a stream": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "Digest")
		_, _ = w.Write([]byte("x"))
		_ = http.NewResponseController(w).Flush()
		_, _ = w.Write([]byte("y"))
		w.Header().Set("Digest", "abc")
	},
	"early hints": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusProcessing)
		_, _ = w.Write([]byte("x"))
	},
	"flushed": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("x"))
		w.(http.Flusher).Flush()
		w.Header().Set("X-Too-Late", "1")
		_, _ = w.Write([]byte("y"))
		w.WriteHeader(http.StatusTeapot)
	},
	"flushed before anything": func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		_, _ = io.Copy(w, strings.NewReader("y"))
	},
	"over the limit": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(large(20_000)) },
	"too much": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "3")
		_, _ = w.Write([]byte("abc"))
		n, err := w.Write([]byte("d"))
		report(w, n, err)
	},
	"too little": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = w.Write([]byte("abc"))
	},
	"close": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		_, _ = w.Write([]byte("x"))
	},
	"hijacked": func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, err = w.Write([]byte("x"))
		_, _ = fmt.Fprintf(rw, "HTTP/1.1 299 Mine\r\nConnection: close\r\n\r\n%v", err)
		_ = rw.Flush()
		_ = conn.Close()
	},
	"a bad status":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(42) },
	"a panic":       func(http.ResponseWriter, *http.Request) { panic("x") },
	"a late panic":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("x")); panic("x") },
	"aborted":       func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	"aborted midst": func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush(); panic(http.ErrAbortHandler) },
	"deadlines": func(w http.ResponseWriter, _ *http.Request) {
		c := http.NewResponseController(w)
		_, _ = fmt.Fprint(w, c.SetReadDeadline(time.Now().Add(time.Hour)), c.SetWriteDeadline(time.Now().Add(time.Hour)), c.EnableFullDuplex())
	},
	"interfaces": func(w http.ResponseWriter, _ *http.Request) {
		_, flusher := w.(http.Flusher)
		_, hijacker := w.(http.Hijacker)
		_, from := w.(io.ReaderFrom)
		_, _ = fmt.Fprint(w, flusher, hijacker, from)
	},
	"the request": func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s %d %q %v %q %v", r.Method, r.URL, r.ContentLength, body, err, r.Header["Idempotency-Key"], r.Body.Close())
	},
}

// report makes what a Write returned a part of the answer, where only the server's log would have
// it.
func report(w http.ResponseWriter, n int, err error) {
	w.Header().Set(http.TrailerPrefix+"Report", fmt.Sprint(n, err))
}

func large(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + i%26)
	}
	return b
}

func writeParts(w io.Writer, b []byte, n int) {
	for part := range slices.Chunk(b, n) {
		_, _ = w.Write(part)
	}
}

func TestFirstAnswerIsTheSameAsWithoutTheMiddleware(t *testing.T) {
	t.Parallel()
	for name, h := range answers {
		for _, method := range []string{http.MethodPost, http.MethodHead} {
			t.Run(name+", "+method, func(t *testing.T) {
				t.Parallel()
				m := newStore(t).middleware(&httpidem.Config{
					Methods: []string{http.MethodPost, http.MethodHead}, Response: httpidem.ResponseConfig{MaxBytes: 10_000},
				})
				want := rawAnswer(t, serve(t, h), method)
				got := rawAnswer(t, serve(t, m.Handler(h)), method)
				if got := withoutOwn(got); got != withoutOwn(want) {
					t.Errorf("with the middleware:\n%.2000s\nwithout:\n%.2000s", got, withoutOwn(want))
				}
				// The retry never breaks anything either.
				_ = rawAnswer(t, serve(t, m.Handler(h)), method)
			})
		}
	}
}

// rawAnswer returns what a server sends, byte for byte, until it closes the connection.
func rawAnswer(t *testing.T, server *httptest.Server, method string) string {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	body := "the body"
	if method == http.MethodHead {
		body = ""
	}
	_, _ = fmt.Fprintf(conn, "%s /p?q=1 HTTP/1.1\r\nHost: x\r\n%s: alice\r\nIdempotency-Key: \"k\"\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		method, callerHeader, len(body), body)
	b, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// withoutOwn takes out of a raw answer what the middleware adds, and the date.
//
// How a body is cut into chunks is the server's affair: what is written at once is sent at once.
func withoutOwn(raw string) string {
	var b strings.Builder
	if head, chunks, ok := strings.Cut(raw, "Transfer-Encoding: chunked"); ok {
		rest, chunks, _ := strings.Cut(chunks, "\r\n\r\n")
		r := bufio.NewReader(strings.NewReader(chunks))
		body, err := io.ReadAll(httputil.NewChunkedReader(r))
		trailers, _ := io.ReadAll(r)
		raw = fmt.Sprintf("%schunked\r\n%s\r\n\r\n%s\r\n%v\r\n%s", head, rest, body, err, trailers)
	}
	for line := range strings.Lines(raw) {
		name, _, _ := strings.Cut(line, ":")
		switch name {
		case "Date", "Idempotency-Key", "Access-Control-Expose-Headers":
		default:
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestReplayIsTheSameAsTheFirstAnswer(t *testing.T) {
	t.Parallel()
	unlike := []string{"many values", "early hints"} // what these add is not stored
	for name, h := range answers {
		if slices.Contains(unlike, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newStore(t).middleware(&httpidem.Config{Response: httpidem.ResponseConfig{MaxBytes: 10_000, KeepHeaders: []string{"X-Before"}}})
			server := serve(t, m.Handler(h))
			first := rawAnswer(t, server, http.MethodPost)
			if m.Count(httpidem.ResultExecuted) != 1 {
				return // not kept, and tested elsewhere
			}
			again := rawAnswer(t, server, http.MethodPost)
			if m.Count(httpidem.ResultReplayed) != 1 {
				t.Fatalf("no replay: %s", again)
			}
			a, b := parseRaw(t, first), parseRaw(t, again)
			for _, field := range []string{"Idempotency-Replayed", "Cache-Control", "Date", "Content-Length"} {
				b.Header.Del(field)
				a.Header.Del(field)
			}
			if a.StatusCode != b.StatusCode || a.body != b.body || !maps.EqualFunc(a.Header, b.Header, slices.Equal) ||
				!maps.EqualFunc(a.Trailer, b.Trailer, slices.Equal) {
				t.Errorf("first:\n%s\nreplay:\n%s", first, again)
			}
		})
	}
}

func parseRaw(t *testing.T, raw string) answer {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(raw)), nil)
	if err != nil {
		t.Fatalf("%v: %q", err, raw)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp, string(body)}
}
