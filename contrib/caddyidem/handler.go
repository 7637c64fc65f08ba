package caddyidem

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// Handler is the HTTP handler http.handlers.idempotency. The zero value of each field means its
// default.
type Handler struct {
	Store

	// Scope names the authenticated caller to whom a key belongs. Two callers share a response only
	// if they have the same scope. It has placeholders, such as {http.auth.user.id}. A request for
	// which one is empty is answered with 403. Do not use a value that the client can choose, such
	// as a header field that no authentication sets, or the subject of a certificate that Caddy
	// does not verify (client_auth mode require_and_verify does). Required, unless Unscoped is set.
	Scope string `json:"scope,omitempty"`
	// Unscoped gives all callers one scope: a caller that knows the key of another one gets its
	// response. It is for an API with a single caller.
	Unscoped bool `json:"unscoped,omitempty"`

	// Methods are the methods that are protected. Default: POST and PATCH.
	Methods []string `json:"methods,omitempty"`
	// KeyHeader is the header field with the key. Default: Idempotency-Key.
	KeyHeader string `json:"key_header,omitempty"`
	// Optional lets requests without a key pass without protection. By default they are answered
	// with 400.
	Optional bool `json:"optional,omitempty"`

	// Wait is how long a request waits for an earlier one with its key, before it is answered with
	// 409. Default: it does not wait.
	Wait caddy.Duration `json:"wait,omitempty"`
	// MaxBody and MaxResponse limit the bodies of requests with a key, in bytes. A larger request
	// is answered with 413, or passes without protection if keys are Optional and its key has no
	// record. A larger response is sent and is not stored: retries are answered with 409 or 410,
	// and the handlers do not run again. Default: 1 MiB each. MaxResponse is at most MaxValue.
	MaxBody     int64 `json:"max_body,omitempty"`
	MaxResponse int64 `json:"max_response,omitempty"`

	// Stream sends responses as they are written, such as event streams. A response that a handler
	// flushes is then not stored, and its retries are answered with 410. By default flushes have no
	// effect.
	Stream bool `json:"stream,omitempty"`

	// Interrupted says what happens to a request with an earlier attempt of unknown outcome:
	// "refuse" answers 503 until an operator has settled the key with the program redisidem, "run"
	// runs the handlers again. Default: refuse.
	Interrupted string `json:"interrupted,omitempty"`
	// Profile is the form of problems and replays: "standard" or "stripe". Default: standard.
	Profile string `json:"profile,omitempty"`
	// FailOpen runs the handlers without protection while Redis is unavailable. By default such
	// requests are answered with 503.
	FailOpen bool `json:"fail_open,omitempty"`
	// PolicyURL is the address of the API's documentation of its keys, to which problems link.
	PolicyURL string `json:"policy_url,omitempty"`

	store      *store
	middleware *httpidem.Middleware
	log        *zap.Logger
}

// CaddyModule implements [caddy.Module].
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.idempotency", New: func() caddy.Module { return new(Handler) }}
}

// Provision implements [caddy.Provisioner]. It connects to Redis and checks that the server can
// keep the guarantees. Caddy therefore refuses a configuration with a Redis that is down or unsafe,
// and keeps the one before.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.log = ctx.Logger()
	if err := h.check(); err != nil {
		return err
	}
	var err error
	if h.store, err = openStore(ctx, h.Store); err != nil {
		return err
	}
	h.middleware, err = httpidem.New(h.store.service, h.scopeOf, h.config())
	return err
}

// check reports the first field that has a wrong value.
func (h *Handler) check() error {
	switch {
	case h.Scope == "" && !h.Unscoped:
		return errors.New("scope: is required: name the authenticated caller, or say unscoped")
	case h.Scope != "" && !hasPlaceholders(h.Scope):
		return fmt.Errorf("scope: must have placeholders, such as {http.auth.user.id}, and no other braces: %q", h.Scope)
	case h.Scope != "" && h.Unscoped:
		return errors.New("unscoped: cannot go with scope")
	case h.Interrupted != "" && h.Interrupted != interruptedRefuse && h.Interrupted != interruptedRun:
		return fmt.Errorf("interrupted: must be refuse or run: %q", h.Interrupted)
	case h.Profile != "" && h.Profile != profileStandard && h.Profile != profileStripe:
		return fmt.Errorf("profile: must be standard or stripe: %q", h.Profile)
	case h.Wait < 0:
		return fmt.Errorf("wait: must not be negative: %v", duration(h.Wait))
	}
	return nil
}

// placeholder is a placeholder of Caddy.
var placeholder = regexp.MustCompile(`\{[^{}\s]+\}`)

// hasPlaceholders reports whether a scope differs between callers, as far as its text says.
func hasPlaceholders(scope string) bool {
	return placeholder.MatchString(scope) && !strings.ContainsAny(placeholder.ReplaceAllString(scope, ""), "{}")
}

// config returns the configuration of the middleware.
func (h *Handler) config() *httpidem.Config {
	return &httpidem.Config{
		Methods: h.Methods, MaxBodyBytes: h.MaxBody, PassTooLarge: h.Optional, Wait: duration(h.Wait), FailOpen: h.FailOpen, PolicyURL: h.PolicyURL,
		Key:         httpidem.KeyConfig{Header: h.KeyHeader, Optional: h.Optional},
		Response:    httpidem.ResponseConfig{MaxBytes: int(h.MaxResponse), KeepFlushed: !h.Stream},
		Fingerprint: httpidem.Fingerprint{Func: fingerprint},
		Profile:     h.profile(), Observer: h.store.observe,
	}
}

// fingerprint adds the request as the client sent it: handlers in front of this one may have
// rewritten it, and given two paths the same one.
func fingerprint(d *httpidem.Digest, r *http.Request, body *httpidem.Body) error {
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		d.Text(original.Method)
		d.Text(original.RequestURI)
	}
	return httpidem.WholeRequest(d, r, body)
}

// The values of Handler.Profile.
const (
	profileStandard = "standard"
	profileStripe   = "stripe"
)

// profile returns the form of problems and replays.
func (h *Handler) profile() httpidem.Profile {
	if h.Profile == profileStripe {
		return httpidem.ProfileStripe
	}
	return httpidem.ProfileStandard
}

// Cleanup implements [caddy.CleanerUpper]. The connections to Redis are closed with the last
// handler that uses them.
func (h *Handler) Cleanup() error {
	if h.store == nil {
		return nil
	}
	return h.store.release()
}

// scopeOf is the scope function of the middleware.
func (h *Handler) scopeOf(r *http.Request) (string, error) {
	if h.Unscoped {
		return "caddy", nil
	}
	replacer, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return "", errors.New("caddyidem: the request did not come through Caddy")
	}
	return replacer.ReplaceOrErr(h.Scope, true, true)
}

// ServeHTTP implements [caddyhttp.MiddlewareHandler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	x := exchange{handler: h, next: next}
	h.middleware.Handler(&x).ServeHTTP(w, r)
	if x.err != nil && x.body != nil { // error routes may read it
		var err error
		if r.Body, err = x.body(); err != nil {
			return errors.Join(x.err, err)
		}
	}
	return x.err
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
