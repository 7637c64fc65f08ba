package redisidem_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
)

// authority issues certificates into a folder.
type authority struct {
	t           *testing.T
	dir         string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: dir}
	a.certificate, a.key = a.issue(name, true)
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// issue writes NAME.pem and NAME.key.
func (a *authority) issue(name string, ca bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	mustBe(a.t, err, nil)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: ca, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	parent, signer := a.certificate, a.key
	if ca {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	mustBe(a.t, err, nil)
	certificate, err := x509.ParseCertificate(der)
	mustBe(a.t, err, nil)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	mustBe(a.t, err, nil)
	mustBe(a.t, os.WriteFile(a.file(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600), nil)
	mustBe(a.t, os.WriteFile(a.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600), nil)
	return certificate, key
}

// query makes the parameters of a URL.
func query(pairs ...string) string {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		q.Add(pairs[i], pairs[i+1])
	}
	return "?" + q.Encode()
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	ca.issue("server", false)
	ca.issue("app", false)
	stranger := newAuthority(t, t.TempDir(), "stranger")
	stranger.issue("app", false)
	files := redistest.TLS(ca.file("server.pem"), ca.file("server.key"), ca.file("ca.pem"))
	server := rediscase.Server(t, files)
	cfg := &redisidem.Config{Timeout: 5 * time.Second}
	own := query("tls_cert", ca.file("app.pem"), "tls_key", ca.file("app.key"), "tls_ca", ca.file("ca.pem"))

	svc, err := redisidem.Open(ctx, "rediss://"+server.TLSAddr()+own, cfg)
	mustBe(t, err, nil)
	mustBe(t, svc.Close(ctx), nil)
	// The server is not a sentinel, which only a client with a certificate finds out.
	_, err = redisidem.Open(ctx, "rediss+sentinel://"+server.TLSAddr()+own+"&master_name=x", cfg)
	if err == nil || !strings.Contains(strings.ToLower(err.Error()), "unknown command 'sentinel'") {
		t.Errorf("under Sentinel: %v", err)
	}
	short := &redisidem.Config{Timeout: time.Second}
	for name, parameters := range map[string]string{
		"no certificate":           query("tls_ca", ca.file("ca.pem")),
		"a stranger's":             query("tls_cert", stranger.file("app.pem"), "tls_key", stranger.file("app.key"), "tls_ca", ca.file("ca.pem")),
		"a stranger's authority":   query("tls_cert", ca.file("app.pem"), "tls_key", ca.file("app.key"), "tls_ca", stranger.file("stranger.pem")),
		"the system's authorities": query("tls_cert", ca.file("app.pem"), "tls_key", ca.file("app.key")),
	} {
		var err error
		for range 5 { // the server's reset of the connection may come before its alert is read
			_, err = redisidem.Open(ctx, "rediss://"+server.TLSAddr()+parameters, short)
			mustBe(t, err, redisidem.ErrUnavailable)
			if strings.Contains(err.Error(), "certificate") || strings.Contains(err.Error(), "authority") {
				err = nil
				break
			}
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	cluster := rediscase.Server(t, files, redistest.Args("--cluster-enabled", "yes", "--tls-cluster", "yes"))
	admin := cluster.Client()
	t.Cleanup(func() { _ = admin.Close() })
	mustBe(t, admin.Do(ctx, "CLUSTER", "ADDSLOTSRANGE", 0, 16383).Err(), nil)
	for range 500 {
		if strings.Contains(admin.ClusterInfo(ctx).Val(), "cluster_state:ok") {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	svc, err = redisidem.Open(ctx, "rediss+cluster://"+cluster.TLSAddr()+own, cfg)
	mustBe(t, err, nil)
	mustBe(t, svc.Close(ctx), nil)
}

// TestClientCertificateIsReadAgain replaces the certificate files of an open service.
func TestClientCertificateIsReadAgain(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, t.TempDir(), "ca")
	ca.issue("server", false)
	ca.issue("app", false)
	server := rediscase.Server(t, redistest.TLS(ca.file("server.pem"), ca.file("server.key"), ca.file("ca.pem")))
	svc, err := redisidem.OpenUnchecked("rediss://"+server.TLSAddr()+query("tls_cert", ca.file("app.pem"), "tls_key", ca.file("app.key"),
		"tls_ca", ca.file("ca.pem")), &redisidem.Config{Timeout: 5 * time.Second})
	mustBe(t, err, nil)
	t.Cleanup(func() { mustBe(t, svc.Close(ctx), nil) })
	good, err := os.ReadFile(ca.file("app.pem"))
	mustBe(t, err, nil)
	mustBe(t, os.WriteFile(ca.file("app.pem"), []byte("torn"), 0o600), nil)
	_, err = svc.Scope("a").Do(ctx, "k", request, never(t))
	mustBe(t, err, redisidem.ErrUnavailable)
	if !strings.Contains(err.Error(), "tls_cert") {
		t.Errorf("the error is %v", err)
	}
	mustBe(t, os.WriteFile(ca.file("app.pem"), good, 0o600), nil)
	_, err = svc.Scope("a").Do(ctx, "k", request, finish("done"))
	mustBe(t, err, nil)
}

func TestOpenRefusesFilesForTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, t.TempDir(), "ca")
	ca.issue("app", false)
	ca.issue("other", false)
	cert, key, absent := ca.file("app.pem"), ca.file("app.key"), ca.file("absent")
	mustBe(t, os.WriteFile(ca.file("empty"), nil, 0o600), nil)
	for _, c := range []struct {
		scheme     string
		parameters []string
		words      []string
	}{
		{"rediss", []string{"tls_cert", cert}, []string{"tls_cert", "tls_key"}},
		{"rediss", []string{"tls_key", key}, []string{"tls_cert", "tls_key"}},
		{"rediss", []string{"tls_cert", absent, "tls_key", key}, []string{"tls_cert", absent}},
		{"rediss", []string{"tls_cert", cert, "tls_key", absent}, []string{"tls_key", absent}},
		{"rediss", []string{"tls_ca", absent}, []string{"tls_ca", absent}},
		{"rediss", []string{"tls_ca", ca.file("empty")}, []string{"tls_ca", "empty", "no PEM certificate"}},
		{"rediss", []string{"tls_ca", ""}, []string{"tls_ca"}},
		{"rediss", []string{"tls_ca", cert, "tls_ca", cert}, []string{"tls_ca", "one file"}},
		{"rediss", []string{"tls_cert", cert, "tls_key", ca.file("other.key")}, []string{cert, "other.key", "does not match"}},
		{"redis", []string{"tls_ca", cert}, []string{"tls_ca", "rediss"}},
	} {
		for _, kind := range []string{"", "+cluster", "+sentinel"} {
			parameters := query(c.parameters...)
			if kind == "+sentinel" {
				parameters += "&master_name=x"
			}
			_, err := redisidem.OpenUnchecked(c.scheme+kind+"://:s3cret@127.0.0.1:1"+parameters, nil)
			mustBeInvalid(t, err, "url", c.words...)
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Error(err)
			}
		}
	}
}

// TestS15_CertificatesAreChecked lets a server show a certificate from an unknown authority.
func TestS15_CertificatesAreChecked(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	t.Cleanup(server.Close)
	redisServer := miniredis.NewMiniRedis()
	mustBe(t, redisServer.StartTLS(&tls.Config{MinVersion: tls.VersionTLS12, Certificates: server.TLS.Certificates}), nil)
	t.Cleanup(redisServer.Close)
	var err error
	for range 5 { // the machine may be busy, and the last handshake be cut off
		_, err = redisidem.Open(ctx, "rediss://"+redisServer.Addr(), &redisidem.Config{Timeout: 2 * time.Second})
		if err == nil || strings.Contains(err.Error(), "certificate") {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("error is %v", err)
	}
}

// slowTLS puts TLS in front of a server and returns the address. Each handshake takes some time;
// the traffic after it is not delayed.
func slowTLS(t *testing.T, ca *authority, upstream string, handshake time.Duration) string {
	t.Helper()
	ca.issue("server", false)
	certificate, err := tls.LoadX509KeyPair(ca.file("server.pem"), ca.file("server.key"))
	mustBe(t, err, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	mustBe(t, err, nil)
	stopped, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	t.Cleanup(func() {
		stop()
		_ = listener.Close()
		wg.Wait()
	})
	serve := func(raw net.Conn) {
		defer func() { _ = raw.Close() }()
		timer := time.NewTimer(handshake)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-stopped.Done():
			return
		}
		client := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
		if client.HandshakeContext(stopped) != nil {
			return
		}
		server, err := net.Dial("tcp", upstream)
		if err != nil {
			return
		}
		defer func() { _ = server.Close() }()
		cut := context.AfterFunc(stopped, func() { _, _ = raw.Close(), server.Close() })
		defer cut()
		wg.Go(func() {
			_, _ = io.Copy(server, client)
			_ = server.Close()
		})
		_, _ = io.Copy(client, server)
	}
	wg.Go(func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(raw) })
		}
	})
	return listener.Addr().String()
}

func TestSlowHandshakeIsOverBeforeTheWorkBegins(t *testing.T) {
	t.Parallel()
	for name, pipelined := range map[string]bool{"pipelined": true, "plain": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := newAuthority(t, t.TempDir(), "ca")
			addr := slowTLS(t, ca, miniredis.RunT(t).Addr(), 1500*time.Millisecond)
			for round := range 3 {
				svc, err := redisidem.OpenUnchecked("rediss://"+addr+query("dial_timeout", "6s", "tls_ca", ca.file("ca.pem")),
					&redisidem.Config{Timeout: time.Second, AutoPipeline: pipelined})
				mustBe(t, err, nil)
				ran := false
				began := time.Now()
				for call := 0; !ran && call < 20; call++ {
					key, err := svc.Scope("a").Do(ctx, string(rune('a'+round)), request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
						ran = true
						t.Logf("round %d: call %d runs after %v", round, call, time.Since(began))
						return redisidem.Finish(redisidem.JSON(200, "done")), nil
					})
					switch {
					case ran && err != nil:
						t.Errorf("round %d: the work was done, and its commit ends with %v", round, err)
					case ran && !key.Finished():
						t.Errorf("round %d: the key is %+v", round, key)
					case !ran && !errors.Is(err, redisidem.ErrLocked): // by a claim that was given up, and is being given back
						mustBe(t, err, redisidem.ErrUnavailable)
					}
					if !ran {
						time.Sleep(50 * time.Millisecond)
					}
				}
				if !ran {
					t.Errorf("round %d: no call ran", round)
				}
				mustBe(t, svc.Close(ctx), nil)
			}
		})
	}
}
