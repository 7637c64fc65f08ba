package gateway

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"
)

// unprotected are requests that the gateway forwards without protection: on a route without it, and
// without a key. What users rely on in a reverse proxy holds for both. The cases are those of Go's
// own reverse proxy.
var unprotected = map[string]string{"route": "/open/", "no key": "/"}

// eachUnprotected runs a test for each kind of unprotected request.
func eachUnprotected(t *testing.T, test func(b *bench, path string)) {
	t.Helper()
	t.Parallel()
	for name, path := range unprotected {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(setUp(t, "routes: [{match: /open/, protect: false}]", Unscoped), path)
		})
	}
}

// patience is how long a test waits for what should come at once.
const patience = 20 * time.Second

// await blocks until something has happened.
func (b *bench) await(what string, happened <-chan struct{}) {
	b.Helper()
	select {
	case <-happened:
	case <-time.After(patience):
		b.Fatalf("%s: not within %v", what, patience)
	}
}

// request returns a request to the gateway with a body of unknown length, unless it has none.
func (b *bench) request(ctx context.Context, method, path string, body io.Reader) *http.Request {
	b.Helper()
	r, err := http.NewRequestWithContext(ctx, method, b.server.URL+path, body)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func (b *bench) do(r *http.Request) *http.Response {
	b.Helper()
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = res.Body.Close() })
	return res
}

// dial connects to the gateway and sends the beginning of a request, with line feeds for the ends
// of its lines.
func (b *bench) dial(request string) (*net.TCPConn, *bufio.Reader) {
	b.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(b.Context(), "tcp", b.server.Listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		b.Fatal(err)
	}
	return conn.(*net.TCPConn), bufio.NewReader(conn)
}

func TestUnprotectedResponsesStream(t *testing.T) {
	eachUnprotected(t, func(b *bench, path string) {
		for _, kind := range []string{"text/plain", "text/event-stream; charset=utf-8"} {
			read := make(chan struct{})
			b.answer(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", kind)
				for _, piece := range []string{"one\n", "two\n", "three\n"} {
					_, _ = io.WriteString(w, piece)
					_ = http.NewResponseController(w).Flush()
					b.await(fmt.Sprintf("the client reads %q", piece), read)
				}
			})
			res := b.do(b.request(b.Context(), http.MethodGet, path, http.NoBody))
			lines := bufio.NewReader(res.Body)
			for _, piece := range []string{"one\n", "two\n", "three\n"} {
				if got, err := lines.ReadString('\n'); got != piece || err != nil {
					b.Fatalf("%s: the client got %q, %v", kind, got, err)
				}
				read <- struct{}{}
			}
			if _, err := lines.ReadByte(); !errors.Is(err, io.EOF) {
				b.Errorf("%s: after the end: %v", kind, err)
			}
		}
	})
}

// TestUnprotectedRequestsStream uploads more than a protected request may have. The upstream reads
// the beginning before the client has sent the rest.
func TestUnprotectedRequestsStream(t *testing.T) {
	eachUnprotected(t, func(b *bench, path string) {
		const pieces, size = 64, 64 << 10 // 4 MiB
		began := make(chan struct{})
		b.answer(func(w http.ResponseWriter, r *http.Request) {
			n, err := io.ReadFull(r.Body, make([]byte, size))
			close(began)
			rest, failed := io.Copy(io.Discard, r.Body)
			if err != nil || failed != nil {
				b.Errorf("the upstream reads: %v, %v", err, failed)
			}
			_, _ = fmt.Fprint(w, int64(n)+rest, r.ContentLength)
		})
		body, upload := io.Pipe()
		go func() {
			for i := range pieces {
				if i == 1 {
					b.await("the upstream reads the beginning", began)
				}
				_, _ = upload.Write(make([]byte, size))
			}
			_ = upload.Close()
		}()
		res := b.do(b.request(b.Context(), http.MethodPost, path, body))
		if text, err := io.ReadAll(res.Body); string(text) != fmt.Sprint(pieces*size, -1) || err != nil {
			b.Errorf("the client got %q, %v", text, err)
		}
	})
}

// upgrades lets the upstream switch to a protocol that sends each line back. It calls ended when
// the client has ended its half.
func upgrades(protocol string, ended func()) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, both, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = fmt.Fprintf(both, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX-Accept: %s\r\n\r\n", protocol, r.Header.Get("X-Key"))
		_ = both.Flush()
		for {
			line, err := both.ReadString('\n')
			if err != nil {
				break
			}
			_, _ = both.WriteString("echo " + line)
			_ = both.Flush()
		}
		ended()
		_, _ = both.WriteString("bye\n")
		_ = both.Flush()
	}
}

const upgradeFields = "Host: h\nConnection: keep-alive, Upgrade\nUpgrade: websocket\nX-Key: k\n\n"

func TestUnprotectedConnectionsUpgrade(t *testing.T) {
	eachUnprotected(t, func(b *bench, path string) {
		ended := make(chan struct{})
		b.answer(upgrades("websocket", func() { close(ended) }))
		conn, answers := b.dial("GET " + path + " HTTP/1.1\n" + upgradeFields)
		res, err := http.ReadResponse(answers, nil) //nolint:bodyclose // it is the connection
		if err != nil {
			b.Fatal(err)
		}
		if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Upgrade") != "websocket" || res.Header.Get("Connection") != "Upgrade" ||
			res.Header.Get("X-Accept") != "k" {
			b.Fatalf("the client got %d %v", res.StatusCode, res.Header)
		}
		for i := range 3 {
			_, _ = fmt.Fprintf(conn, "line %d\n", i)
			if got, err := answers.ReadString('\n'); got != fmt.Sprintf("echo line %d\n", i) || err != nil {
				b.Fatalf("the client got %q, %v", got, err)
			}
		}
		// Each half ends by itself.
		if err := conn.CloseWrite(); err != nil {
			b.Fatal(err)
		}
		b.await("the upstream sees the end of the client's half", ended)
		if rest, err := io.ReadAll(answers); string(rest) != "bye\n" || err != nil {
			b.Errorf("the rest is %q, %v", rest, err)
		}
	})
}

// TestUpgradesEndWithTheirClient closes the client's connection as a whole.
func TestUpgradesEndWithTheirClient(t *testing.T) {
	eachUnprotected(t, func(b *bench, path string) {
		ended := make(chan struct{})
		b.answer(upgrades("websocket", func() { close(ended) }))
		conn, answers := b.dial("GET " + path + " HTTP/1.1\n" + upgradeFields)
		if _, err := http.ReadResponse(answers, nil); err != nil { //nolint:bodyclose // it is the connection
			b.Fatal(err)
		}
		_ = conn.Close()
		b.await("the upstream sees that the client has left", ended)
	})
}

func TestUpgradesThatTheUpstreamDoesNotMake(t *testing.T) {
	eachUnprotected(t, func(b *bench, path string) {
		for name, each := range map[string]struct {
			upstream http.HandlerFunc
			want     int
		}{
			"another protocol": {upgrades("tls/1.0", func() {}), http.StatusBadGateway},
			"refused":          {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUpgradeRequired) }, http.StatusUpgradeRequired},
		} {
			b.answer(each.upstream)
			_, answers := b.dial("GET " + path + " HTTP/1.1\n" + upgradeFields)
			res, err := http.ReadResponse(answers, nil)
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if res.StatusCode != each.want {
				b.Errorf("%s: the client got %d", name, res.StatusCode)
			}
		}
	})
}

// TestUpgradesToHTTP2AreNotForwarded asks for HTTP/2 on the client's connection. The requests of
// such a connection would pass the gateway unseen, with the scopes and fences that the client
// chooses.
func TestUpgradesToHTTP2AreNotForwarded(t *testing.T) {
	eachUnprotected(t, func(b *bench, path string) {
		for _, field := range []string{"h2c", "H2C", "websocket, h2c"} {
			b.answer(func(w http.ResponseWriter, r *http.Request) {
				_, _ = fmt.Fprint(w, r.Header["Upgrade"], r.Header["Connection"], r.Header["Http2-Settings"])
			})
			conn, answers := b.dial("GET " + path + " HTTP/1.1\nHost: h\nConnection: Upgrade, HTTP2-Settings\nUpgrade: " + field +
				"\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\n\n")
			res, err := http.ReadResponse(answers, nil)
			if err != nil {
				b.Fatal(err)
			}
			text, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			_ = conn.Close()
			if res.StatusCode != http.StatusOK || string(text) != "[] [] []" || err != nil {
				b.Errorf("%s: the client got %d %s, %v", field, res.StatusCode, text, err)
			}
		}
	})
}

// TestFieldsOfOneConnectionGoNoFurther sends fields of a connection both ways (RFC 9110, section
// 7.6.1).
func TestFieldsOfOneConnectionGoNoFurther(t *testing.T) {
	eachUnprotected(t, func(b *bench, path string) {
		var got http.Header
		b.answer(func(w http.ResponseWriter, r *http.Request) {
			got = r.Header
			h := w.Header()
			h["Connection"] = []string{"X-Of-Connection, , X-Other", "keep-alive"}
			for _, name := range []string{"X-Of-Connection", "X-Other", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Upgrade", "X-Stays"} {
				h.Set(name, "upstream")
			}
			h["Set-Cookie"] = []string{"b=2", "a=1"}
			w.WriteHeader(http.StatusTeapot)
		})
		res := b.send(http.MethodGet, path, "", "Connection", "X-Of-Connection", "Connection", " ,X-Other,", "X-Of-Connection", "client",
			"X-Other", "client", "Keep-Alive", "timeout=5", "Proxy-Connection", "close", "Proxy-Authorization", "secret", "Upgrade", "", "Te", "gzip, trailers", "X-Stays", "client")
		for name, want := range map[string]string{"X-Stays": "client", "Te": "trailers"} {
			if got.Get(name) != want {
				b.Errorf("the upstream got %s: %q, want %q", name, got[name], want)
			}
		}
		if res.status != http.StatusTeapot || res.header.Get("X-Stays") != "upstream" || !slices.Equal(res.header["Set-Cookie"], []string{"b=2", "a=1"}) {
			b.Errorf("the client got %d %v", res.status, res.header)
		}
		for _, name := range []string{"X-Of-Connection", "X-Other", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Upgrade"} {
			if got[name] != nil || res.header[name] != nil {
				b.Errorf("%s went on: %q, %q", name, got[name], res.header[name])
			}
		}
	})
}

// TestInformationalResponsesGoOn has an upstream that sends two early hints.
func TestInformationalResponsesGoOn(t *testing.T) {
	eachUnprotected(t, func(b *bench, path string) {
		b.answer(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Add("Link", "</a.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Add("Link", "</b.js>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("X-Final", "yes")
			w.WriteHeader(http.StatusCreated)
		})
		var hints []string
		trace := &httptrace.ClientTrace{Got1xxResponse: func(status int, header textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprintf("%d %s %s", status, header["Link"], header["X-Final"]))
			return nil
		}}
		res := b.do(b.request(httptrace.WithClientTrace(b.Context(), trace), http.MethodGet, path, http.NoBody))
		want := []string{"103 [</a.css>; rel=preload] []", "103 [</a.css>; rel=preload </b.js>; rel=preload] []"}
		if !slices.Equal(hints, want) {
			b.Errorf("the hints are %q", hints)
		}
		if res.StatusCode != http.StatusCreated || res.Header.Get("X-Final") != "yes" || len(res.Header["Link"]) != 2 {
			b.Errorf("the client got %d %v", res.StatusCode, res.Header)
		}
	})
}

// TestClientsMayWaitFor100Continue has a client that sends its body only when it is asked to.
func TestClientsMayWaitFor100Continue(t *testing.T) {
	eachUnprotected(t, func(b *bench, path string) {
		b.answer(func(w http.ResponseWriter, r *http.Request) {
			text, _ := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, "got %s", text)
		})
		conn, answers := b.dial("POST " + path + " HTTP/1.1\nHost: h\nExpect: 100-continue\nContent-Length: 4\n\n")
		res, err := http.ReadResponse(answers, nil)
		if err != nil || res.StatusCode != http.StatusContinue {
			b.Fatalf("the client got %v, %v", res, err)
		}
		_, _ = io.WriteString(conn, "body")
		for res.StatusCode == http.StatusContinue { // the gateway and the upstream may send one each
			_ = res.Body.Close()
			if res, err = http.ReadResponse(answers, nil); err != nil {
				b.Fatal(err)
			}
		}
		text, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if string(text) != "got body" || err != nil {
			b.Errorf("the client got %d %q, %v", res.StatusCode, text, err)
		}
	})
}

// TestClientsThatLeaveEndTheirUnprotectedRequests has clients that leave while the upstream works,
// and while it sends.
func TestClientsThatLeaveEndTheirUnprotectedRequests(t *testing.T) {
	eachUnprotected(t, func(b *bench, path string) {
		for _, sends := range []bool{false, true} {
			began, ended := make(chan struct{}), make(chan struct{})
			b.answer(func(w http.ResponseWriter, r *http.Request) {
				if sends {
					_, _ = io.WriteString(w, "beginning")
					_ = http.NewResponseController(w).Flush()
				}
				close(began)
				<-r.Context().Done()
				close(ended)
			})
			ctx, leave := context.WithCancel(b.Context())
			go func() {
				<-began
				leave()
			}()
			res, err := http.DefaultClient.Do(b.request(ctx, http.MethodGet, path, http.NoBody))
			if err == nil {
				_, err = io.ReadAll(res.Body)
				_ = res.Body.Close()
			}
			if !errors.Is(err, context.Canceled) {
				b.Errorf("the client got %v", err)
			}
			b.await("the upstream sees that the client has left", ended)
			leave()
		}
	})
}

// TestUploadsThatBreakOffAreNotWhole has a client that leaves in the middle of its body.
func TestUploadsThatBreakOffAreNotWhole(t *testing.T) {
	eachUnprotected(t, func(b *bench, path string) {
		for _, framing := range []string{"Content-Length: 100\n\nhalf", "Transfer-Encoding: chunked\n\n4\nhalf\n"} {
			ended, began := make(chan error, 1), make(chan struct{})
			b.answer(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.ReadFull(r.Body, make([]byte, 4))
				close(began)
				_, err := io.ReadAll(r.Body)
				ended <- err
			})
			conn, _ := b.dial("POST " + path + " HTTP/1.1\nHost: h\n" + framing)
			b.await("the upstream gets the beginning", began)
			_ = conn.Close()
			select {
			case err := <-ended:
				if err == nil {
					b.Errorf("%q: half of a body is taken for a whole one", framing)
				}
			case <-time.After(patience):
				b.Fatal("the upstream waits for the rest")
			}
		}
	})
}

// TestUnprotectedTrailersGoOn sends trailers both ways, announced and not.
func TestUnprotectedTrailersGoOn(t *testing.T) {
	eachUnprotected(t, func(b *bench, path string) {
		b.answer(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-Announced")
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "body")
			w.Header().Set("X-Announced", r.Trailer.Get("X-Sum"))
			w.Header().Set(http.TrailerPrefix+"X-Other", "unannounced")
		})
		r := b.request(b.Context(), http.MethodPost, path, io.MultiReader(strings.NewReader("body")))
		r.Trailer = http.Header{"X-Sum": {"7"}}
		res := b.do(r)
		if text, err := io.ReadAll(res.Body); string(text) != "body" || err != nil {
			b.Errorf("the client got %q, %v", text, err)
		}
		if res.Trailer.Get("X-Announced") != "7" || res.Trailer.Get("X-Other") != "unannounced" {
			b.Errorf("the trailers are %v", res.Trailer)
		}
	})
}

// TestUnprotectedResponsesStayAsTheyAre is about responses that a proxy could change: without a
// body, compressed, redirects, and long ones.
func TestUnprotectedResponsesStayAsTheyAre(t *testing.T) {
	eachUnprotected(t, func(b *bench, path string) {
		var packed bytes.Buffer
		zip := gzip.NewWriter(&packed)
		_, _ = zip.Write([]byte("text"))
		_ = zip.Close()
		long := make([]byte, 5<<20) // more than is stored of a protected one
		_, _ = rand.Read(long)
		for name, each := range map[string]struct {
			method string
			status int
			fields http.Header
			body   []byte
		}{
			"HEAD":         {http.MethodHead, 200, http.Header{"Content-Length": {"12345"}, "Etag": {`"e"`}}, nil},
			"no content":   {http.MethodPost, 204, nil, nil},
			"not modified": {http.MethodGet, 304, http.Header{"Etag": {`"e"`}}, nil},
			"compressed":   {http.MethodGet, 200, http.Header{"Content-Encoding": {"gzip"}, "Vary": {"Accept-Encoding"}}, packed.Bytes()},
			"redirect":     {http.MethodPost, 307, http.Header{"Location": {"/else"}}, []byte("moved")},
			"part":         {http.MethodGet, 206, http.Header{"Content-Range": {"bytes 0-3/10"}}, []byte("part")},
			"long":         {http.MethodPost, 200, nil, long},
			"failure":      {http.MethodPost, 500, nil, []byte("the service's own words")},
		} {
			b.answer(func(w http.ResponseWriter, _ *http.Request) {
				for field, values := range each.fields {
					w.Header()[field] = values
				}
				w.WriteHeader(each.status)
				_, _ = w.Write(each.body)
			})
			r := b.request(b.Context(), each.method, path, http.NoBody)
			transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
			res, err := transport.RoundTrip(r)
			if err != nil {
				b.Fatal(err)
			}
			text, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || res.StatusCode != each.status || !bytes.Equal(text, each.body) {
				b.Errorf("%s: the client got %d, %d bytes, %v", name, res.StatusCode, len(text), err)
			}
			for field, want := range each.fields {
				if !slices.Equal(res.Header[field], want) {
					b.Errorf("%s: %s is %q, want %q", name, field, res.Header[field], want)
				}
			}
		}
	})
}

// TestCallsInBothDirectionsAtOnce sends and receives in turn within one request, as streams of gRPC
// do, over HTTP/2 without TLS.
func TestCallsInBothDirectionsAtOnce(t *testing.T) {
	eachUnprotected(t, func(b *bench, path string) {
		protocols := &http.Protocols{}
		protocols.SetUnencryptedHTTP2(true)
		up := newH2CServer(b.T, protocols, func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush() // the header
			for lines := bufio.NewScanner(r.Body); lines.Scan(); {
				_, _ = fmt.Fprintln(w, "echo", lines.Text())
				_ = http.NewResponseController(w).Flush()
			}
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
		})
		b.config.Upstream = &Upstream{URL: parse(b, strings.Replace(up.URL, "http", schemeH2C, 1)), Timeout: patience}
		b.reload()
		front := newH2CServer(b.T, protocols, b.gateway.Handler().ServeHTTP)
		transport := &http.Transport{Protocols: protocols}
		b.Cleanup(transport.CloseIdleConnections)
		body, upload := io.Pipe()
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, front.URL+path, body)
		if err != nil {
			b.Fatal(err)
		}
		res, err := transport.RoundTrip(r)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		lines := bufio.NewReader(res.Body)
		for i := range 3 {
			_, _ = fmt.Fprintln(upload, i)
			if got, err := lines.ReadString('\n'); got != fmt.Sprintf("echo %d\n", i) || err != nil {
				b.Fatalf("the client got %q, %v", got, err)
			}
		}
		_ = upload.Close()
		if rest, err := io.ReadAll(lines); len(rest) > 0 || err != nil || res.Trailer.Get("Grpc-Status") != "0" {
			b.Errorf("the end is %q, %v, %v", rest, err, res.Trailer)
		}
	})
}

func newH2CServer(t *testing.T, protocols *http.Protocols, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = protocols
	s.Start()
	t.Cleanup(s.Close)
	return s
}
