package gateway

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

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

// TestTargetsStayOneWordOfTheRequestLine sends octets in the target of an HTTP/2 request, whose
// path is a field of its own, to an upstream that reads a request line. Go's server refuses
// controls.
func TestTargetsStayOneWordOfTheRequestLine(t *testing.T) {
	t.Parallel()
	w := newWire(t, "", "routes: [{match: /open/, protect: false}]", false)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	front := newH2CServer(t, protocols, w.gateway.Handler().ServeHTTP)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	for _, octet := range []byte("\x00\t\n\r\x1f \x7f!\"#<>\\^`{|}~\x80\xa0\xff") {
		for _, prefix := range []string{"/items", "/open/items"} {
			text := prefix + string([]byte{'/', octet, '/'})
			for _, target := range []string{text, prefix + "?a" + text[len(prefix):]} {
				path, query, _ := strings.Cut(target, "?")
				r := &http.Request{
					Method: http.MethodPost, URL: &url.URL{Scheme: "http", Host: front.Listener.Addr().String(), Opaque: path, RawQuery: query},
					Header: http.Header{"Idempotency-Key": {url.QueryEscape(target)}}, ContentLength: 4, Body: io.NopCloser(strings.NewReader("body")),
				}
				status := http.StatusBadRequest
				res, err := transport.RoundTrip(r.WithContext(t.Context()))
				if err == nil {
					status = res.StatusCode
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
				var line string
				select {
				case got := <-w.seen:
					line = got.line
				default:
				}
				bad := octet <= ' ' || octet == 0x7f
				if bad && (status != http.StatusBadRequest || line != "") ||
					!bad && (status != http.StatusCreated || line != "POST "+target+" HTTP/1.1") {
					t.Errorf("%q: %d %v, and the upstream got %q", target, status, err, line)
				}
			}
		}
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
	w := newWire(t, "", "{defaults: {methods: [POST, DELETE]}, routes: [{match: /fields/, fingerprint: {fields: [amount]}}]}", false)
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
