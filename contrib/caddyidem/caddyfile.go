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
// JSON fields. Switches have no argument: optional, unscoped, stream, strict, publish_retention,
// compressed, accept_plain, fail_open and auto_pipeline. Sizes may have units, as in 1MiB.
//
// Each place of a key is a line of its own, such as key_from body /data/id. A fingerprint has a
// line for each of its fields, such as fingerprint body json, fingerprint except sent_at and
// fingerprint any_host.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name of the directive
	if d.NextArg() {
		return d.ArgErr()
	}
	texts := map[string]*string{
		"redis": &h.Redis, "namespace": &h.Namespace, "scope": &h.Scope, "key_header": &h.KeyHeader,
		"key_prefix": &h.KeyPrefix, "encryption_key_file": &h.EncryptionKeyFile, "spool_dir": &h.SpoolDir, "keys": &h.Keys, "interrupted": &h.Interrupted, "profile": &h.Profile, "replay_header": &h.ReplayHeader, "policy_url": &h.PolicyURL,
	}
	durations := map[string]*caddy.Duration{
		"timeout": &h.Timeout, "lease": &h.Lease, "retention": &h.Retention, "wait": &h.Wait,
		"key_window": &h.KeyWindow,
	}
	switches := map[string]*bool{
		"unscoped": &h.Unscoped, "optional": &h.Optional, "fail_open": &h.FailOpen, "stream": &h.Stream, "auto_pipeline": &h.AutoPipeline,
		"strict": &h.Strict, "publish_retention": &h.PublishRetention, "compressed": &h.Compressed, "accept_plain": &h.AcceptPlain,
	}
	numbers := map[string]*int{"durability": &h.Durability, "scope_in_flight": &h.ScopeInFlight, "scope_keys": &h.ScopeKeys}
	lists := map[string]*[]string{"methods": &h.Methods, "keep": &h.Keep, "headers": &h.Headers}
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
		case lists[name] != nil:
			if *lists[name] = d.RemainingArgs(); len(*lists[name]) == 0 {
				err = d.ArgErr()
			}
		case name == "key_from":
			err = h.addKeySource(d)
		case name == "fingerprint":
			err = h.Fingerprint.unmarshal(d)
		case name == "max_body":
			err = size(d, func(n int64) { h.MaxBody = n })
		case name == "spool_above":
			err = size(d, func(n int64) { h.SpoolAbove = n })
		case name == "spool_bytes":
			err = size(d, func(n int64) { h.SpoolBytes = n })
		case name == "max_response":
			err = size(d, func(n int64) { h.MaxResponse = n })
		case name == "max_value":
			err = size(d, func(n int64) { h.MaxValue = int(n) })
		case numbers[name] != nil:
			err = one(d, func(s string) (err error) {
				*numbers[name], err = strconv.Atoi(s)
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

// addKeySource reads a place of the key.
func (h *Handler) addKeySource(d *caddyfile.Dispenser) error {
	var kind, name string
	if !d.AllArgs(&kind, &name) {
		return d.ArgErr()
	}
	var source KeySource
	switch kind {
	case "header":
		source.Header = name
	case "query":
		source.Query = name
	case "body":
		source.Body = name
	default:
		return d.Errf("key_from: must be header, query or body, and a name: %s", kind)
	}
	h.KeyFrom = append(h.KeyFrom, source)
	return nil
}

// unmarshal reads a field of a fingerprint.
func (f *Fingerprint) unmarshal(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.ArgErr()
	}
	name, values := args[0], args[1:]
	list := map[string]*[]string{"fields": &f.Fields, "except": &f.Except, "headers": &f.Headers}[name]
	switch {
	case list != nil && len(values) > 0:
		*list = values
	case name == "body" && len(values) == 1:
		f.Body = values[0]
	case name == "any_host" && len(values) == 0:
		f.AnyHost = true
	default:
		return d.Errf("fingerprint: must be body and a word, fields, except or headers and names, or any_host: %s", name)
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
