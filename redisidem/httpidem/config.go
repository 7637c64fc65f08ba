package httpidem

import (
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

// ScopeFunc tells whose key a request's key is: the name of the authenticated tenant, user or API client, which identifies it for
// as long as its keys are kept. It must not be made of what the caller can choose freely, of a token, which changes and would be
// stored, or of an address, which others share.
//
// It is called before anything else is found out about the key, on each request, so an error of it keeps a caller whose rights
// were withdrawn from the stored answer: it is answered with 403. An empty name is a mistake of the program's, and is answered with
// 500. It is called concurrently.
type ScopeFunc func(r *http.Request) (string, error)

// Unscoped is a [ScopeFunc] that puts all callers into one scope, where each can get the answer of each other whose key it knows or
// guesses. It is for APIs with a single caller, or whose answers tell nothing.
func Unscoped(*http.Request) (string, error) { return "httpidem/unscoped", nil }

// Config tunes a [Middleware]. The zero value of each field means its default, and a nil *Config means all defaults. How long
// records are kept, the length of leases and such are those of the [redisidem.Service].
type Config struct {
	// Methods are the request methods that are covered, in capital or small letters; others go straight to the handler. Default: POST and PATCH.
	Methods []string

	// Header is the name of the field that carries the key. Default: Idempotency-Key.
	Header string

	// Optional lets requests without a key through, unprotected, which are refused otherwise.
	Optional bool

	// Generate makes a key for requests that bring none, which implies Optional. Its answer carries the key, but only a key that the
	// client chose itself protects it when the answer gets lost. [NewKey] fits. Nil: none is made.
	Generate func() string

	// Strict accepts only keys in double quotes, as the draft asks for. The default accepts those without quotes, too; see
	// [idemheader.Parse].
	Strict bool

	// MaxKeyBytes bounds the length of a key. Default, and at most: the service's MaxKeyBytes.
	MaxKeyBytes int

	// CheckKey refuses keys, with 400, before the store is asked: see [UUIDKeys], [MinKeyBytes] and [KeysWithin]. The reason of a
	// [*idemheader.SyntaxError] is shown to the client. It must not block, and is called concurrently. Nil: every key that can be read will do.
	CheckKey func(key string) error

	// Authorize is asked on each request with a key, after the scope function and before anything is read or looked up, so that a
	// caller whose rights were withdrawn gets no stored answer: a replay does not reach the handler, nor what it checks. Its error is
	// answered with 403, or the status of a [*DeniedError]. It is called concurrently, and must not read the body. Nil: what stands
	// outside of the middleware, and the scope function, have said it all.
	Authorize func(r *http.Request) error

	// Quota bounds how many requests a scope may have in flight, and how many keys: see [Limits]. What is over it is answered with
	// 429. Nil: nothing does.
	Quota Quota

	// MaxBodyBytes bounds the body of a request with a key, which is held in memory while the request lasts; a larger one is answered
	// with 413. Default: 1 MiB.
	MaxBodyBytes int64

	// MaxResponseBytes bounds the body of an answer, which is held in memory until the handler returns. A larger one is sent as it
	// comes and not kept: retries are answered with [ResultGone]. At most the service's MaxValueBytes. Default: 1 MiB, or that if it is less.
	MaxResponseBytes int

	// Status decides which answers are stored. [ParseStatusPolicy] makes one of a list of statuses. Default: KeepFinal.
	Status StatusPolicy

	// KeepHeaders are fields of answers that are stored besides those that always are: see [DefaultKeepHeaders]. Cookies, fields that
	// belong to one connection or one moment (Date, Content-Length, Cache-Control, CORS, authentication) and this package's own are
	// refused.
	KeepHeaders []string

	// DropResponses stores only that a request was executed and with what status, for routes whose answers must not be stored:
	// retries are answered with [ResultGone].
	DropResponses bool

	// KeepFlushed ignores Flush until an answer is larger than MaxResponseBytes, so that it can be kept. By default an answer that is
	// flushed is sent as it comes and not kept. For handlers that flush out of habit, as httputil.ReverseProxy does with every answer
	// of unknown length; it takes the life out of event streams.
	KeepFlushed bool

	// Fingerprint tells whether two requests are the same. OtherFingerprints are those that records of another version may have,
	// before a change and during it: they are looked at only when the first one does not fit.
	Fingerprint       Fingerprint
	OtherFingerprints []Fingerprint

	// Wait is how long a request waits for an earlier one with its key, instead of being refused at once. It should be less than
	// the server's WriteTimeout. Default: the service's Wait. Negative: refuse at once.
	Wait time.Duration

	// MaxWaiting bounds how many requests wait at once, since each holds its body in memory; further ones are refused at once. Flows
	// that are worked on count, too. Default: 1000.
	MaxWaiting int

	// MaxRetryAfter bounds the Retry-After of requests in flight, which otherwise is what is left of the lease: mostly much longer
	// than the work takes. At least 1 s. Default: 5 s.
	MaxRetryAfter time.Duration

	// CancelWithClient cancels the handler's context when the client goes away, as it is without the middleware. By default it is not:
	// the work is finished and its answer stored, so that the client's retry gets it. In either case the context ends with a
	// deadline that was set outside of the middleware, when the lease is lost, and after the service's MaxHold.
	CancelWithClient bool

	// FailOpen runs the handler unprotected when the store gives no answer, so that work may run twice. Its answer is sent as it comes,
	// with the fields that each answer to a request with a key has. The requests are counted as [ResultOpened]. By default they are answered
	// with 503.
	FailOpen bool

	// AnswerUnacknowledged sends the handler's answer also when nobody knows whether it could be stored. A client that then loses it may
	// get another one on its retry, or have the work run again. By default it gets 503, and asks again.
	AnswerUnacknowledged bool

	// PolicyURL is the address of the API's own text about its keys. It is in the Link of every problem, and the types of problems
	// are fragments of it. Default: none.
	PolicyURL string

	// PublishRetention puts an Idempotency-Retention, in seconds, into every answer to a request with a key.
	PublishRetention bool

	// Profile is the form in which clients expect problems and replays: [ProfileStripe] for Stripe's client libraries. Default: Standard.
	Profile Profile

	// WriteProblem writes the middleware's own answers. Status, Retry-After, Link and Cache-Control are settled by then; it
	// adds Content-Type and body. Default: that of the Profile.
	WriteProblem func(w http.ResponseWriter, r *http.Request, p *Problem)

	// Observer is told about each request, in its goroutine, concurrently, so it must be quick. What happens to keys the service's own
	// Observer is told. Nil: nobody is.
	Observer func(ctx context.Context, e Event)
}

// DefaultKeepHeaders returns the names of the response fields that are always stored.
func DefaultKeepHeaders() []string {
	return []string{
		// What the answer is.
		"Content-Digest", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Location", "Content-Range",
		"Content-Type", "Etag", "Last-Modified", "Repr-Digest", "Vary",
		// What it says.
		"Allow", "Link", "Location", "Preference-Applied", "Retry-After",
		// How browsers may treat it: without these a replay would be less safe than the first answer.
		"Content-Security-Policy", "Referrer-Policy", "X-Content-Type-Options", "X-Frame-Options",
	}
}

// neverKept reports whether a response field, in canonical form, must not be stored: it belongs to one connection, one moment
// or one caller.
func neverKept(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Set-Cookie", "Set-Cookie2", "Date", "Age",
		"Content-Length", "Cache-Control", "Expires", "Authorization", "Authentication-Info", "Www-Authenticate",
		"Cookie", "Alt-Svc", "Server", "Clear-Site-Data", "Strict-Transport-Security", IdempotentReplayedHeader, ShouldRetryHeader,
		notKeptHeader:
		return true
	}
	return strings.HasPrefix(name, "Proxy-") || strings.HasPrefix(name, "Access-Control-") || strings.HasPrefix(name, "Idempotency-")
}

// withDefaults returns a copy in which every zero field has its default.
func (c *Config) withDefaults(service *redisidem.Config) Config {
	var out Config
	if c != nil {
		out = *c
	}
	if out.Methods == nil {
		out.Methods = []string{http.MethodPost, http.MethodPatch}
	}
	out.Methods = httptoken.Upper(out.Methods)
	def(&out.Header, idemheader.Key)
	def(&out.MaxKeyBytes, service.MaxKeyBytes)
	def(&out.MaxBodyBytes, DefaultMaxBodyBytes)
	def(&out.MaxResponseBytes, min(DefaultMaxResponseBytes, service.MaxValueBytes))
	def(&out.MaxRetryAfter, DefaultMaxRetryAfter)
	def(&out.MaxWaiting, DefaultMaxWaiting)
	def(&out.Wait, service.Wait)
	if out.Generate != nil {
		out.Optional = true
	}
	if out.Status == nil {
		out.Status = KeepFinal
	}
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

func (f Fingerprint) withDefaults() Fingerprint {
	def(&f.Version, 1)
	if f.Func == nil {
		f.Func = WholeRequest
	}
	return f
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate reports the first field of a Config, defaults filled in, that breaks its bound.
func (c *Config) validate(service *redisidem.Config) error {
	switch {
	case len(c.Methods) == 0:
		return invalid("Config.Methods", "must not be empty; leave it nil for the default")
	case !httptoken.Valid(c.Header):
		return invalid("Config.Header", "is not the name of a header field: %q", c.Header)
	case c.MaxKeyBytes < 1 || c.MaxKeyBytes > service.MaxKeyBytes:
		return invalid("Config.MaxKeyBytes", "must be between 1 and the service's MaxKeyBytes (%d): %d", service.MaxKeyBytes, c.MaxKeyBytes)
	case c.MaxBodyBytes < 1:
		return invalid("Config.MaxBodyBytes", "must be at least 1: %d", c.MaxBodyBytes)
	case c.MaxResponseBytes < 1 || c.MaxResponseBytes > service.MaxValueBytes:
		return invalid("Config.MaxResponseBytes", "must be between 1 and the service's MaxValueBytes (%d): %d",
			service.MaxValueBytes, c.MaxResponseBytes)
	case c.Profile < 0 || c.Profile >= profiles:
		return invalid("Config.Profile", "is not a profile: %d", c.Profile)
	case c.MaxWaiting < 1:
		return invalid("Config.MaxWaiting", "must be at least 1: %d", c.MaxWaiting)
	case c.MaxRetryAfter < time.Second:
		return invalid("Config.MaxRetryAfter", "must be at least 1s: %v", c.MaxRetryAfter)
	}
	for _, method := range c.Methods {
		if !httptoken.Valid(method) {
			return invalid("Config.Methods", "has what is not a request method: %q", method)
		}
	}
	for _, name := range c.KeepHeaders {
		if canonical := http.CanonicalHeaderKey(name); !httptoken.Valid(name) || neverKept(canonical) || canonical == http.CanonicalHeaderKey(c.Header) {
			return invalid("Config.KeepHeaders", "has a field that must not be stored: %q", name)
		}
	}
	versions := map[byte]bool{c.Fingerprint.Version: true}
	for _, f := range c.OtherFingerprints {
		if versions[f.Version] {
			return invalid("Config.OtherFingerprints", "has version %d twice, or that of Config.Fingerprint", f.Version)
		}
		versions[f.Version] = true
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
