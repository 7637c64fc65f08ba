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

	// Methods are the methods that are protected, of IANA's registry of HTTP methods. Default: POST
	// and PATCH.
	Methods []string `json:"methods,omitempty"`
	// KeyHeader is the header field with the key. Default: Idempotency-Key.
	KeyHeader string `json:"key_header,omitempty"`
	// KeyFrom are the places of the key, in place of KeyHeader. The first one that a request has
	// counts. Those in the body come last.
	KeyFrom []KeySource `json:"key_from,omitempty"`
	// KeyPrefix is put before each key in the store, so that a value that another handler with the
	// same scope uses too is another key. Under another prefix a retry finds no record of the
	// request before it. Default: none.
	KeyPrefix string `json:"key_prefix,omitempty"`
	// Keys is "any", or "uuid" to accept only UUIDs. Default: any.
	Keys string `json:"keys,omitempty"`
	// KeyWindow accepts only keys that contain their creation time (version 7 UUIDs and ULIDs),
	// which may differ from now by no more. At most half of Retention. Default: any key.
	KeyWindow caddy.Duration `json:"key_window,omitempty"`
	// Strict accepts only keys in quotes in header fields. By default they may have none.
	Strict bool `json:"strict,omitempty"`
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

	// Keep are the responses that are stored: "final", "all", or statuses and classes, such as 2xx
	// and 404: see [httpidem.ParseStatusPolicy]. Default: final.
	Keep []string `json:"keep,omitempty"`
	// Headers are response fields that are stored in addition to [httpidem.DefaultKeepHeaders].
	Headers []string `json:"headers,omitempty"`
	// PublishRetention adds to each response to a request with a key how long it is kept.
	PublishRetention bool `json:"publish_retention,omitempty"`
	// Fingerprint is when two requests with a key are the same. Another request with the key is
	// answered with 422. A change of it refuses the retries of requests from before.
	Fingerprint Fingerprint `json:"fingerprint,omitzero"`

	// Stream sends responses as they are written, such as event streams. A response that a handler
	// flushes is then not stored, and its retries are answered with 410. By default flushes have no
	// effect.
	Stream bool `json:"stream,omitempty"`

	// Interrupted says what happens to a request with an earlier attempt of unknown outcome:
	// "refuse" answers 503 until an operator has settled the key with the program redisidem, "run"
	// runs the handlers again. Default: refuse.
	Interrupted string `json:"interrupted,omitempty"`
	// Profile is the form of problems and replays: "draft" or "stripe". Default: draft.
	Profile string `json:"profile,omitempty"`
	// ReplayHeader is the response field that marks a replay, in place of the marks of the profile,
	// or "none" for no mark. Default: the marks of the profile.
	ReplayHeader string `json:"replay_header,omitempty"`
	// FailOpen runs the handlers without protection while Redis is unavailable. By default such
	// requests are answered with 503.
	FailOpen bool `json:"fail_open,omitempty"`
	// PolicyURL is the address of the API's documentation of its keys, to which problems link.
	PolicyURL string `json:"policy_url,omitempty"`

	store      *store
	keep       httpidem.StatusPolicy
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
	cfg, err := h.config()
	if err != nil {
		return err
	}
	h.keep = cfg.Response.Status
	h.middleware, err = httpidem.New(h.store.service, h.scopeOf, cfg)
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
	case h.Profile != "" && h.Profile != profileDraft && h.Profile != profileStripe:
		return fmt.Errorf("profile: must be draft or stripe: %q", h.Profile)
	case h.Keys != "" && h.Keys != keysAny && h.Keys != keysUUID:
		return fmt.Errorf("keys: must be any or uuid: %q", h.Keys)
	case h.KeyWindow < 0:
		return fmt.Errorf("key_window: must not be negative: %v", duration(h.KeyWindow))
	case h.KeyWindow > 0 && h.Keys == keysUUID:
		return errors.New("key_window: cannot go with keys uuid; both define the form of keys")
	case len(h.KeyFrom) > 0 && h.KeyHeader != "":
		return errors.New("key_from: cannot go with key_header")
	case h.Wait < 0:
		return fmt.Errorf("wait: must not be negative: %v", duration(h.Wait))
	}
	for i, method := range h.Methods { // a typing error would leave requests without protection
		if !httpidem.IsRegisteredMethod(method) {
			return fmt.Errorf("methods[%d]: must be a method of the registry of HTTP methods, such as POST: %q", i, method)
		}
	}
	return h.Fingerprint.check()
}

// placeholder is a placeholder of Caddy.
var placeholder = regexp.MustCompile(`\{[^{}\s]+\}`)

// hasPlaceholders reports whether a scope differs between callers, as far as its text says.
func hasPlaceholders(scope string) bool {
	return placeholder.MatchString(scope) && !strings.ContainsAny(placeholder.ReplaceAllString(scope, ""), "{}")
}

// config returns the configuration of the middleware. It needs the store.
func (h *Handler) config() (*httpidem.Config, error) {
	words := h.Keep
	if len(words) == 0 {
		words = []string{"final"}
	}
	keep, err := httpidem.ParseStatusPolicy(words...)
	if err != nil {
		return nil, fmt.Errorf("keep: %w", err)
	}
	key := httpidem.KeyConfig{Header: h.KeyHeader, Prefix: h.KeyPrefix, Optional: h.Optional, Strict: h.Strict}
	for i, from := range h.KeyFrom {
		source := httpidem.KeySource(from)
		if err := source.Validate(); err != nil {
			return nil, fmt.Errorf("key_from[%d]: %w", i, err)
		}
		key.Sources = append(key.Sources, source)
	}
	switch retention := h.store.service.Config().Retention; {
	case duration(h.KeyWindow) > retention/2:
		return nil, fmt.Errorf("key_window: must be at most half of the retention of %v, since a key is otherwise accepted after its record has expired: %v",
			retention, duration(h.KeyWindow))
	case h.KeyWindow > 0:
		key.Check = httpidem.KeysWithin(duration(h.KeyWindow), duration(h.KeyWindow))
	case h.Keys == keysUUID:
		key.Check = httpidem.UUIDKeys
	}
	return &httpidem.Config{
		Methods: h.Methods, MaxBodyBytes: h.MaxBody, PassTooLarge: h.Optional, Wait: duration(h.Wait), FailOpen: h.FailOpen, PolicyURL: h.PolicyURL,
		Key:         key,
		Response:    httpidem.ResponseConfig{MaxBytes: int(h.MaxResponse), KeepHeaders: h.Headers, KeepFlushed: !h.Stream, Status: keep},
		Fingerprint: h.Fingerprint.config(), PublishRetention: h.PublishRetention, Spool: h.store.spool,
		Profile: h.profile(), ReplayHeader: h.ReplayHeader, Observer: h.store.observe, Quota: h.store.limits(),
	}, nil
}

// The values of Handler.Keys.
const (
	keysAny  = "any"
	keysUUID = "uuid"
)

// KeySource is a place of a key. It must have one field.
type KeySource struct {
	// Header is the name of a header field.
	Header string `json:"header,omitempty"`
	// Query is the name of a query parameter.
	Query string `json:"query,omitempty"`
	// Body is the JSON pointer of a text or a whole number in a JSON body, such as /data/id.
	Body string `json:"body,omitempty"`
}

// The values of Handler.Profile.
const (
	profileDraft  = "draft"
	profileStripe = "stripe"
)

// profile returns the form of problems and replays.
func (h *Handler) profile() httpidem.Profile {
	if h.Profile == profileStripe {
		return httpidem.ProfileStripe
	}
	return httpidem.ProfileDraft
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
	httpidem.RemoveLeaseHeaders(r) // before reverse_proxy copies the trailers, at the end of the body
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
