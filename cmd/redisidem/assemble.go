package main

import (
	"crypto/tls"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/configfile"
	"github.com/redisidem/redisidem/cmd/redisidem/internal/extproc"
	"github.com/redisidem/redisidem/cmd/redisidem/internal/gateway"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// assembled is all that a gateway is made of, without its service.
type assembled struct {
	gateway *gateway.Config
	service *redisidem.Config
	tls     *tls.Config // of the listener; nil without TLS
}

// assemble reads the files that the settings name, and checks the settings that do not need the
// service. An error names the place where the setting was made.
func (c *gatewayCommand) assemble(log *slog.Logger, metrics *gateway.Metrics) (*assembled, error) {
	a := &assembled{}
	for _, part := range []func(a *assembled, log *slog.Logger, metrics *gateway.Metrics) error{
		c.assembleGateway, c.assembleListener, c.assembleService,
	} {
		if err := part(a, log, metrics); err != nil {
			return nil, c.explain(err)
		}
	}
	return a, nil
}

func (c *gatewayCommand) assembleGateway(a *assembled, log *slog.Logger, metrics *gateway.Metrics) error {
	upstream, err := c.upstreamURL()
	if err != nil {
		return err
	}
	upstreamTLS, err := gateway.UpstreamTLS(c.UpstreamCA, c.UpstreamCert, c.UpstreamKey)
	if err != nil {
		return configfile.Within("upstream_cert", err)
	}
	trusted, err := c.trustedProxies()
	if err != nil {
		return err
	}
	identify, challenge, err := c.identify(trusted, log)
	if err != nil {
		return err
	}
	policies := c.content.Policies
	if err := policies.Complete(); err != nil {
		return err
	}
	if err := c.checkEnvoy(&policies); err != nil {
		return err
	}
	cors := gateway.CORS{Origins: c.CORSOrigins, Credentials: c.CORSCredentials}
	if err := cors.Validate(); err != nil {
		return configfile.Within("cors_origin", err)
	}
	quota, err := c.quota(&policies)
	if err != nil {
		return err
	}
	spool, err := c.spool()
	if err != nil {
		return err
	}
	service := &gateway.Upstream{URL: upstream, TLS: upstreamTLS, Timeout: c.UpstreamTimeout, KeepHost: c.KeepHost}
	if c.Upstream == fromEnvoy {
		service.Transport, service.Timeout = extproc.Transport{}, 0 // Envoy limits the time itself
	}
	a.gateway = &gateway.Config{
		Upstream: service,
		Policies: &policies, Identify: identify, Challenge: challenge, Metrics: metrics, Log: log, PolicyURL: c.PolicyURL,
		ReadyWithoutRedis: c.ReadyWithoutRedis, InMemory: c.Redis == inMemory, CORS: cors, Quota: quota,
		TrustedProxies: trusted, Spool: spool,
	}
	return nil
}

// quota returns the quota of each scope, or nil for no limit.
func (c *gatewayCommand) quota(policies *gateway.Policies) (*redisidem.QuotaConfig, error) {
	switch {
	case c.ScopeInFlight < 0:
		return nil, configfile.Invalid("scope_in_flight", "must not be negative: %d", c.ScopeInFlight)
	case c.ScopeKeys < 0:
		return nil, configfile.Invalid("scope_keys", "must not be negative: %d", c.ScopeKeys)
	case c.ScopeInFlight == 0 && c.ScopeKeys == 0:
		return nil, nil //nolint:nilnil // none is wanted
	}
	return &redisidem.QuotaConfig{InFlight: c.ScopeInFlight, Stored: c.ScopeKeys, Window: policies.LongestRetention(c.Retention)}, nil
}

func (c *gatewayCommand) assembleListener(a *assembled, _ *slog.Logger, _ *gateway.Metrics) (err error) {
	if _, _, err := c.Console.config(c.AdminListen); err != nil {
		if c.fromFile[consoleField] {
			return configfile.Within(consoleField, err)
		}
		return err
	}
	if err := c.checkAddresses(); err != nil {
		return err
	}
	a.tls, err = c.serverTLS()
	return err
}

func (c *gatewayCommand) assembleService(a *assembled, log *slog.Logger, metrics *gateway.Metrics) error {
	if err := c.checkDurations(); err != nil {
		return err
	}
	var fingerprintKeys *redisidem.FingerprintKeys
	var err error
	if fingerprintKeys, c.secrets.fingerprint, err = c.fingerprintKeys(); err != nil {
		return err
	}
	values, encryptionKeys, err := c.codec()
	if err != nil {
		return err
	}
	c.secrets.encryption = encryptionKeys
	if c.AcceptPlain {
		values = codec.Optional(values)
	}
	a.service = &redisidem.Config{
		Codec:     values,
		Retention: c.Retention, Lease: c.Lease, MaxHold: c.MaxHold, Timeout: c.RedisTimeout, Durability: c.Durability, CacheBytes: c.CacheBytes,
		AutoPipeline: c.AutoPipeline, FingerprintKeys: fingerprintKeys, Observer: metrics, Logger: log,
	}
	return nil
}

// upstreamURL parses the URL of the upstream. Its errors leave the URL out, since it may contain a
// password.
func (c *gatewayCommand) upstreamURL() (*url.URL, error) {
	u, err := url.Parse(c.Upstream)
	switch {
	case c.Upstream == fromEnvoy:
		return &url.URL{Scheme: "http", Host: "envoy"}, nil // it is not called
	case c.Upstream == "":
		return nil, configfile.Invalid("upstream", "must name the service behind the gateway, such as http://127.0.0.1:9000, or be envoy:")
	case err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "h2c"}, u.Scheme):
		return nil, configfile.Invalid("upstream", "is not an http://, https:// or h2c:// URL")
	case strings.Contains(u.RawQuery, " "):
		return nil, configfile.Invalid("upstream", "has a space in its query; write %%20")
	case u.User != nil:
		return nil, configfile.Invalid("upstream", "has a user, which the gateway does not forward; clients must send their own credentials")
	}
	return u, nil
}

// spool returns the configuration of the spool, or nil if all bodies are in memory.
func (c *gatewayCommand) spool() (*httpidem.SpoolConfig, error) {
	switch {
	case c.SpoolDir != "" && c.Upstream == fromEnvoy:
		return nil, configfile.Invalid("spool_dir", "cannot be combined with the upstream envoy:, which sends bodies as a whole")
	case c.SpoolDir != "":
		return &httpidem.SpoolConfig{Dir: c.SpoolDir, Above: c.SpoolAbove, MaxBytes: c.SpoolBytes}, nil
	case c.SpoolAbove != 0:
		return nil, configfile.Invalid("spool_above", "needs --spool-dir")
	case c.SpoolBytes != 0:
		return nil, configfile.Invalid("spool_bytes", "needs --spool-dir")
	}
	return nil, nil //nolint:nilnil // none is wanted
}

// trustedProxies returns the proxies in front.
func (c *gatewayCommand) trustedProxies() (gateway.TrustedProxies, error) {
	trusted, err := gateway.ParseTrustedProxies(c.TrustedProxies)
	switch {
	case err != nil:
		return nil, configfile.Within("trusted_proxy", err)
	case c.ProxyProtocol && len(trusted) == 0:
		return nil, configfile.Invalid("proxy_protocol", "needs --trusted-proxy")
	}
	return trusted, nil
}

// fingerprintKeys reads the secrets for fingerprints. It returns nil without --fingerprint-key.
// Plain digests stay valid, for records from before the first secret.
func (c *gatewayCommand) fingerprintKeys() (keys *redisidem.FingerprintKeys, ring [][]byte, err error) {
	if len(c.FingerprintKey) == 0 {
		return nil, nil, nil
	}
	for _, file := range c.FingerprintKey {
		secret, err := os.ReadFile(file)
		if err != nil {
			return nil, nil, configfile.Within("fingerprint_key", err)
		}
		if len(secret) == 0 {
			return nil, nil, configfile.Invalid("fingerprint_key", "%s is empty", file)
		}
		ring = append(ring, secret)
	}
	ring = append(ring, nil)
	keys, err = redisidem.NewFingerprintKeys(ring[0], ring[1:]...)
	return keys, ring, configfile.Within("fingerprint_key", err)
}

// serverTLS returns the TLS configuration of the listener, or nil if it serves without TLS.
func (c *gatewayCommand) serverTLS() (*tls.Config, error) {
	if c.TLSCert == "" && c.TLSKey == "" {
		if c.TLSClientCA != "" {
			return nil, configfile.Invalid("tls_client_ca", "needs --tls-cert and --tls-key")
		}
		return nil, nil //nolint:nilnil // none is wanted
	}
	config, err := gateway.ServerTLS(c.TLSCert, c.TLSKey, c.TLSClientCA)
	return config, configfile.Within("tls_cert", err)
}
