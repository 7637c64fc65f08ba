package httpidem_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// awaitEmpty waits until no body is in a spool.
func awaitEmpty(t testing.TB, s *httpidem.Spool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); s.Bytes() != 0; {
		if time.Now().After(end) {
			t.Fatalf("%d bytes are left in the spool", s.Bytes())
		}
		runtime.Gosched()
	}
}

// openFiles returns how many files of a folder this process has open, and -1 where that cannot be
// seen.
func openFiles(t testing.TB, dir string) (n int) {
	t.Helper()
	const open = "/proc/self/fd/"
	entries, err := os.ReadDir(open)
	if err != nil {
		return -1
	}
	for _, e := range entries {
		if name, err := os.Readlink(open + e.Name()); err == nil && strings.HasPrefix(name, dir) {
			n++
		}
	}
	return n
}

// chunked sends a body without its length.
func chunked(r *http.Request) { r.ContentLength = -1 }

func TestLargeBodiesComeFromAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spool := newSpool(t, &httpidem.SpoolConfig{Dir: dir})
	m := newStore(t).middleware(&httpidem.Config{Spool: spool})
	h := counting(func(_ http.ResponseWriter, r *http.Request) {
		if spool.Bytes() != int64(len(largeBody)) {
			t.Errorf("%d bytes are in the spool", spool.Bytes())
		}
		if n := openFiles(t, dir); n != 1 && n != -1 {
			t.Errorf("%d files are open", n)
		}
		body, err := io.ReadAll(r.Body)
		again, againErr := r.GetBody()
		if err != nil || againErr != nil || string(body) != largeBody {
			t.Errorf("%d bytes, %v, %v", len(body), err, againErr)
			return
		}
		if body, err = io.ReadAll(again); err != nil || string(body) != largeBody {
			t.Errorf("again: %d bytes, %v", len(body), err)
		}
	})
	server := serve(t, m.Handler(h))
	wantStatus(t, post(t, server.URL, "k", largeBody), http.StatusOK)
	if a := post(t, server.URL, "k", largeBody, chunked); !a.replayed() {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	wantStatus(t, post(t, server.URL, "k", largeBody+"x"), http.StatusUnprocessableEntity)
	wantStatus(t, post(t, server.URL, "k", strings.Repeat("x", 1<<20+1), chunked), http.StatusRequestEntityTooLarge)
	h.ran(t, 1)
	awaitEmpty(t, spool)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 || openFiles(t, dir) > 0 {
		t.Errorf("left: %v, %v, open %d", left, err, openFiles(t, dir))
	}
}

// TestSpooledBodiesHaveTheSameFingerprint runs a request without a spool, and its retry with one.
func TestSpooledBodiesHaveTheSameFingerprint(t *testing.T) {
	t.Parallel()
	document := `{"a": "` + largeBody + `", "b": 1}`
	file := "--x\r\nContent-Disposition: form-data; name=f\r\n\r\n" + largeBody + "\r\n--x--\r\n"
	for name, c := range map[string]struct {
		f                        httpidem.FingerprintFunc
		kind, body, same, differ string
	}{
		"whole":     {httpidem.WholeRequest, "text/plain", largeBody, largeBody, largeBody[1:]},
		"json":      {httpidem.CanonicalJSON, "application/json", document, document + " ", document[:len(document)-2] + "2}"},
		"not json":  {httpidem.CanonicalJSON, "application/json", largeBody + "{", largeBody + "{", largeBody},
		"fields":    {httpidem.JSONFields("b"), "application/json", document, document[:8] + document[9:], document[:len(document)-2] + "2}"},
		"except":    {httpidem.JSONFieldsExcept("b"), "application/json", document, document[:len(document)-2] + "2}", document[:8] + document[9:]},
		"multipart": {httpidem.MultipartParts, "multipart/form-data; boundary=x", file, file, strings.Replace(file, "name=f", "name=g", 1)},
		"not multipart": {
			httpidem.MultipartParts, "multipart/form-data; boundary=x", file + "more", file + "more", file,
		},
		"headers": {httpidem.WithHeaders(httpidem.WholeRequest, "X-Mode"), "text/plain", largeBody, largeBody, largeBody + "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, spool := newStore(t), newSpool(t, nil)
			inMemory := s.middleware(&httpidem.Config{Fingerprint: httpidem.Fingerprint{Func: c.f}})
			spooled := s.middleware(&httpidem.Config{Fingerprint: httpidem.Fingerprint{Func: c.f}, Spool: spool})
			for i, step := range []struct {
				m    *observed
				body string
				want httpidem.Result
			}{
				{inMemory, c.body, httpidem.ResultExecuted},
				{spooled, c.same, httpidem.ResultReplayed},
				{spooled, c.differ, httpidem.ResultMismatch},
			} {
				r := newRequest(t.Context(), "k", step.body)
				r.Header.Set("Content-Type", c.kind)
				if w := call(step.m.Handler(created("done")), r); step.m.Count(step.want) != 1 {
					t.Errorf("step %d: %d %s", i, w.Code, w.Body)
				}
			}
			awaitEmpty(t, spool)
		})
	}
}

// TestFilesOfBodiesAreRemoved ends requests in all the ways there are.
func TestFilesOfBodiesAreRemoved(t *testing.T) {
	t.Parallel()
	s, dir := newStore(t), t.TempDir()
	spool := newSpool(t, &httpidem.SpoolConfig{Dir: dir})
	kept := make(chan io.Reader, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("X-Way") {
		case "panic":
			panic(http.ErrAbortHandler)
		case "goexit":
			runtime.Goexit()
		case "kept":
			kept <- r.Body
		case "hijacked":
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.Close()
		case "slow":
			<-r.Context().Done()
			_, _ = io.Copy(io.Discard, r.Body)
		}
	})
	cfg := &httpidem.Config{Spool: spool, CancelWithClient: true, Fingerprint: httpidem.Fingerprint{
		Func: func(_ *httpidem.Digest, r *http.Request, _ *httpidem.Body) error {
			switch r.Header.Get("X-Way") {
			case "fingerprint":
				return errors.New("no")
			case "fingerprint panic":
				panic(http.ErrAbortHandler)
			}
			return nil
		},
	}}
	m := s.middleware(cfg)
	mux := http.NewServeMux()
	mux.Handle("/plain", m.Handler(h))
	mux.Handle("/limited", m.TimeoutHandler(h, 10*time.Millisecond))
	server := serve(t, mux)
	for _, way := range []string{"fine", "panic", "goexit", "kept", "hijacked", "slow", "fingerprint", "fingerprint panic"} {
		for _, path := range []string{"/plain", "/limited"} {
			if way == "slow" && path == "/plain" {
				continue
			}
			_, _ = try(t.Context(), server.URL+path, way+path, largeBody, func(r *http.Request) { r.Header.Set("X-Way", way) })
			awaitEmpty(t, spool)
			if n := openFiles(t, dir); n > 0 {
				t.Errorf("%s %s: %d files are open", path, way, n)
			}
			if way == "kept" {
				if _, err := (<-kept).Read(make([]byte, 1)); err != http.ErrBodyReadAfterClose { //nolint:errorlint // as net/http returns it
					t.Errorf("a handler's body after the request: %v", err)
				}
			}
		}
	}
	// Requests that the store does not answer, without and with protection.
	svc := s.service(redisidem.Config{Timeout: 50 * time.Millisecond})
	s.sever()
	closed := serve(t, newMiddleware(t, svc, cfg).Handler(h))
	wantStatus(t, post(t, closed.URL, "severed", largeBody), http.StatusServiceUnavailable)
	cfg.FailOpen = true
	open := serve(t, newMiddleware(t, svc, cfg).Handler(h))
	wantStatus(t, post(t, open.URL, "severed", largeBody), http.StatusOK)
	awaitEmpty(t, spool)
}

// TestClientGoesAwayInTheMiddleOfALargeBody breaks a connection after a part of a body is in a
// file.
func TestClientGoesAwayInTheMiddleOfALargeBody(t *testing.T) {
	t.Parallel()
	s, seen := newStore(t), make(chan httpidem.Event, 1)
	spool := newSpool(t, nil)
	h := counting(created("done"))
	m := s.middleware(&httpidem.Config{Spool: spool, Observer: func(_ context.Context, e httpidem.Event) { seen <- e }})
	server := serve(t, m.Handler(h))
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nX-Caller: alice\r\nIdempotency-Key: k\r\nContent-Length: %d\r\n\r\n%s", 2*len(largeBody), largeBody)
	for spool.Bytes() == 0 {
		runtime.Gosched()
	}
	_ = conn.Close()
	if e := <-seen; e.Result != httpidem.ResultBodyUnreadable {
		t.Errorf("%+v", e)
	}
	awaitEmpty(t, spool)
	h.ran(t, 0)
	if n := len(s.redis.Keys()); n != 0 {
		t.Errorf("%d keys are stored", n)
	}
}

// TestUnusableSpoolRunsNothing removes the folder of a spool.
func TestUnusableSpoolRunsNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "spool")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	spool := newSpool(t, &httpidem.SpoolConfig{Dir: dir})
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	refusesLargeBodies(t, spool)
}

// refusesLargeBodies checks that a spool that cannot be used refuses a body, and that nothing else
// happens.
func refusesLargeBodies(t *testing.T, spool *httpidem.Spool) {
	t.Helper()
	s, seen := newStore(t), &results{}
	h := counting(created("done"))
	m := s.middleware(&httpidem.Config{Spool: spool, Observer: seen.observe})
	w := call(m.Handler(h), newRequest(t.Context(), "k", largeBody))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "redisidem-body") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if e := seen.last(t); e.Result != httpidem.ResultSpoolUnavailable || errors.Is(e.Err, httpidem.ErrSpoolFull) {
		t.Errorf("%+v", e)
	}
	h.ran(t, 0)
	if n := len(s.redis.Keys()); n != 0 || spool.Bytes() != 0 {
		t.Errorf("%d keys, %d bytes", n, spool.Bytes())
	}
	wantCode(t, call(m.Handler(h), newRequest(t.Context(), "k", "small")), http.StatusCreated)
}

func wantCode(t *testing.T, w *httptest.ResponseRecorder, want int) {
	t.Helper()
	if w.Code != want {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestBrokenFilesAreNotTheClientsFault closes a file before its fingerprint is computed.
func TestBrokenFilesAreNotTheClientsFault(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]httpidem.FingerprintFunc{
		"json": httpidem.CanonicalJSON, "fields": httpidem.JSONFields("a"), "except": httpidem.JSONFieldsExcept("a"), "multipart": httpidem.MultipartParts,
	} {
		h := counting(created("done"))
		m := newStore(t).middleware(&httpidem.Config{Spool: newSpool(t, nil), Fingerprint: httpidem.Fingerprint{
			Func: func(d *httpidem.Digest, r *http.Request, body *httpidem.Body) error {
				httpidem.BreakFile(body)
				return f(d, r, body)
			},
		}})
		r := newRequest(t.Context(), "k", "--x"+largeBody+"--x--")
		r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
		wantCode(t, call(m.Handler(h), r), http.StatusServiceUnavailable)
		if t.Failed() {
			t.Fatal(name)
		}
		h.ran(t, 0)
	}
}

// TestFilesThatEndEarlyAreNoWholeBodies cuts a file before its handler reads it.
func TestFilesThatEndEarlyAreNoWholeBodies(t *testing.T) {
	t.Parallel()
	h := counting(func(_ http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(io.Discard, r.Body); !errors.Is(err, io.ErrUnexpectedEOF) || n != int64(len(largeBody)/2) {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
	m := newStore(t).middleware(&httpidem.Config{Spool: newSpool(t, nil), Fingerprint: httpidem.Fingerprint{
		Func: func(_ *httpidem.Digest, _ *http.Request, body *httpidem.Body) error { return httpidem.CutFile(body) },
	}})
	wantCode(t, call(m.Handler(h), newRequest(t.Context(), "k", largeBody)), http.StatusOK)
	h.ran(t, 1)
}

// TestFileErrorsOfOtherFingerprintsAreTheSpools reads a broken file for the second fingerprint.
func TestFileErrorsOfOtherFingerprintsAreTheSpools(t *testing.T) {
	t.Parallel()
	svc, h := newStore(t).service(redisidem.Config{}), counting(created("done"))
	first := newMiddleware(t, svc, &httpidem.Config{Fingerprint: httpidem.Fingerprint{Name: "old"}})
	wantCode(t, call(first.Handler(h), newRequest(t.Context(), "k", largeBody)), http.StatusCreated)
	m := newMiddleware(t, svc, &httpidem.Config{Spool: newSpool(t, nil), OtherFingerprints: []httpidem.Fingerprint{{
		Name: "old", Func: func(_ *httpidem.Digest, _ *http.Request, body *httpidem.Body) error {
			httpidem.BreakFile(body)
			_, err := body.Bytes()
			return err
		},
	}}})
	wantCode(t, call(m.Handler(h), newRequest(t.Context(), "k", largeBody)), http.StatusServiceUnavailable)
	if m.Count(httpidem.ResultSpoolUnavailable) != 1 {
		t.Error("it is not reported as the spool's")
	}
	h.ran(t, 1)
}

// TestNamedFilesAreRemoved is about systems that keep the names of open files.
func TestNamedFilesAreRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	httpidem.RemoveNamed(t, newSpool(t, &httpidem.SpoolConfig{Dir: dir}), filepath.Join(dir, "named"))
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// largeSpool makes TestMemoryOfLargeBodies write 1 GB.
var largeSpool = flag.Bool("large-spool", false, "measure 50 bodies of 20 MiB in a spool, in place of 10 bodies of 8 MiB")

// TestMemoryOfLargeBodies holds requests with large bodies, and measures the memory of the process:
// the server and the client of the test.
func TestMemoryOfLargeBodies(t *testing.T) { //nolint:paralleltest // other tests need memory too
	requests, size := 10, int64(8<<20)
	if *largeSpool {
		requests, size = 50, 20<<20
	}
	spool := newSpool(t, &httpidem.SpoolConfig{MaxBytes: int64(requests) * size})
	arrived, end := make(chan struct{}, requests), make(chan struct{})
	m := newStore(t).middleware(&httpidem.Config{Spool: spool, MaxBodyBytes: size, Wait: -1})
	server := serve(t, m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-end
		if n, err := io.Copy(io.Discard, r.Body); n != size || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	})))
	block := bytes.Repeat([]byte("0123456789abcdef"), 1<<10)
	before := heap()
	var all sync.WaitGroup
	for i := range requests {
		all.Go(func() {
			body := io.LimitReader(repeated(block), size)
			a, err := try(t.Context(), server.URL, fmt.Sprint(i), "", func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(body), size })
			if err != nil || a.StatusCode != http.StatusOK {
				t.Error(err, a.body)
			}
		})
	}
	most := uint64(0)
	for range requests {
		<-arrived
		most = max(most, heap())
	}
	held, inFiles := heap(), spool.Bytes()
	close(end)
	all.Wait()
	t.Logf("%d bodies of %d MiB: %d MiB in files; heap before %.1f MiB, most %.1f MiB, with all of them %.1f MiB",
		requests, size>>20, inFiles>>20, mebibytes(before), mebibytes(most), mebibytes(held))
	if inFiles != int64(requests)*size || held > before+uint64(requests)<<20 {
		t.Errorf("%d bytes in files, %.1f MiB in memory", inFiles, mebibytes(held-before))
	}
	awaitEmpty(t, spool)
}

// heap returns the bytes of live objects and of those that are not collected yet.
func heap() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func mebibytes(n uint64) float64 { return float64(n) / (1 << 20) }

// repeated is an endless reader.
type repeated []byte

func (r repeated) Read(p []byte) (int, error) { return copy(p, r), nil }

// panicking is a body that panics after some bytes, as middleware in front may do.
type panicking struct{ left int }

func (b *panicking) Read(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		panic(http.ErrAbortHandler)
	}
	return len(p), nil
}

func (*panicking) Close() error { return nil }

func TestBodyThatPanicsLeavesNothingInTheSpool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spool := newSpool(t, &httpidem.SpoolConfig{Dir: dir})
	m := newStore(t).middleware(&httpidem.Config{Spool: spool})
	h := counting(func(http.ResponseWriter, *http.Request) {})
	for _, left := range []int{10, 256 << 10} {
		r := newRequest(t.Context(), "k", "")
		r.Body, r.ContentLength = &panicking{left}, -1
		func() {
			defer func() {
				if v := recover(); v != http.ErrAbortHandler { //nolint:errorlint // it is the value
					t.Errorf("the panic is %v", v)
				}
			}()
			m.Handler(h).ServeHTTP(httptest.NewRecorder(), r)
		}()
		if n := openFiles(t, dir); spool.Bytes() != 0 || n > 0 {
			t.Errorf("%d bytes and %d files are left in the spool", spool.Bytes(), n)
		}
	}
	h.ran(t, 0)
}
