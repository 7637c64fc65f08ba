package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// received is a request as its bytes reached the upstream.
type received struct {
	line   string // the request line
	fields []string
	body   string // as it was sent, chunks and trailers included
}

// field returns the values of a field, in order.
func (r received) field(name string) (values []string) {
	for _, line := range r.fields {
		if n, v, _ := strings.Cut(line, ":"); strings.EqualFold(n, name) {
			values = append(values, strings.TrimSpace(v))
		}
	}
	return values
}

// wire is a gateway between a client and an upstream that read and write bytes.
type wire struct {
	*bench
	seen chan received
}

// newWire starts a gateway in front of an upstream that answers each request with 201 and shows
// what it received. base is what the upstream's URL has behind its host.
func newWire(t *testing.T, base, routes string, keepHost bool) *wire {
	t.Helper()
	w := &wire{&bench{T: t}, make(chan received, 1)}
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go w.upstream(conn)
		}
	}()
	w.serve(&Upstream{URL: parse(t, "http://"+listener.Addr().String()+base), Timeout: 5 * time.Second, KeepHost: keepHost}, routes, Unscoped)
	return w
}

// upstream answers the first request on a connection.
func (w *wire) upstream(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	r := bufio.NewReader(conn)
	head := textproto.NewReader(r)
	var got received
	var err error
	if got.line, err = head.ReadLine(); err != nil {
		return // a connection that was not used
	}
	for {
		line, err := head.ReadLine()
		if err != nil || line == "" {
			break
		}
		got.fields = append(got.fields, line)
	}
	var length int64
	switch {
	case len(got.field("Content-Length")) == 1:
		_, err = fmt.Sscan(got.field("Content-Length")[0], &length)
		if err == nil {
			var text []byte
			text, err = io.ReadAll(io.LimitReader(r, length))
			got.body = string(text)
		}
	case len(got.field("Transfer-Encoding")) == 1:
		for err == nil && !strings.HasSuffix(got.body, "0\r\n\r\n") && (!strings.Contains(got.body, "0\r\n") || !strings.HasSuffix(got.body, "\r\n\r\n")) {
			var line string
			line, err = r.ReadString('\n')
			got.body += line
		}
	}
	if err != nil {
		return
	}
	w.seen <- got
	_, _ = io.WriteString(conn, "HTTP/1.1 201 Created\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
}

// exchange sends a request as it is given, with line feeds for the ends of its lines, and returns
// the answer and what the upstream received, if anything.
func (w *wire) exchange(request string) (status int, replayed bool, got received) {
	w.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(w.Context(), "tcp", w.server.Listener.Addr().String())
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		w.Fatal(err)
	}
	answers := bufio.NewReader(conn)
	res, err := http.ReadResponse(answers, nil)
	if err == nil && res.StatusCode == http.StatusContinue {
		res, err = http.ReadResponse(answers, nil)
	}
	if err != nil {
		w.Fatalf("%.200q: %v", request, err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	select {
	case got = <-w.seen:
	default:
	}
	return res.StatusCode, res.Header.Get("Idempotency-Replayed") == "true", got
}

// TestFieldsReachTheUpstreamAsTheyCame is about what a gateway has no reason to change (RFC 9110,
// section 7.7).
func TestFieldsReachTheUpstreamAsTheyCame(t *testing.T) {
	t.Parallel()
	w := newWire(t, "", "", true)
	for _, key := range []string{"", "Idempotency-Key: \"k\"; a=1\n"} {
		_, _, got := w.exchange("pOsT / HTTP/1.1\nHost: Shop.Example:80\nX-Same: b, \"c;d\"\nX-Same: a\nX-Same:\nX-Latin: \xfc\nAccept-Encoding: br;q=0.5\n" +
			"Cookie: a=1; b=\"2\"\nCookie: c=3\nTE: trailers\nConnection: close, x-hop, te\nX-Hop: 1\nTransfer-Encoding: chunked\nTrailer: X-Sum\n" +
			"Content-Type: text/plain; Charset=\"UTF-8\"\nContent-Encoding: x-none\n" + key + "\n3\nabc\n0\nX-Sum: 7\n\n")
		if got.line != "pOsT / HTTP/1.1" {
			t.Errorf("the upstream got %q", got.line)
		}
		for name, want := range map[string][]string{
			"Host": {"Shop.Example:80"}, "X-Same": {`b, "c;d"`, "a", ""}, "X-Latin": {"\xfc"}, "Accept-Encoding": {"br;q=0.5"},
			"Cookie": {`a=1; b="2"`, "c=3"}, "Te": {"trailers"}, "X-Hop": nil, "User-Agent": nil, "Content-Type": {`text/plain; Charset="UTF-8"`},
			"Content-Encoding": {"x-none"}, "Idempotency-Key": nil, "Content-Length": nil,
		} {
			if name == "Idempotency-Key" && key != "" {
				want = []string{`"k"; a=1`}
			}
			if values := got.field(name); fmt.Sprint(values) != fmt.Sprint(want) || len(values) != len(want) {
				t.Errorf("%s is %q, want %q", name, values, want)
			}
		}
		if !strings.Contains(got.body, "abc") || !strings.HasSuffix(got.body, "0\r\nX-Sum: 7\r\n\r\n") {
			t.Errorf("the upstream got the body %q", got.body)
		}
	}
	// A method that is not safe has a length, also when there is no body; a GET has none.
	for _, method := range []string{"POST", "PUT", "GET"} {
		for _, length := range []string{"", "Content-Length: 0\n"} {
			_, _, got := w.exchange(method + " /empty HTTP/1.1\nHost: h\nConnection: close\n" + length + "\n")
			if has := len(got.field("Content-Length")) == 1; has != (method != "GET") || len(got.field("Transfer-Encoding")) != 0 || got.body != "" {
				t.Errorf("%s with %q: the upstream got %q", method, length, got.fields)
			}
		}
	}
	_, _, got := w.exchange("POST /expects HTTP/1.1\nHost: h\nIdempotency-Key: e\nExpect: 100-continue\nContent-Length: 3\nConnection: close\n\nabc")
	if got.body != "abc" {
		t.Errorf("the upstream got %q", got)
	}
}

// TestKeysStandForOneHost is about an upstream that serves several hosts.
func TestKeysStandForOneHost(t *testing.T) {
	t.Parallel()
	for _, keepHost := range []bool{true, false} {
		w := newWire(t, "", "routes: [{match: /fields, fingerprint: {fields: [amount]}}, {match: /any, fingerprint: {any_host: true}}]", keepHost)
		send := func(path, host string) (int, bool) {
			status, replayed, got := w.exchange("POST " + path + " HTTP/1.1\nHost: " + host +
				"\nIdempotency-Key: k" + path[1:] + "\nContent-Length: 12\nConnection: close\n\n{\"amount\":1}")
			if hosts := got.field("Host"); got.line != "" && (hosts[0] == host) != keepHost {
				t.Errorf("the upstream got the host %q", hosts)
			}
			return status, replayed
		}
		for _, path := range []string{"/", "/fields", "/any"} {
			if status, replayed := send(path, "a.example"); status != 201 || replayed {
				t.Errorf("%s: %d, replayed %v", path, status, replayed)
			}
			if status, replayed := send(path, "A.Example:80"); status != 201 || !replayed {
				t.Errorf("%s: the same host: %d, replayed %v", path, status, replayed)
			}
			want := 422
			if path == "/any" {
				want = 201
			}
			for _, other := range []string{"b.example", "a.example:8080", "a.example."} {
				if status, _ := send(path, other); status != want {
					t.Errorf("%s: %s: %d, want %d", path, other, status, want)
				}
			}
		}
	}
}

// TestEmptyBodiesHaveALength is about services that know no chunked encoding.
func TestEmptyBodiesHaveALength(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", Unscoped)
	b.answer(func(_ http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 || len(r.TransferEncoding) != 0 || r.Header.Get("Content-Length") != "0" {
			t.Errorf("length %d, %q, transfer encoding %q", r.ContentLength, r.Header["Content-Length"], r.TransferEncoding)
		}
		if r.Header.Get("Idempotency-Key") != "k" && r.Header.Get("X-Idempotency-Key") != "k" {
			t.Errorf("the upstream saw %v", r.Header)
		}
	})
	b.want(b.send("POST", "/", "", "Idempotency-Key", "k"), 200, "", false)
	b.want(b.send("POST", "/", "", "X-Idempotency-Key", "k"), 200, "", false)
}
