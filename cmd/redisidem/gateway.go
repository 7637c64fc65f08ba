package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/gateway"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// gatewayCommand runs the gateway.
type gatewayCommand struct {
	redisFlags
	gatewayConsole

	Upstream        string        `required:"" placeholder:"URL" help:"The service behind the gateway, http:// or https://."`
	Listen          string        `default:":8080" help:"Address for clients."`
	AdminListen     string        `default:"127.0.0.1:8081" help:"Address for /livez, /readyz and /metrics; empty to disable."`
	Routes          string        `placeholder:"FILE" help:"Policies of routes, in YAML; see the README."`
	PolicyURL       string        `placeholder:"URL" help:"Documentation of the API's idempotency keys. Problems link to it."`
	UpstreamTimeout time.Duration `default:"30s" help:"How long a client waits for the upstream. A request with a key then continues, and its answer is kept for the retry."`
	ReadTimeout     time.Duration `default:"1m" help:"How long a client may take to send a request; 0 for no limit."`
	WriteTimeout    time.Duration `default:"5m" help:"How long a request may take until its response is sent; 0 for no limit."`
	KeepHost        bool          `help:"Forward the client's Host to the upstream."`
	DrainDelay      time.Duration `help:"How long to serve as before after SIGTERM, not ready, until load balancers have noticed."`
	ShutdownTimeout time.Duration `default:"30s" help:"How long requests and their commits may then take."`
	LogFormat       string        `enum:"text,json" default:"json" help:"Format of the log on standard error: text or json."`

	Scope       string `required:"" placeholder:"KIND" help:"How callers are identified: header:NAME (set by an authenticating proxy in front), jwt:CLAIM, certificate, or unscoped (all callers share one scope)."`
	JWTKey      string `name:"jwt-key" placeholder:"FILE" xor:"jwt" help:"Public key or certificate in PEM that verifies tokens."`
	JWTSecret   string `name:"jwt-secret" placeholder:"FILE" xor:"jwt" help:"HMAC secret of at least 32 bytes that verifies tokens, in place of --jwt-key."`
	JWTIssuer   string `name:"jwt-issuer" help:"The issuer that tokens must have."`
	JWTAudience string `name:"jwt-audience" help:"The audience that tokens must have."`

	ScopeInFlight int `placeholder:"N" help:"Requests with keys that one caller may have in flight in this process; 0 for no limit."`
	ScopeKeys     int `placeholder:"N" help:"Keys that this process stores for one caller within the retention; 0 for no limit."`

	CORSOrigins     []string `name:"cors-origin" sep:"none" placeholder:"ORIGIN" help:"Origin of pages that may call the service, such as https://shop.example; may be given several times."`
	CORSCredentials bool     `name:"cors-credentials" help:"Let the pages of --cors-origin send cookies."`

	TLSCert     string `name:"tls-cert" placeholder:"FILE" help:"Certificate of the listener."`
	TLSKey      string `name:"tls-key" placeholder:"FILE" help:"Private key of --tls-cert."`
	TLSClientCA string `name:"tls-client-ca" placeholder:"FILE" help:"Authorities of client certificates. Every client must then have a certificate."`

	UpstreamCA   string `placeholder:"FILE" help:"Authorities to trust for the upstream, in place of the system's."`
	UpstreamCert string `placeholder:"FILE" help:"Client certificate of the gateway for the upstream."`
	UpstreamKey  string `placeholder:"FILE" help:"Private key of --upstream-cert."`

	Retention      time.Duration `default:"24h" help:"How long responses are stored."`
	Lease          time.Duration `default:"10s" help:"How long a gateway that died keeps its keys locked."`
	MaxHold        time.Duration `default:"15m" help:"How long a request with a key may run, also after its client was answered. Then its outcome is unknown."`
	RedisTimeout   time.Duration `default:"500ms" help:"Timeout of each operation on Redis."`
	Durability     int           `help:"Replicas that must acknowledge a claim before the request is forwarded, and the answer before it is returned."`
	CacheBytes     int64         `help:"Bytes of memory for copies of answers, which are replayed without Redis."`
	FingerprintKey []string      `sep:"none" placeholder:"FILE" help:"Secret of at least 16 bytes for the fingerprints of requests; give it again for each older secret."`
	AutoPipeline   bool          `negatable:"" default:"true" help:"Let concurrent requests share pipelines to Redis."`

	ReadyWithoutRedis string `enum:"never,after-start,always" default:"after-start" help:"When /readyz is ready although Redis cannot be used: never; after-start, once Redis was usable; or always."`
}

// Run serves until ctx ends.
func (c *gatewayCommand) Run(ctx context.Context) (err error) {
	log := newLog(c.LogFormat)
	metrics := gateway.NewMetrics()
	cfg, challenge, err := c.assemble(log, metrics)
	if err != nil {
		return err
	}
	tlsConfig, err := c.serverTLS()
	if err != nil {
		return err
	}
	fingerprintKeys, err := c.fingerprintKeys()
	if err != nil {
		return err
	}
	service, stop, err := c.open(&redisidem.Config{
		Retention: c.Retention, Lease: c.Lease, MaxHold: c.MaxHold, Timeout: c.RedisTimeout, Durability: c.Durability, CacheBytes: c.CacheBytes,
		AutoPipeline: c.AutoPipeline, FingerprintKeys: fingerprintKeys, Observer: metrics, Logger: log,
	}, log)
	if err != nil {
		return err
	}
	defer stop()
	cfg.Service, cfg.Challenge = service, challenge
	g, err := gateway.New(*cfg)
	if err != nil {
		return errors.Join(err, service.Close(ctx))
	}
	passes, err := checkRedis(ctx, service, log)
	switch {
	case err == nil:
		g.RedisUsable()
	case !passes:
		return errors.Join(err, service.Close(ctx))
	default:
		log.Warn("redis cannot be used yet: only requests that need none are served", "error", err)
	}
	return c.serve(ctx, g, service, err == nil, tlsConfig, log)
}

// assemble returns the configuration of the gateway without the service, and the authentication
// challenge.
func (c *gatewayCommand) assemble(log *slog.Logger, metrics *gateway.Metrics) (*gateway.Config, string, error) {
	upstream, err := c.upstreamURL()
	if err != nil {
		return nil, "", err
	}
	upstreamTLS, err := gateway.UpstreamTLS(c.UpstreamCA, c.UpstreamCert, c.UpstreamKey)
	if err != nil {
		return nil, "", err
	}
	identify, challenge, err := c.identify()
	if err != nil {
		return nil, "", err
	}
	routes, err := gateway.ReadRoutes(c.Routes)
	if err != nil {
		return nil, "", err
	}
	var quota httpidem.Quota
	if c.ScopeInFlight != 0 || c.ScopeKeys != 0 {
		limits := gateway.LimitsConfig{InFlight: c.ScopeInFlight, Stored: c.ScopeKeys, Window: c.Retention}
		if quota, err = gateway.NewLimits(limits); err != nil {
			return nil, "", err
		}
	}
	return &gateway.Config{
		Upstream: &gateway.Upstream{URL: upstream, TLS: upstreamTLS, Timeout: c.UpstreamTimeout, KeepHost: c.KeepHost},
		Routes:   routes, Identify: identify, Metrics: metrics, Log: log, PolicyURL: c.PolicyURL,
		ReadyWithoutRedis: c.ReadyWithoutRedis, InMemory: c.Redis == inMemory,
		CORS: gateway.CORS{Origins: c.CORSOrigins, Credentials: c.CORSCredentials}, Quota: quota,
	}, challenge, nil
}

// upstreamURL parses the URL of the upstream. Its errors leave the URL out, since it may contain a
// password.
func (c *gatewayCommand) upstreamURL() (*url.URL, error) {
	u, err := url.Parse(c.Upstream)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("--upstream is not an http:// or https:// URL")
	case u.User != nil:
		return nil, errors.New("--upstream has a user, which the gateway does not forward; clients must send their own credentials")
	}
	return u, nil
}

// fingerprintKeys reads the secrets for fingerprints. It returns nil without --fingerprint-key.
// Plain digests stay valid, for records from before the first secret.
func (c *gatewayCommand) fingerprintKeys() (*redisidem.FingerprintKeys, error) {
	if len(c.FingerprintKey) == 0 {
		return nil, nil //nolint:nilnil // none are wanted
	}
	ring := make([][]byte, 0, len(c.FingerprintKey)+1)
	for _, file := range c.FingerprintKey {
		secret, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if len(secret) == 0 {
			return nil, fmt.Errorf("--fingerprint-key %s is empty", file)
		}
		ring = append(ring, secret)
	}
	return redisidem.NewFingerprintKeys(ring[0], append(ring[1:], nil)...)
}

// identify returns the function that identifies callers, and the challenge for unauthenticated
// callers.
func (c *gatewayCommand) identify() (gateway.Identify, string, error) {
	kind, name, _ := strings.Cut(c.Scope, ":")
	switch {
	case kind != "jwt" && c.JWTKey+c.JWTSecret+c.JWTIssuer+c.JWTAudience != "":
		return nil, "", fmt.Errorf("--scope %s takes no token: remove --jwt-key, --jwt-secret, --jwt-issuer and --jwt-audience", c.Scope)
	case kind == "header" && name != "":
		identify, err := gateway.FromHeader(name)
		if err != nil {
			return nil, "", fmt.Errorf("--scope %s: %w", c.Scope, err)
		}
		return identify, "", nil
	case kind == "jwt" && name != "":
		key, err := c.tokenKey()
		if err != nil {
			return nil, "", err
		}
		return gateway.FromToken(gateway.Tokens{Key: key, Claim: name, Issuer: c.JWTIssuer, Audience: c.JWTAudience}), "Bearer", nil
	case c.Scope == "certificate":
		if c.TLSClientCA == "" {
			return nil, "", errors.New("--scope certificate needs --tls-client-ca")
		}
		return gateway.FromCertificate, "", nil
	case c.Scope == "unscoped":
		return gateway.Unscoped, "", nil
	}
	return nil, "", fmt.Errorf("--scope %q must be header:NAME, jwt:CLAIM, certificate or unscoped", c.Scope)
}

// tokenKey reads the key that verifies tokens.
func (c *gatewayCommand) tokenKey() (*gateway.TokenKey, error) {
	switch {
	case c.JWTKey != "":
		return gateway.ReadPublicKey(c.JWTKey)
	case c.JWTSecret != "":
		return gateway.ReadSecret(c.JWTSecret)
	}
	return nil, errors.New("--scope jwt needs --jwt-key or --jwt-secret")
}

// serverTLS returns the TLS configuration of the listener, or nil if it serves without TLS.
func (c *gatewayCommand) serverTLS() (*tls.Config, error) {
	if c.TLSCert == "" && c.TLSKey == "" {
		if c.TLSClientCA != "" {
			return nil, errors.New("--tls-client-ca needs --tls-cert and --tls-key")
		}
		return nil, nil //nolint:nilnil // none is wanted
	}
	return gateway.ServerTLS(c.TLSCert, c.TLSKey, c.TLSClientCA)
}

// serve listens until ctx ends, a listener fails, or Redis turns out to be unfit. It then waits for
// requests and their commits to end. usable is whether Redis can be used already.
func (c *gatewayCommand) serve(
	ctx context.Context, g *gateway.Gateway, service *redisidem.Service, usable bool, tlsConfig *tls.Config, log *slog.Logger,
) error {
	server := newServer(g.Handler(), log)
	server.ReadTimeout, server.WriteTimeout = c.ReadTimeout, c.WriteTimeout
	listener, err := listen(ctx, c.Listen)
	if err != nil {
		return errors.Join(err, service.Close(ctx))
	}
	scheme := "http"
	if tlsConfig != nil {
		listener, scheme = tls.NewListener(listener, tlsConfig), "https"
	}
	failed := make(chan error, 3)
	go func() { failed <- server.Serve(listener) }()
	upstream, _, _ := strings.Cut(c.Upstream, "?") // a query may contain secrets
	log.Info("serving", "url", scheme+"://"+listener.Addr().String(), "upstream", upstream)

	admin, err := c.adminServer(g.Admin(), c.AdminListen, service, log)
	if err != nil {
		return errors.Join(err, server.Close(), service.Close(ctx))
	}
	if c.AdminListen != "" {
		adminListener, err := listen(ctx, c.AdminListen)
		if err != nil {
			return errors.Join(err, server.Close(), service.Close(ctx))
		}
		go func() { failed <- admin.Serve(adminListener) }()
		log.Info("serving operators", "url", "http://"+adminListener.Addr().String())
	}

	if !usable {
		go func() {
			switch err := awaitRedis(ctx, service, log); {
			case err == nil:
				g.RedisUsable()
			case ctx.Err() == nil:
				failed <- err
			}
		}()
	}

	select {
	case <-ctx.Done():
		log.Info("draining", "delay", c.DrainDelay.String())
		g.Drain()
		select {
		case <-time.After(c.DrainDelay):
			err = nil
		case err = <-failed:
		}
	case err = <-failed:
		g.Drain()
	}
	log.Info("shutting down", "timeout", c.ShutdownTimeout.String())
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.ShutdownTimeout)
	defer cancel()
	// The requests end first, and then their commits. The admin listener serves until the end.
	err = errors.Join(err, server.Shutdown(last), service.Close(last), admin.Shutdown(last))
	g.Close()
	log.Info("ended")
	return err
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	var l net.ListenConfig
	return l.Listen(ctx, "tcp", addr)
}

// newServer returns a server that limits the time and the header size of its clients.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

func newLog(format string) *slog.Logger {
	if format == "text" {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, nil))
}
