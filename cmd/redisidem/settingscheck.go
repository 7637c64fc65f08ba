package main

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/configfile"
	"github.com/redisidem/redisidem/redisidem"
)

// settingOf returns an error of package redisidem as one of the setting that causes it.
func settingOf(err error) error {
	var field *configfile.FieldError
	var invalid *redisidem.InvalidError
	if errors.As(err, &field) || !errors.As(err, &invalid) {
		return err
	}
	name, ok := map[string]string{
		"url":                "redis",
		"Config.Namespace":   "namespace",
		"Config.Retention":   "retention",
		"Config.Lease":       "lease",
		"Config.MaxHold":     "max_hold",
		"Config.Timeout":     "redis_timeout",
		"Config.Durability":  "durability",
		"Config.CacheBytes":  "cache_bytes",
		"QuotaConfig.Window": "retention",
	}[invalid.Field]
	if !ok {
		return err
	}
	return &configfile.FieldError{Field: name, Err: err}
}

// checkAddresses returns an error for an address that cannot be listened on. It looks up no name of
// a host, and does not find out whether an address is in use.
func (c *gatewayCommand) checkAddresses() error {
	port, err := portOf(c.Listen)
	if err != nil {
		return configfile.Invalid("listen", "must be an address with a port, such as :8080: %w", err)
	}
	if c.AdminListen == "" {
		return nil
	}
	if _, err := portOf(c.AdminListen); err != nil {
		return configfile.Invalid("admin_listen", "must be an address with a port, such as 127.0.0.1:8081, or empty: %w", err)
	}
	if c.AdminListen == c.Listen && port != 0 {
		return configfile.Invalid("admin_listen", "must not be the address of listen: %s", c.Listen)
	}
	return nil
}

// portOf returns the port of an address, which may be the name of a service such as http.
func portOf(address string) (int, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, err
	}
	return net.DefaultResolver.LookupPort(context.Background(), "tcp", port)
}

// checkDurations returns an error for a duration that must not be zero, and for two of which one
// would make the other useless.
func (c *gatewayCommand) checkDurations() error {
	for _, d := range []struct {
		field string
		value time.Duration
	}{
		{"retention", c.Retention}, {"lease", c.Lease}, {"max_hold", c.MaxHold}, {"redis_timeout", c.RedisTimeout},
	} {
		if d.value <= 0 {
			return configfile.Invalid(d.field, "must be more than 0s: %v", d.value)
		}
	}
	if c.MaxHold < c.Lease {
		return configfile.Invalid("max_hold", "must not be shorter than lease (%v), since a lease is renewed until then: %v", c.Lease, c.MaxHold)
	}
	isCut := c.WriteTimeout > 0 && c.UpstreamTimeout > c.WriteTimeout
	if isCut && c.Upstream != fromEnvoy { // which has its own limits of time
		return configfile.Invalid("upstream_timeout", "must not be longer than write_timeout (%v), at which the client's connection ends: %v", c.WriteTimeout, c.UpstreamTimeout)
	}
	return nil
}
