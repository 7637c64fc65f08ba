package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTrustedProxiesThatAreRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"10.0.0.0/33": "10.0.0.0/33", "proxy.example": "must be a network", "": "must be a network", "10.1.0.0/8": "use 10.0.0.0/8",
	} {
		if _, err := ParseTrustedProxies([]string{"::1", text}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v", text, err)
		}
	}
}

func TestClientBehindTrustedProxies(t *testing.T) {
	t.Parallel()
	trusted, err := ParseTrustedProxies([]string{"10.0.0.0/8", "fd00::/8", "192.0.2.7"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ peer, name, value, want string }{
		{"203.0.113.1:5", "", "", "203.0.113.1"},
		{"203.0.113.1:5", "X-Forwarded-For", "198.51.100.1", "203.0.113.1"}, // not trusted
		{"10.1.1.1:5", "", "", "10.1.1.1"},
		{"10.1.1.1:5", "X-Forwarded-For", "198.51.100.1", "198.51.100.1"},
		{"10.1.1.1:5", "X-Forwarded-For", "1.1.1.1, 198.51.100.1, 192.0.2.7", "198.51.100.1"}, // the first is the client's own claim
		{"10.1.1.1:5", "X-Forwarded-For", "1.1.1.1, unknown, 10.2.2.2", "10.2.2.2"},
		{"10.1.1.1:5", "X-Forwarded-For", "10.3.3.3, 10.2.2.2", "10.3.3.3"},
		{"[fd00::1]:5", "X-Forwarded-For", "[2001:db8::1]:77", "2001:db8::1"},
		{"[::ffff:10.1.1.1]:5", "X-Forwarded-For", "198.51.100.1:80", "198.51.100.1"},
		{"10.1.1.1:5", "Forwarded", `for=1.1.1.1, For="[2001:db8::1]:4711";proto=https, by=x;for=10.2.2.2`, "2001:db8::1"},
		{"10.1.1.1:5", "Forwarded", "proto=https", "10.1.1.1"},
		{"@", "", "", ""}, // a Unix socket
	} {
		r := httptest.NewRequest(http.MethodPost, "/", http.NoBody)
		r.RemoteAddr = c.peer
		if c.name != "" {
			r.Header.Set(c.name, c.value)
		}
		if got := trusted.client(r); got != c.want {
			t.Errorf("%s with %s: %s is the client %q, want %q", c.peer, c.name, c.value, got, c.want)
		}
	}
}

// showForwarded answers with the fields that describe the client.
func showForwarded(w http.ResponseWriter, r *http.Request) {
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"} {
		_, _ = fmt.Fprintf(w, "%s|", strings.Join(r.Header[name], "+"))
	}
}

func TestForwardedFields(t *testing.T) {
	t.Parallel()
	fields := []string{
		"X-Forwarded-For", "198.51.100.1", "X-Forwarded-Host", "shop.example", "X-Forwarded-Proto", "https", "Forwarded", "for=198.51.100.1",
	}
	t.Run("Trusted", func(t *testing.T) {
		t.Parallel()
		b := setUp(t, "", Unscoped)
		b.answer(showForwarded)
		trusted, err := ParseTrustedProxies([]string{"127.0.0.0/8"})
		if err != nil {
			t.Fatal(err)
		}
		b.gateway.trusted = trusted
		b.reload()
		b.want(b.send("POST", "/", "", append(fields, "Idempotency-Key", "k")...), 200,
			"198.51.100.1, 127.0.0.1|shop.example|https|for=198.51.100.1, for=127.0.0.1|", false)
		b.want(b.send("POST", "/", ""), 200, "127.0.0.1|"+strings.TrimPrefix(b.server.URL, "http://")+"|http||", false)
		b.logs(`"client":"198.51.100.1"`)
	})
	t.Run("Others", func(t *testing.T) {
		t.Parallel()
		b := setUp(t, "", Unscoped)
		b.answer(showForwarded)
		b.want(b.send("POST", "/", "", fields...), 200, "127.0.0.1|"+strings.TrimPrefix(b.server.URL, "http://")+"|http||", false)
		b.logs(`"client":"127.0.0.1"`)
	})
}

func TestPROXYProtocol(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ trusted, header, want string }{
		{"127.0.0.1", "PROXY TCP4 198.51.100.1 203.0.113.1 1234 80\r\n", "198.51.100.1"},
		{"127.0.0.1", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc6\x33\x64\x02\xcb\x00\x71\x01\x04\xd2\x00\x50", "198.51.100.2"},
		{"127.0.0.1", "", "127.0.0.1"},
		{"127.0.0.1", "PROXY TCP4 none\r\n", ""},
		{"10.0.0.0/8", "", "127.0.0.1"},
		{"10.0.0.0/8", "PROXY TCP4 198.51.100.1 203.0.113.1 1234 80\r\n", "400 Bad Request"},
	} {
		trusted, err := ParseTrustedProxies([]string{c.trusted})
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, trusted.client(r))
		}))
		s.Listener = trusted.Listener(s.Listener)
		s.Start()
		conn, err := net.Dial("tcp", s.Listener.Addr().String()) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, c.header+"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(bufio.NewReader(conn))
		if (err == nil) != (c.want != "") && len(answer) > 0 || c.want != "" && !strings.Contains(string(answer), c.want) {
			t.Errorf("%q from %s: %q, %v, want %q", c.header, c.trusted, answer, err, c.want)
		}
		_ = conn.Close()
		s.Close()
	}
}

// oneConn is a listener with one connection, from a loopback address.
type oneConn struct{ net.Conn }

func (c oneConn) Accept() (net.Conn, error) { return c, nil }
func (c oneConn) Addr() net.Addr            { return c.LocalAddr() }
func (oneConn) RemoteAddr() net.Addr        { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5} }

func TestPROXYProtocolHeaderThatComesLate(t *testing.T) {
	t.Parallel()
	const header = "PROXY TCP4 198.51.100.1 203.0.113.1 1234 80\r\n"
	for late, want := range map[time.Duration]string{9 * time.Second: "198.51.100.1:1234", 11 * time.Second: "127.0.0.1:5"} {
		synctest.Test(t, func(t *testing.T) {
			trusted, err := ParseTrustedProxies([]string{"127.0.0.1"})
			if err != nil {
				t.Fatal(err)
			}
			proxy, own := net.Pipe()
			go func() {
				time.Sleep(late)
				_, _ = io.WriteString(proxy, header+"GET")
				_ = proxy.Close()
			}()
			conn, err := trusted.Listener(oneConn{own}).Accept()
			if err != nil {
				t.Fatal(err)
			}
			if got := conn.RemoteAddr().String(); got != want {
				t.Errorf("after %v the peer is %s, want %s", late, got, want)
			}
			text, err := io.ReadAll(conn)
			if err != nil || strings.HasPrefix(string(text), "PROXY") != (late > 10*time.Second) || !strings.HasSuffix(string(text), "GET") {
				t.Errorf("after %v the request is %q, %v", late, text, err)
			}
			_ = conn.Close()
		})
	}
}
