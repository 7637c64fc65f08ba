package httpidem

import (
	"net/http"
	"slices"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// DefaultWebhookTolerance is the default of [Webhook].Tolerance.
const DefaultWebhookTolerance = 5 * time.Minute

// Webhook describes the webhooks that one sender delivers: how it signs them, and where the ID of
// an event is. [NewWebhook] makes a middleware of it. [GitHubWebhook], [ShopifyWebhook],
// [StandardWebhook], [StripeWebhook] and [SvixWebhook] return ready values.
//
// The order in which events arrive is the sender's. The middleware does not wait for an event that
// is late, and handles events with different IDs at the same time.
type Webhook struct {
	// Sender is the name of the sender. Its events have the scope "webhook/" and this name. Two
	// endpoints that get the same events, and handle them differently, need two names. Required.
	Sender string

	// Event is the place of the event's ID, which is the same in each delivery of the event. It is
	// the key. Required.
	Event KeySource

	// Scheme is how the sender signs. Required, unless Verify is set.
	Scheme SignatureScheme

	// Secrets are the secrets that the sender signs with, as it shows them. They are those of one
	// account at the sender: the owner of one can sign any event of the others, so several accounts
	// need several webhooks with names of their own. While a secret is
	// replaced there are two: a delivery is accepted if any of them fits. At least one, unless
	// Verify is set.
	Secrets []string

	// Tolerance is how much the time of a signature may differ from the host's clock, in the past
	// and in the future. An older delivery is refused, also if its event was accepted before.
	// GitHub and Shopify sign no time. Default: 5 min. A negative value does not look at the time.
	Tolerance time.Duration

	// Verify takes the place of Scheme, Secrets and Tolerance for senders with another scheme. It
	// returns an error for a delivery that the sender has not signed. The body has been read and
	// must not be changed. It must compare signatures in constant time, and is called concurrently.
	Verify func(r *http.Request, body []byte) error
}

// NewWebhook returns a Middleware for the webhooks of a sender. It verifies the signature of each
// delivery before it does anything else. A delivery without a valid signature is answered with 403
// ([ResultBadSignature]) and changes nothing. The handler runs once for each event, and further
// deliveries of the event get its response. So a response of the handler is for the sender: 2xx
// once the event is handled.
//
// A nil cfg means all defaults. These differ from those of [New]:
//
//   - Methods is POST. Requests with other methods are answered with 405.
//   - Response.Status stores only 2xx. After another status the sender delivers the event again,
//     and the handler runs again.
//   - Fingerprint compares only the method and the path, because some senders change a part of the
//     body with each delivery. The event's ID decides.
//
// If the response of an event was not kept, its further deliveries get an empty 200 and not a 410,
// after which some senders stop. Key.Sources, Key.Optional, Key.Generate and Key.Strict of the
// Config must not be set. Config.MaxBodyBytes bounds a delivery, which is read before its signature
// can be verified.
//
// A field that is out of its bounds is a [*redisidem.InvalidError].
func NewWebhook(service *redisidem.Service, hook Webhook, cfg *Config) (*Middleware, error) {
	verify, err := hook.verifier()
	if err != nil {
		return nil, err
	}
	own, err := hook.config(cfg)
	if err != nil {
		return nil, err
	}
	scope := "webhook/" + hook.Sender
	m, err := New(service, func(*http.Request) (string, error) { return scope, nil }, own)
	if err != nil {
		return nil, err
	}
	if len(scope) > m.maxScopeBytes {
		return nil, invalid("Webhook.Sender", "must be shorter than the service's MaxKeyBytes (%d) with webhook/ in front: %d", m.maxScopeBytes, len(scope))
	}
	m.verify, m.position = verify, callerPosition()
	return m, nil
}

// config returns the Config of the webhook's middleware.
func (h *Webhook) config(cfg *Config) (*Config, error) {
	var own Config
	if cfg != nil {
		own = *cfg
	}
	if k := &own.Key; k.Sources != nil || k.Optional || k.Generate != nil || k.Strict {
		return nil, invalid("Config.Key", "must not have Sources, Optional, Generate or Strict: Webhook.Event is the key")
	}
	own.Key.Sources = []KeySource{h.Event}
	if own.Methods == nil {
		own.Methods = []string{http.MethodPost}
	}
	if own.Response.Status == nil {
		own.Response.Status = keepSuccess
	}
	if own.Fingerprint.Func == nil {
		own.Fingerprint.Func, own.Fingerprint.AnyHost = onlyTheKey, true
	}
	return &own, nil
}

// keepSuccess is a [StatusPolicy] that keeps 2xx. Senders of webhooks deliver again after any other
// status.
func keepSuccess(status int) Disposition {
	switch {
	case status >= 200 && status < 300:
		return DispositionKeep
	case isUnclear(status):
		return DispositionUnknown
	}
	return DispositionRelease
}

// onlyTheKey is a [FingerprintFunc] that adds nothing.
func onlyTheKey(*Digest, *http.Request, *Body) error { return nil }

// verifier returns the function that verifies a delivery.
func (h *Webhook) verifier() (func(*http.Request, []byte) error, error) {
	switch {
	case h.Sender == "":
		return nil, invalid("Webhook.Sender", "must not be empty")
	case h.Verify != nil && (h.Scheme != 0 || len(h.Secrets) > 0 || h.Tolerance != 0):
		return nil, invalid("Webhook.Verify", "must not be set together with Scheme, Secrets or Tolerance")
	}
	if err := h.Event.Validate(); err != nil {
		return nil, err
	}
	if h.Verify != nil {
		return h.Verify, nil
	}
	v := &signatureVerifier{tolerance: h.Tolerance}
	if v.tolerance == 0 {
		v.tolerance = DefaultWebhookTolerance
	}
	var err error
	if v.read, err = h.Scheme.reader(); err != nil {
		return nil, err
	}
	if v.secrets, err = h.Scheme.decode(slices.Clone(h.Secrets)); err != nil {
		return nil, err
	}
	return v.verify, nil
}

// verified reports whether the sender of a webhook has signed the request. If not, it refuses the
// request.
func (x *keyedRequest) verified() bool {
	err := x.middleware.verify(x.r, x.body.bytes)
	if err != nil {
		x.refuse(x.middleware.problem(ResultBadSignature), err)
	}
	return err == nil
}
