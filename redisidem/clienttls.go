package redisidem

import (
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"os"
)

// clientTLS is what the parameters tls_cert, tls_key and tls_ca of a URL name: files in PEM.
type clientTLS struct{ certificate, key, authority string }

// takeTLS takes the parameters out of a URL, since go-redis refuses those that it does not know.
func takeTLS(u *url.URL) (files clientTLS, err error) {
	q := u.Query()
	for _, p := range []struct {
		name string
		file *string
	}{{"tls_cert", &files.certificate}, {"tls_key", &files.key}, {"tls_ca", &files.authority}} {
		values, given := q[p.name]
		switch {
		case !given:
			continue
		case len(values) > 1 || values[0] == "":
			return files, invalid("url", "needs one file for the parameter %s", p.name)
		case u.Scheme != "rediss":
			return files, invalid("url", "has the parameter %s, which is for TLS: begin the URL with rediss", p.name)
		}
		*p.file = values[0]
		q.Del(p.name)
	}
	if (files.certificate == "") != (files.key == "") {
		return files, invalid("url", "must have the parameters tls_cert and tls_key together")
	}
	if files != (clientTLS{}) {
		u.RawQuery = q.Encode()
	}
	return files, nil
}

// apply reads the files, and has a client's configuration use them. The certificate and its key are
// read again for each connection, so that they can be replaced while the program runs; the
// authorities are read here.
func (f clientTLS) apply(c *tls.Config) error {
	if f.authority != "" {
		text, err := os.ReadFile(f.authority)
		if err != nil {
			return invalid("url", "parameter tls_ca: %v", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return invalid("url", "parameter tls_ca: %s has no PEM certificate", f.authority)
		}
	}
	if f.certificate == "" {
		return nil
	}
	if _, err := f.pair(); err != nil {
		return err
	}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.pair() }
	return nil
}

// pair reads the certificate and its key.
func (f clientTLS) pair() (*tls.Certificate, error) {
	certificate, err := os.ReadFile(f.certificate)
	if err != nil {
		return nil, invalid("url", "parameter tls_cert: %v", err)
	}
	key, err := os.ReadFile(f.key)
	if err != nil {
		return nil, invalid("url", "parameter tls_key: %v", err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, invalid("url", "parameters tls_cert (%s) and tls_key (%s): %v", f.certificate, f.key, err)
	}
	return &pair, nil
}
