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

// Open connects to Redis with a client that is tuned for this library, and checks with
// [Service.Check] that the server can keep the guarantees. The Service that it returns owns the
// client, and [Service.Close] closes it.
//
// The URL's scheme names the kind of server:
//
//   - redis:// or rediss:// (TLS) for a single server;
//   - redis+cluster:// or rediss+cluster:// for a cluster;
//   - redis+sentinel:// or rediss+sentinel:// for a group under Sentinel. The parameter master_name
//     is required.
//
// Host, user, password, database and parameters are those of go-redis's ParseURL, ParseClusterURL
// and ParseFailoverURL. Further hosts are addr parameters, as in
//
//	redis+sentinel://10.0.0.1:26379?addr=10.0.0.2:26379&addr=10.0.0.3:26379&master_name=orders
//
// A rediss URL may have parameters that name PEM files. With tls_cert and tls_key the client
// presents a certificate. With tls_ca it trusts the authorities in that file instead of the
// system's. Certificate and key are read again for each connection, so they can be replaced while
// the program runs. The authorities are read once, by Open.
//
// Settings that the URL leaves open get suitable values. Context timeouts are on. Config.Timeout
// bounds dialing, reading and writing. The client makes no retries, because this library repeats
// its scripts itself and knows that this is safe.
//
// If a connection takes longer than Config.Timeout to make, as with a slow TLS handshake, set
// dial_timeout to more. Calls then return ErrUnavailable until the first connection exists, and no
// work begins without one.
//
// Open blocks for a few round trips to each master, at most until ctx ends. It logs each warning of
// the check to Config.Logger. It returns [ErrUnsafeServer] if the check finds a failure,
// [ErrUnavailable] if Redis does not answer, and [ErrInvalid] for a wrong URL or cfg. A nil cfg
// means all defaults. The error never contains the URL's password.
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

// OpenUnchecked is [Open] without the check of the server. It sends nothing, so it does not block.
// The caller can run [Service.Check] later.
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

// dial makes the client for a URL. It sends nothing.
func dial(raw string, cfg *Config) (client redis.UniversalClient, err error) {
	defer func() {
		// go-redis panics for some values, such as a negative pool_size.
		if v := recover(); v != nil {
			client, err = nil, invalid("url", "has a parameter that makes no client: %v", v)
		}
	}()
	const form = "a URL looks like redis://localhost:6379, or rediss://redis.example:6379 with TLS"
	switch {
	case raw == "":
		return nil, invalid("url", "must not be empty: "+form)
	case !strings.Contains(raw, "://"):
		return nil, invalid("url", "has no scheme: "+form)
	}
	u, err := url.Parse(raw)
	if err != nil {
		// The parser's message would quote the URL with its password.
		return nil, invalid("url", "cannot be parsed: "+form+", with %% and two digits for other characters than letters and digits")
	}
	scheme, kind, _ := strings.Cut(u.Scheme, "+")
	if scheme != "redis" && scheme != "rediss" {
		return nil, invalid("url", "has the scheme %q; it must be redis or rediss, optionally with +cluster or +sentinel behind it, as in redis://localhost:6379", u.Scheme)
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

// tune sets the settings that the URL left open.
func tune(cfg *Config, dial, read, write *time.Duration, retries, dialRetries *int) {
	def(dial, cfg.Timeout)
	def(read, cfg.Timeout)
	def(write, cfg.Timeout)
	def(retries, -1)
	def(dialRetries, 1)
}

// badURL returns the error for a URL that go-redis refuses, without the password.
func badURL(u *url.URL, err error) error {
	text := err.Error()
	if password, ok := u.User.Password(); ok && password != "" {
		text = strings.ReplaceAll(text, password, "xxxxx")
	}
	return &InvalidError{Field: "url", Reason: fmt.Sprintf("is refused: %s", text)}
}
