package redisidem

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Open connects to the Redis of a URL, with a client tuned for this job, checks that the server can
// keep the promise, and returns a Service that closes its client itself.
//
// The URL's scheme says what is there: redis:// or rediss:// (TLS) a single server,
// redis+cluster:// or rediss+cluster:// a cluster, redis+sentinel:// or rediss+sentinel:// a group
// under Sentinel, whose master_name is a parameter. Host, user, password, database and parameters
// are those of go-redis's ParseURL, ParseClusterURL and ParseFailoverURL; further hosts are addr
// parameters, as in
//
//	redis+sentinel://10.0.0.1:26379?addr=10.0.0.2:26379&addr=10.0.0.3:26379&master_name=orders
//
// A rediss URL may have the parameters tls_cert and tls_key, files with a certificate and its key
// in PEM for a server that asks clients for one, and tls_ca, a file with the authorities to trust
// in place of the system's. Certificate and key are read again for each connection, so they can be
// replaced while the program runs; the authorities are read once, here.
//
// Settings that the URL leaves open get values that fit: context timeouts on, dial, read and write
// bounded by Config.Timeout, and no retries in the client, since this library's own know that its
// scripts are safe to repeat. Where connections take longer than Config.Timeout to make, as with a
// slow TLS handshake, set dial_timeout to more: calls then return ErrUnavailable until the first
// connection is there, and no work begins without one.
//
// Open blocks for the check, a few round trips to each master, until ctx ends at most. It logs each
// warning of the check to Config.Logger. It returns [ErrUnsafeServer] when the check finds a
// failure, [ErrUnavailable] when Redis does not answer, and [ErrInvalid] for a URL or a cfg that is
// wrong. The error never holds the URL's password.
func Open(ctx context.Context, url string, cfg *Config) (*Service, error) {
	s, err := OpenUnchecked(url, cfg)
	if err != nil {
		return nil, err
	}
	report, err := s.Check(ctx)
	if err == nil {
		err = report.Err()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close(ctx))
	}
	for _, f := range report.Findings {
		if f.Verdict == VerdictWarning {
			s.cfg.Logger.WarnContext(ctx, "redis can keep the promise but for one case", "node", f.Node, "subject", f.Subject, "detail", f.Detail)
		}
	}
	return s, nil
}

// OpenUnchecked is Open without the look at the server: it sends nothing, and leaves
// [Service.Check] to the caller.
func OpenUnchecked(url string, cfg *Config) (*Service, error) {
	full := cfg.withDefaults()
	if err := full.validate(); err != nil {
		return nil, err
	}
	client, err := dial(url, &full)
	if err != nil {
		return nil, err
	}
	s, err := New(client, cfg)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	s.owned = true
	return s, nil
}

// dial makes the client for a URL. It does not connect yet.
func dial(raw string, cfg *Config) (client redis.UniversalClient, err error) {
	defer func() {
		// That is how go-redis refuses some values, such as a negative pool_size.
		if v := recover(); v != nil {
			client, err = nil, invalid("url", "has a parameter that makes no client: %v", v)
		}
	}()
	u, err := url.Parse(raw)
	if err != nil {
		// The parser's message quotes the URL with the password in it.
		return nil, invalid("url", "cannot be parsed")
	}
	scheme, kind, _ := strings.Cut(u.Scheme, "+")
	if scheme != "redis" && scheme != "rediss" {
		return nil, invalid("url", "has the scheme %q; it must be redis or rediss, optionally with +cluster or +sentinel behind it", u.Scheme)
	}
	u.Scheme = scheme
	files, err := takeTLS(u)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "":
		opt, err := redis.ParseURL(u.String())
		if err != nil {
			return nil, badURL(u, err)
		}
		if opt.TLSConfig != nil {
			if err := files.apply(opt.TLSConfig); err != nil {
				return nil, err
			}
		}
		opt.ContextTimeoutEnabled = true
		tune(cfg, &opt.DialTimeout, &opt.ReadTimeout, &opt.WriteTimeout, &opt.MaxRetries, &opt.DialerRetries)
		return redis.NewClient(opt), nil
	case "cluster":
		opt, err := redis.ParseClusterURL(u.String())
		if err != nil {
			return nil, badURL(u, err)
		}
		if opt.TLSConfig != nil {
			if err := files.apply(opt.TLSConfig); err != nil {
				return nil, err
			}
		}
		opt.ContextTimeoutEnabled = true
		tune(cfg, &opt.DialTimeout, &opt.ReadTimeout, &opt.WriteTimeout, &opt.MaxRetries, &opt.DialerRetries)
		return redis.NewClusterClient(opt), nil
	case "sentinel":
		opt, err := redis.ParseFailoverURL(u.String())
		if err != nil {
			return nil, badURL(u, err)
		}
		if opt.MasterName == "" {
			return nil, invalid("url", "needs the parameter master_name")
		}
		if opt.TLSConfig != nil {
			if err := files.apply(opt.TLSConfig); err != nil {
				return nil, err
			}
		}
		opt.ContextTimeoutEnabled = true
		tune(cfg, &opt.DialTimeout, &opt.ReadTimeout, &opt.WriteTimeout, &opt.MaxRetries, &opt.DialerRetries)
		return redis.NewFailoverClient(opt), nil
	}
	return nil, invalid("url", "has the scheme redis+%s: behind the plus is cluster or sentinel", kind)
}

// tune gives the settings that a URL left open values that fit.
func tune(cfg *Config, dial, read, write *time.Duration, retries, dialRetries *int) {
	def(dial, cfg.Timeout)
	def(read, cfg.Timeout)
	def(write, cfg.Timeout)
	def(retries, -1)
	def(dialRetries, 1)
}

// badURL is the error for a URL that go-redis refuses.
func badURL(u *url.URL, err error) error {
	text := err.Error()
	if password, ok := u.User.Password(); ok && password != "" {
		text = strings.ReplaceAll(text, password, "xxxxx")
	}
	return &InvalidError{Field: "url", Reason: fmt.Sprintf("is refused: %s", text)}
}
