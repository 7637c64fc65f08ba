package httpidem

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/redisidem/redisidem/internal/httptoken"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// The defaults of [Config].
const (
	DefaultMaxBodyBytes     = 1 << 20
	DefaultMaxResponseBytes = 1 << 20
	DefaultMaxRetryAfter    = 5 * time.Second
	DefaultMaxWaiting       = 1000
)

// Config configures a [Middleware]. The zero value of each field means its default, and a nil
// *Config means all defaults. The [redisidem.Service] configures retention, leases and the limits
// of the store.
type Config struct {
	// Methods are the request methods that are protected, in upper or lower case. Requests with
	// other methods go straight to the handler. Default: POST and PATCH.
	Methods []string

	// Key configures how the key of a request is read and checked.
	Key KeyConfig

	// Authorize is called for each request with a key, after the scope function and before the
	// request is read or looked up. A replay does not reach the handler or its checks, so Authorize
	// keeps stored responses from a caller whose rights were withdrawn. An error is answered with
	// 403, or with the status of a [*DeniedError]. It must not read the body, and is called
	// concurrently. Default: every caller that the scope function names is authorized.
	Authorize func(r *http.Request) error

	// Quota limits the requests in flight and the keys of each scope. A request over the limit is
	// answered with 429. Default: no limit.
	Quota Quota

	// MaxBodyBytes limits the body of a request with a key, which is held in memory or in the Spool
	// until the request ends. A larger body is answered with 413. At most 1 TiB, and at most the
	// MaxBytes of the Spool. Default: 1 MiB.
	MaxBodyBytes int64

	// PassTooLarge runs the handler without protection for a body above MaxBodyBytes, as for a
	// request without a key. Such requests have the result [ResultOversize]. A key that has a
	// record was used under a larger MaxBodyBytes, so its request is answered with 413. This costs
	// one round trip; if the store is unavailable, FailOpen decides. It needs Key.Optional. It does
	// not apply to flows, to webhooks, and to requests whose key may be in the body.
	PassTooLarge bool

	// Spool holds the bodies that are too large for memory in files. Several middlewares can share
	// one. The bodies of flows, of webhooks and of requests whose key is in the body stay in
	// memory, and [CanonicalJSON], [JSONFields] and [JSONFieldsExcept] read a body into memory for
	// as long as they run. Default: all bodies are in memory.
	Spool *Spool

	// Fingerprint configures when two requests are the same. OtherFingerprints are further ones
	// that records may have before or during a change of Fingerprint. They are used only for a
	// record with their version that does not match, and cost a request with another fingerprint
	// two or more calls to the store. Default: a digest of the whole request, see [Fingerprint].
	Fingerprint       Fingerprint
	OtherFingerprints []Fingerprint

	// Response configures which responses are stored.
	Response ResponseConfig

	// Wait is how long a request waits for an earlier request with its key, before it is answered
	// with 409. It should be shorter than the server's WriteTimeout. Default: the service's Wait. A
	// negative value does not wait.
	Wait time.Duration

	// MaxWaiting limits the number of requests that wait, since each holds its body in memory. A
	// request over the limit does not wait. A request that runs a flow counts until it ends.
	// Default: 1000.
	MaxWaiting int

	// MaxRetryAfter limits the Retry-After of a request in flight. Without it, Retry-After is the
	// rest of the lease, which is usually much longer than the work. At least 1 s. Default: 5 s.
	MaxRetryAfter time.Duration

	// CancelWithClient cancels the handler's context when the client disconnects, as net/http does
	// without the middleware. By default the handler continues and its response is stored for the
	// client's retry. The context always ends when the lease is lost, after the service's MaxHold,
	// and at a deadline that was set outside the middleware.
	CancelWithClient bool

	// FailOpen runs the handler without protection when Redis is unavailable, so that a retry may
	// run it again. Such requests have the result [ResultOpened]. By default they are answered with
	// 503.
	FailOpen bool

	// AnswerUnacknowledged sends the handler's response even if Redis has not acknowledged it. A
	// client that loses this response may get another one on its retry, or have the work run again.
	// By default the client gets 503 and retries.
	AnswerUnacknowledged bool

	// PolicyURL is the address of the API's documentation of its keys. Each problem links to it,
	// and problem types are fragments of it. Default: the documentation of this package, without a
	// link.
	PolicyURL string

	// PublishRetention sets [idemheader.Retention] on each response to a request with a key.
	PublishRetention bool

	// Profile is the form of problems and replays: [ProfileStripe] for Stripe's client libraries.
	// Default: [ProfileDraft].
	Profile Profile

	// ReplayHeader is the name of the response field that is true on each replay and absent from
	// every other response, in place of the marks of the Profile. At most 64 bytes. It must not be
	// a field that is stored. With [NoReplayHeader] replays have no mark. A client such as package
	// idemclient knows a replay only by [idemheader.Replayed]. Default: the marks of the Profile.
	ReplayHeader string

	// WriteProblem writes the middleware's own responses. Retry-After, Link and Cache-Control are
	// set in the header already; it adds Content-Type, the status and the body. It is called
	// concurrently. Default: [Profile.WriteProblem] of Profile.
	WriteProblem func(w http.ResponseWriter, r *http.Request, p *Problem)

	// Observer is called once for each request, in the goroutine that runs the handler, and
	// concurrently, so it must be quick. A request that timed out has a second, late event. A panic
	// goes to the service's Config.Logger, and changes no response. Events of keys go to the
	// Observer of the service. Default: none.
	Observer func(ctx context.Context, e Event)
}

// withDefaults returns a copy in which every zero field has its default.
func (c *Config) withDefaults(service *redisidem.Config) Config {
	var out Config
	if c != nil {
		out = *c
	}
	if out.Methods == nil {
		out.Methods = defaultMethods()
	}
	out.Methods = httptoken.Upper(out.Methods)
	out.Key.Header = cmp.Or(out.Key.Header, idemheader.Key)
	out.Key.MaxBytes = cmp.Or(out.Key.MaxBytes, service.MaxKeyBytes-len(out.Key.Prefix))
	out.Key.Sources = slices.Clone(out.Key.Sources)
	out.Key.Optional = out.Key.Optional || out.Key.Generate != nil
	out.MaxBodyBytes = cmp.Or(out.MaxBodyBytes, DefaultMaxBodyBytes)
	out.Response.MaxBytes = cmp.Or(out.Response.MaxBytes, min(DefaultMaxResponseBytes, service.MaxValueBytes))
	if out.Response.Status == nil {
		out.Response.Status = KeepFinal
	}
	out.MaxRetryAfter = cmp.Or(out.MaxRetryAfter, DefaultMaxRetryAfter)
	out.MaxWaiting = cmp.Or(out.MaxWaiting, DefaultMaxWaiting)
	out.Wait = cmp.Or(out.Wait, service.Wait)
	if out.WriteProblem == nil {
		out.WriteProblem = out.Profile.WriteProblem
	}
	out.Fingerprint = out.Fingerprint.withDefaults()
	out.OtherFingerprints = slices.Clone(out.OtherFingerprints)
	for i, f := range out.OtherFingerprints {
		out.OtherFingerprints[i] = f.withDefaults()
	}
	return out
}

// largestBody bounds Config.MaxBodyBytes, so that the arithmetic with it cannot overflow: 1 TiB.
const largestBody = 1 << 40

// validate reports the first field, defaults filled in, that is out of its bounds.
func (c *Config) validate(service *redisidem.Config) error {
	switch {
	case len(c.Methods) == 0:
		return invalid("Config.Methods", "must not be empty; leave it nil for the default")
	case !httptoken.Valid(c.Key.Header):
		return invalid("Config.Key.Header", "must be the name of a header field: %q", c.Key.Header)
	case len(c.Key.Prefix) >= service.MaxKeyBytes:
		return invalid("Config.Key.Prefix", "must have fewer bytes than the service's MaxKeyBytes (%d): %d", service.MaxKeyBytes, len(c.Key.Prefix))
	case c.Key.MaxBytes < 1 || c.Key.MaxBytes > service.MaxKeyBytes-len(c.Key.Prefix):
		return invalid("Config.Key.MaxBytes", "must be between 1 and the service's MaxKeyBytes less the length of the prefix (%d): %d", service.MaxKeyBytes-len(c.Key.Prefix), c.Key.MaxBytes)
	case c.MaxBodyBytes < 1 || c.MaxBodyBytes > largestBody:
		return invalid("Config.MaxBodyBytes", "must be between 1 and %d: %d", int64(largestBody), c.MaxBodyBytes)
	case c.Spool != nil && c.MaxBodyBytes > c.Spool.maxBytes:
		return invalid("Config.MaxBodyBytes", "must be at most the MaxBytes of Config.Spool (%d): %d", c.Spool.maxBytes, c.MaxBodyBytes)
	case c.PassTooLarge && !c.Key.Optional:
		return invalid("Config.PassTooLarge", "needs Key.Optional")
	case c.Profile < 0 || c.Profile >= profiles:
		return invalid("Config.Profile", "is not a profile: %d", c.Profile)
	case c.MaxWaiting < 1:
		return invalid("Config.MaxWaiting", "must be at least 1: %d", c.MaxWaiting)
	case c.MaxRetryAfter < time.Second:
		return invalid("Config.MaxRetryAfter", "must be at least 1s: %v", c.MaxRetryAfter)
	}
	for _, method := range c.Methods {
		if !httptoken.Valid(method) {
			return invalid("Config.Methods", "must be request methods: %q", method)
		}
	}
	if err := c.Response.validate(service, c.Key.Header); err != nil {
		return err
	}
	if err := c.Key.validateSources(); err != nil {
		return err
	}
	if err := c.validateReplayHeader(); err != nil {
		return err
	}
	type identity struct {
		version byte
		name    string
	}
	known := map[identity]bool{{c.Fingerprint.Version, c.Fingerprint.Name}: true}
	for _, f := range c.OtherFingerprints {
		own := identity{f.Version, f.Name}
		if known[own] {
			return invalid("Config.OtherFingerprints", "must have versions or names of their own: version %d, name %q is there twice, or is that of Config.Fingerprint",
				f.Version, f.Name)
		}
		known[own] = true
	}
	if u, err := url.Parse(c.PolicyURL); err != nil || strings.ContainsAny(c.PolicyURL, "<>\" \r\n") ||
		c.PolicyURL != "" && (!u.IsAbs() || u.Fragment != "") {
		return invalid("Config.PolicyURL", "must be an absolute URL without a fragment: %q", c.PolicyURL)
	}
	return nil
}

func invalid(field, format string, args ...any) error {
	return &redisidem.InvalidError{Field: "httpidem." + field, Reason: fmt.Sprintf(format, args...)}
}
