package httpidem_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// gzipped is the usual middleware: it announces the encoding before the handler runs, and
// compresses all that is written.
func gzipped(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Accept-Encoding")
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer func() { _ = z.Close() }()
		next.ServeHTTP(zipWriter{w, z}, r)
	})
}

type zipWriter struct {
	http.ResponseWriter
	to io.Writer
}

func (w zipWriter) Write(p []byte) (int, error) { return w.to.Write(p) }

// lateGzipped compresses as gin's does: the length is removed when the status is written, and both
// are sent with the first compressed bytes.
func lateGzipped(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Accept-Encoding")
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		late := &lateWriter{ResponseWriter: w}
		late.zip = gzip.NewWriter(writerFunc(late.send))
		defer func() { _ = late.zip.Close() }()
		next.ServeHTTP(late, r)
	})
}

type lateWriter struct {
	http.ResponseWriter
	zip    *gzip.Writer
	status int
	sent   bool
}

func (w *lateWriter) WriteHeader(status int) {
	w.Header().Del("Content-Length")
	w.status = status
}

func (w *lateWriter) Write(p []byte) (int, error) { return w.zip.Write(p) }

func (w *lateWriter) send(p []byte) (int, error) {
	if !w.sent {
		w.sent = true
		w.ResponseWriter.WriteHeader(w.status)
	}
	return w.ResponseWriter.Write(p)
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// accept sends a request with a key from a client that decodes by itself what it says that it
// accepts.
func accept(t *testing.T, url, key, body, encoding string) answer {
	t.Helper()
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", key)
	req.Header.Set(callerHeader, "alice")
	if encoding != "" {
		req.Header.Set("Accept-Encoding", encoding)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if got := resp.Header.Get("Content-Encoding"); got != encoding {
		t.Errorf("Content-Encoding %q for a client that accepts %q", got, encoding)
	}
	content := io.Reader(resp.Body)
	if encoding == "gzip" {
		if content, err = gzip.NewReader(content); err != nil {
			t.Fatalf("%d: %v", resp.StatusCode, err)
		}
	}
	text, err := io.ReadAll(content)
	if err != nil {
		t.Fatalf("%d: %v", resp.StatusCode, err)
	}
	return answer{resp, string(text)}
}

func TestAnswersBehindCompressionCanBeReadByEveryRetry(t *testing.T) {
	t.Parallel()
	for outside, compress := range map[string]func(http.Handler) http.Handler{"usual": gzipped, "late": lateGzipped} {
		for name, text := range map[string]string{"small": "hello", "large": strings.Repeat("hello ", 1000), "empty": ""} {
			for _, kind := range []string{"text/csv", ""} {
				for _, first := range []string{"gzip", ""} {
					t.Run(outside+"/"+name+"/"+kind+"/"+first, func(t *testing.T) {
						t.Parallel()
						h := counting(func(w http.ResponseWriter, _ *http.Request) {
							if kind != "" {
								w.Header().Set("Content-Type", kind)
							}
							if outside == "late" {
								w.Header().Set("Content-Length", strconv.Itoa(len(text)))
							}
							w.WriteHeader(http.StatusCreated)
							_, _ = io.WriteString(w, text)
						})
						url := serve(t, compress(newStore(t).middleware(nil).Handler(h))).URL
						for i, encoding := range []string{first, "gzip", "", "gzip"} {
							a := accept(t, url, "k", "b", encoding)
							wantStatus(t, a, http.StatusCreated)
							if a.body != text || a.replayed() != (i > 0) || a.Header.Get("Vary") != "Accept-Encoding" {
								t.Errorf("answer %d: %v %.100q", i, a.Header, a.body)
							}
							want := kind
							if kind == "" && text != "" {
								want = "text/plain; charset=utf-8"
							}
							if got := a.Header.Get("Content-Type"); i > 0 && got != want {
								t.Errorf("answer %d has the type %q", i, got)
							}
						}
						a := accept(t, url, "k", "another", "gzip")
						wantStatus(t, a, http.StatusUnprocessableEntity)
						if !strings.Contains(a.body, "#mismatch") {
							t.Errorf("refused with %q", a.body)
						}
						h.ran(t, 1)
					})
				}
			}
		}
	}
}
