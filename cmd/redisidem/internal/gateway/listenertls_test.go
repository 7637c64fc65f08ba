package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// authority issues certificates.
type authority struct {
	*testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{T: t}
	own := a.issue(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return &authority{t, own.Leaf, own.PrivateKey.(*ecdsa.PrivateKey)}
}

// issue issues a certificate. That of an authority without one is its own.
func (a *authority) issue(c *x509.Certificate) tls.Certificate {
	a.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (a *authority) issueFor(usage x509.ExtKeyUsage) tls.Certificate {
	a.Helper()
	return a.issue(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{usage}})
}

func pool(all ...*authority) *x509.CertPool {
	p := x509.NewCertPool()
	for _, a := range all {
		p.AddCert(a.certificate)
	}
	return p
}

// tlsBench is a gateway whose listener asks for client certificates.
type tlsBench struct {
	*bench
	listener *ListenerTLS
	own      tls.Certificate
	roots    *x509.CertPool
	url      string
}

// config returns a configuration that accepts certificates of some authorities.
func (b *tlsBench) config(clientCAs ...*authority) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{b.own}, NextProtos: []string{"h2", "http/1.1"}}
	if len(clientCAs) > 0 {
		c.ClientCAs, c.ClientAuth = pool(clientCAs...), tls.RequireAndVerifyClientCert
	}
	return c
}

func setUpTLS(t *testing.T, clientCAs ...*authority) *tlsBench {
	t.Helper()
	server := newAuthority(t)
	b := &tlsBench{bench: setUp(t, "", Unscoped), own: server.issueFor(x509.ExtKeyUsageServerAuth), roots: pool(server)}
	b.listener = NewListenerTLS(b.config(clientCAs...))
	b.bench.config.ListenerTLS = b.listener
	g, err := New(b.bench.config)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: g.Handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Serve(b.listener.Wrap(s, listener)); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-ended
		g.Close()
	})
	b.url = "https://" + listener.Addr().String()
	return b
}

// client returns a client with a certificate. HTTP/2 is used if both is true.
func (b *tlsBench) client(both bool, own ...tls.Certificate) *http.Client {
	transport := &http.Transport{ForceAttemptHTTP2: both, TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: b.roots, Certificates: own, ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}}
	b.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// status sends a request, and returns the status of its response, or 0.
func (b *tlsBench) status(c *http.Client) int {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, b.url, http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	res, err := c.Do(r)
	if err != nil {
		return 0
	}
	defer func() { _ = res.Body.Close() }()
	if text, err := io.ReadAll(res.Body); err != nil || res.StatusCode == http.StatusUnauthorized && !strings.Contains(string(text), "#no-scope") {
		b.Errorf("the response is %s, %v", text, err)
	}
	return res.StatusCode
}

func (b *tlsBench) open() int {
	b.listener.mu.Lock()
	defer b.listener.mu.Unlock()
	return len(b.listener.conns)
}

func TestReplacedAuthoritiesEndConnections(t *testing.T) {
	t.Parallel()
	for name, both := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := newAuthority(t), newAuthority(t)
			b := setUpTLS(t, first)
			began, hold := make(chan struct{}), make(chan struct{})
			b.answer(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Slow") != "" {
					close(began)
					<-hold
				}
				w.WriteHeader(http.StatusCreated)
			})
			idle, busy := b.client(both, first.issueFor(x509.ExtKeyUsageClientAuth)), b.client(both, first.issueFor(x509.ExtKeyUsageClientAuth))
			if got := b.status(idle); got != 201 {
				t.Fatalf("a client of the first authority gets %d", got)
			}
			slow := make(chan int, 1)
			go func() {
				r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, b.url, http.NoBody)
				r.Header.Set("Slow", "1")
				res, err := busy.Do(r)
				if err != nil {
					slow <- 0
					return
				}
				_ = res.Body.Close()
				slow <- res.StatusCode
			}()
			<-began

			b.listener.Replace(b.config(second))
			// It is 401 on the open connection, and a handshake that fails if that has ended.
			if got := b.status(idle); got != 401 && got != 0 {
				t.Errorf("on an idle connection the client gets %d", got)
			}
			if got := b.status(idle); got != 0 {
				t.Errorf("after that the client gets %d", got)
			}
			if both { // on the connection of the request that has begun
				if got := b.status(busy); got != 401 {
					t.Errorf("on a busy connection the client gets %d", got)
				}
			}
			close(hold)
			if got := <-slow; got != 201 {
				t.Errorf("the request that had begun gets %d", got)
			}
			for deadline := time.Now().Add(20 * time.Second); b.open() > 0; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d connections are open", b.open())
				}
			}
			if got := b.status(b.client(both, second.issueFor(x509.ExtKeyUsageClientAuth))); got != 201 {
				t.Errorf("a client of the second authority gets %d", got)
			}
		})
	}
}

func TestConnectionsWithoutRequestsEndToo(t *testing.T) {
	t.Parallel()
	first, second := newAuthority(t), newAuthority(t)
	b := setUpTLS(t, first)
	if got := b.status(b.client(false, first.issueFor(x509.ExtKeyUsageClientAuth))); got != 201 || b.open() != 1 {
		t.Fatalf("the client gets %d, and %d connections are open", got, b.open())
	}
	b.listener.Replace(b.config(second))
	for deadline := time.Now().Add(20 * time.Second); b.open() > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the connection is open")
		}
	}
}

// TestClientsOfBothAuthoritiesAreServed adds an authority, as a rotation does first.
func TestClientsOfBothAuthoritiesAreServed(t *testing.T) {
	t.Parallel()
	first, second := newAuthority(t), newAuthority(t)
	b := setUpTLS(t, first)
	c := b.client(false, first.issueFor(x509.ExtKeyUsageClientAuth))
	for range 2 {
		if got := b.status(c); got != 201 {
			t.Errorf("the client gets %d", got)
		}
		b.listener.Replace(b.config(first, second))
	}
}

func TestReplacedCertificateKeepsConnections(t *testing.T) {
	t.Parallel()
	first := newAuthority(t)
	b := setUpTLS(t, first)
	c := b.client(false, first.issueFor(x509.ExtKeyUsageClientAuth))
	for range 2 {
		if got := b.status(c); got != 201 || b.open() != 1 {
			t.Errorf("the client gets %d, and %d connections are open", got, b.open())
		}
		b.listener.Replace(b.config(first))
	}
}

func TestAuthoritiesThatAreAdded(t *testing.T) {
	t.Parallel()
	b := setUpTLS(t)
	c := b.client(false)
	if got := b.status(c); got != 201 {
		t.Fatalf("a client without a certificate gets %d", got)
	}
	b.listener.Replace(b.config(newAuthority(t)))
	if got := b.status(c); got != 401 && got != 0 {
		t.Errorf("then it gets %d", got)
	}
}

func TestListenerTLSIsNeitherAddedNorRemoved(t *testing.T) {
	t.Parallel()
	var none *ListenerTLS
	some := NewListenerTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	if none.Check(nil) != nil || some.Check(&tls.Config{MinVersion: tls.VersionTLS12}) != nil {
		t.Error("a reload without a change is refused")
	}
	if none.Check(&tls.Config{MinVersion: tls.VersionTLS12}) == nil || some.Check(nil) == nil {
		t.Error("a change is not refused")
	}
}
