package redisidem_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	// The server is no sentinel, which only a client with a certificate gets to hear.
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

// TestClientCertificateIsReadAgain replaces the files of a service that is open.
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
		told       []string
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
			mustBeInvalid(t, err, "url", c.told...)
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Error(err)
			}
		}
	}
}
