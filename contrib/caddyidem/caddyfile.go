package caddyidem

import (
	"fmt"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("idempotency", parse)
}

func parse(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	m := new(Handler)
	err := m.UnmarshalCaddyfile(h.Dispenser)
	return m, err
}

// UnmarshalCaddyfile implements [caddyfile.Unmarshaler]. The subdirectives have the names of the
// JSON fields. Switches have no argument: optional, unscoped, fail_open and auto_pipeline. Sizes
// may have units, as in 1MiB.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name of the directive
	if d.NextArg() {
		return d.ArgErr()
	}
	texts := map[string]*string{
		"redis": &h.Redis, "namespace": &h.Namespace, "scope": &h.Scope, "key_header": &h.KeyHeader,
		"interrupted": &h.Interrupted, "profile": &h.Profile, "policy_url": &h.PolicyURL,
	}
	durations := map[string]*caddy.Duration{
		"timeout": &h.Timeout, "lease": &h.Lease, "retention": &h.Retention, "wait": &h.Wait,
	}
	switches := map[string]*bool{
		"unscoped": &h.Unscoped, "optional": &h.Optional, "fail_open": &h.FailOpen, "auto_pipeline": &h.AutoPipeline,
	}
	for d.NextBlock(0) {
		name := d.Val()
		var err error
		switch {
		case texts[name] != nil:
			err = one(d, func(s string) error {
				*texts[name] = s
				return nil
			})
		case durations[name] != nil:
			err = one(d, func(s string) error {
				v, err := caddy.ParseDuration(s)
				*durations[name] = caddy.Duration(v)
				return err
			})
		case switches[name] != nil:
			*switches[name] = true
			if d.NextArg() {
				err = d.ArgErr()
			}
		case name == "methods":
			if h.Methods = d.RemainingArgs(); len(h.Methods) == 0 {
				err = d.ArgErr()
			}
		case name == "max_body":
			err = size(d, func(n int64) { h.MaxBody = n })
		case name == "max_response":
			err = size(d, func(n int64) { h.MaxResponse = n })
		case name == "max_value":
			err = size(d, func(n int64) { h.MaxValue = int(n) })
		case name == "durability":
			err = one(d, func(s string) (err error) {
				h.Durability, err = strconv.Atoi(s)
				return err
			})
		default:
			err = d.Errf("idempotency has no option %s", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// one reads the only argument of a subdirective.
func one(d *caddyfile.Dispenser, set func(string) error) error {
	name := d.Val()
	var text string
	if !d.AllArgs(&text) {
		return d.ArgErr()
	}
	if err := set(text); err != nil {
		return d.Errf("%s: %v", name, err)
	}
	return nil
}

// largest bounds sizes, so that they fit into the fields: 1 TiB.
const largest = 1 << 40

// size reads the only argument of a subdirective as a number of bytes.
func size(d *caddyfile.Dispenser, set func(int64)) error {
	return one(d, func(s string) error {
		n, err := humanize.ParseBytes(s)
		if err != nil {
			return err
		}
		if n > largest {
			return fmt.Errorf("must be at most 1TiB: %s", s)
		}
		set(int64(n))
		return nil
	})
}

var _ caddyfile.Unmarshaler = (*Handler)(nil)
