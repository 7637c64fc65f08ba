package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
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

// targets are request targets, each of which is another one to some service.
func targets() []string {
	return []string{
		"/items?tenant=5&ids=1;2", "/items?tenant=5", "/items?tenant=5&ids=1", "/items?ids=1;2&tenant=5", "/items?tenant=5;ids=1&2",
		"/items", "/items?", "/items??", "/items?&", "/items?=", "/items?=&=", "/items?a", "/items?a=", "/items?a&a", "/items?a=1&a=2",
		"/items?a=2&a=1", "/items?a=%", "/items?a=%zz", "/items?a=%2", "/items?%=%&%%", "/items?a=%41", "/items?a=A", "/items?a=%3b",
		"/items?a=%3B", "/items?a=;", "/items?a=+", "/items?a=%20", "/items?a=\"<>^`{|}\\", "/items?a=ü", "/items?a=%C3%BC", "/items?a=\xff",
		"/items?a=/../?b", "/items?a#b", "/items?" + strings.Repeat("a&", 10_001), "/items?" + strings.Repeat("a&", 10_002) + "b",
		"/", "//", "/items/", "/items//", "//items", "//evil.example/items", "/items/a%2Fb", "/items/a%2fb", "/items/a/b", "/items/./a",
		"/items/../a", "/items/%2e%2e/a", "/items/%2E%2E/a", "/items/.", "/items/..", "/items/%41", "/items/A", "/items/a;b=1", "/items/a%3Bb",
		"/items/a,b:c@d", "/items/a|b", "/items/a%7Cb", "/items/\"<>^`{}\\", "/items/ü", "/items/%C3%BC", "/items/\xff", "/items/%ff",
		"/items/%00", "/items/%2", "/items/a#b", "/items/a%23b", "/items/!$&'()*+=[]", "/items/%21",
	}
}

// TestTargetsReachTheUpstreamByteForByte is about protected requests and others. A target that is
// no target for Go's server is refused, and reaches no one.
func TestTargetsReachTheUpstreamByteForByte(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"", "/", "/base", "/ba%2Fse/"} {
		t.Run(base, func(t *testing.T) {
			t.Parallel()
			w := newWire(t, base, "routes: [{match: DELETE /, methods: [DELETE]}]", false)
			for i, target := range targets() {
				for _, method := range []string{"POST", "DELETE", "GET", "PATCH", "PUT", "PURGE"} {
					for _, key := range []string{"", fmt.Sprintf("Idempotency-Key: k%s%d\n", method, i)} {
						status, replayed, got := w.exchange(method + " " + target + " HTTP/1.1\nHost: h\nContent-Length: 0\nConnection: close\n" + key + "\n")
						want := method + " " + strings.TrimSuffix(base, "/") + target + " HTTP/1.1"
						if _, err := url.ParseRequestURI(target); err != nil {
							if status != 400 || got.line != "" {
								t.Errorf("%.100q: %d, and the upstream got %.100q", target, status, got.line)
							}
							continue
						}
						if status != 201 || replayed || got.line != want {
							t.Errorf("%d, the upstream got\n%.100q, want\n%.100q", status, got.line, want)
						}
					}
				}
			}
		})
	}
}

// TestQueryOfTheUpstreamsURLStaysInFront is about an upstream whose URL has a query.
func TestQueryOfTheUpstreamsURLStaysInFront(t *testing.T) {
	t.Parallel()
	w := newWire(t, "/base?v=1;2", "", false)
	for target, want := range map[string]string{
		"/a": "/base/a?v=1;2", "/a?": "/base/a?v=1;2", "/a?b;c&%": "/base/a?v=1;2&b;c&%",
	} {
		if _, _, got := w.exchange("GET " + target + " HTTP/1.1\nHost: h\nConnection: close\n\n"); got.line != "GET "+want+" HTTP/1.1" {
			t.Errorf("%s: the upstream got %q", target, got.line)
		}
	}
}

// TestKeysStandForTheBytesOfATarget sends each target with one key after the other: none is taken
// for another one.
func TestKeysStandForTheBytesOfATarget(t *testing.T) {
	t.Parallel()
	w := newWire(t, "", "{defaults: {methods: [POST, DELETE]}, routes: [{match: /fields/, fingerprint: [amount]}]}", false)
	sent := make([]string, 0, 2*len(targets()))
	for _, target := range targets() {
		if _, err := url.ParseRequestURI(target); err == nil {
			sent = append(sent, target, "/fields"+target)
		}
	}
	send := func(method, target, key string) (int, bool) {
		status, replayed, _ := w.exchange(method + " " + target + " HTTP/1.1\nHost: h\nIdempotency-Key: " + key + "\nContent-Length: 0\nConnection: close\n\n")
		return status, replayed
	}
	for i, target := range sent {
		for _, method := range []string{"POST", "DELETE"} {
			key := fmt.Sprint(method, i)
			if status, replayed := send(method, target, key); status != 201 || replayed {
				t.Errorf("%s %.100q: %d, replayed %v", method, target, status, replayed)
			}
			if status, replayed := send(method, target, key); status != 201 || !replayed {
				t.Errorf("%s %.100q again: %d, replayed %v", method, target, status, replayed)
			}
			other := sent[(i+1)%len(sent)]
			if status, _ := send(method, other, key); status != 422 {
				t.Errorf("%.100q with the key of %.100q: %d", other, target, status)
			}
		}
	}
	for _, pair := range [][2]string{{"/items", "/items?"}, {"/items/a|b", "/items/a%7Cb"}, {"/items/a%2fb", "/items/a%2Fb"}, {"/items?a=1;2", "/items?a=1"}} {
		key := "pair" + url.QueryEscape(pair[0])
		send("POST", pair[0], key)
		if status, _ := send("POST", pair[1], key); status != 422 {
			t.Errorf("%q with the key of %q: %d", pair[1], pair[0], status)
		}
	}
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
		w := newWire(t, "", "routes: [{match: /fields, fingerprint: [amount]}, {match: /any, any_host: true}]", keepHost)
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
