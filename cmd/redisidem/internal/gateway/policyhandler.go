package gateway

import (
	"cmp"
	"fmt"
	"net/http"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/configfile"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// handler returns the handler of one policy.
func (g *generation) handler(p *Policy) (http.Handler, error) {
	if !*p.Protect {
		return keepFields(g.proxyOf(p)), nil
	}
	keep, err := httpidem.ParseStatusPolicy(p.Keep...)
	if err != nil {
		return nil, fmt.Errorf("keep: %w", err)
	}
	sources, err := p.KeySources()
	if err != nil {
		return nil, err
	}
	cfg := &httpidem.Config{
		Methods: p.Methods, MaxBodyBytes: p.MaxBody,
		Key:      httpidem.KeyConfig{Sources: sources, Prefix: p.KeyPrefix, Optional: p.Key == "optional", Strict: p.Syntax == "strict"},
		Response: httpidem.ResponseConfig{MaxBytes: p.MaxResponse, KeepHeaders: p.Headers, KeepFlushed: !*p.Stream, Status: keep}, Wait: -1,
		FailOpen: p.WithoutRedis == "pass", PublishRetention: *p.PublishRetention, PolicyURL: g.policyURL,
		Profile: p.profile(), ReplayHeader: p.ReplayHeader, WriteProblem: g.problemWriter(p), Observer: g.observer(p), Quota: g.limits(),
		Spool: g.spool, PassTooLarge: p.Key == "optional",
	}
	if cfg.Fingerprint, cfg.OtherFingerprints, err = p.fingerprints(); err != nil {
		return nil, err
	}
	switch {
	case *p.KeyWindow > 0:
		cfg.Key.Check = httpidem.KeysWithin(*p.KeyWindow, *p.KeyWindow)
	case p.Keys == "uuid":
		cfg.Key.Check = httpidem.UUIDKeys
	}
	if p.Authorize != "none" {
		where, err := checkURL(p.Authorize, "")
		if err != nil {
			return nil, err
		}
		cfg.Authorize = g.authorize(where)
	}
	if *p.Wait > 0 {
		cfg.Wait = *p.Wait
	}
	service := g.service
	if p.Retention != nil {
		if service, err = service.WithRetention(*p.Retention); err != nil {
			return nil, configfile.Within("retention", err)
		}
	}
	if retention := service.Config().Retention; *p.KeyWindow > retention/2 {
		return nil, configfile.Invalid("key_window", "must be at most half of the retention of %v, since a key is otherwise accepted after its record has expired: %v", retention, *p.KeyWindow)
	}
	if limit := cmp.Or(p.MaxBody, httpidem.DefaultMaxBodyBytes); g.spool != nil && limit > g.spool.MaxBytes() {
		return nil, configfile.Invalid("max_body", "must be at most spool_bytes (%d): %d", g.spool.MaxBytes(), limit)
	}
	m, err := httpidem.New(service, g.scope, cfg)
	if err != nil {
		return nil, fieldOf(err)
	}
	prefetch := prefetchBody(m.Policy().MaxResponseBytes, *p.Stream)
	return m.TimeoutHandler(keepFields(g.handleInterrupted(p, prefetch, g.protectedProxy(p, keep, prefetch))), g.timeout), nil
}
