package httpidem_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// The secrets of the tests, as a sender shows them.
const (
	secretText  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	otherSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	event       = `{"id":"evt_1","type":"paid"}`
)

func code(secret []byte, text string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// standardCode is the code of Standard Webhooks.
func standardCode(secret, id, at, body string) string {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(code(key, id+"."+at+"."+body))
}

// signer signs a delivery of the event evt_1.
type signer struct {
	hook  func(secrets ...string) httpidem.Webhook
	timed bool // the time is signed
	sign  func(h http.Header, secret, at, body string)
}

func signers() map[string]signer {
	standard := func(prefix string) func(http.Header, string, string, string) {
		return func(h http.Header, secret, at, body string) {
			h.Set(prefix+"Id", "evt_1")
			h.Set(prefix+"Timestamp", at)
			h.Set(prefix+"Signature", "v1a,"+base64.StdEncoding.EncodeToString(make([]byte, 64))+" v1,"+standardCode(secret, "evt_1", at, body))
		}
	}
	return map[string]signer{
		"standard": {func(s ...string) httpidem.Webhook { return httpidem.StandardWebhook("s", s...) }, true, standard("Webhook-")},
		"svix":     {func(s ...string) httpidem.Webhook { return httpidem.SvixWebhook("another", s...) }, true, standard("Svix-")},
		"stripe": {httpidem.StripeWebhook, true, func(h http.Header, secret, at, body string) {
			h.Set("Stripe-Signature", "t="+at+",v1="+hex.EncodeToString(code([]byte(secret), at+"."+body))+",v0=00")
		}},
		"github": {httpidem.GitHubWebhook, false, func(h http.Header, secret, _, body string) {
			h.Set("X-GitHub-Delivery", "evt_1")
			h.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(code([]byte(secret), body)))
		}},
		"shopify": {httpidem.ShopifyWebhook, false, func(h http.Header, secret, _, body string) {
			h.Set("X-Shopify-Webhook-Id", "evt_1")
			h.Set("X-Shopify-Hmac-Sha256", base64.StdEncoding.EncodeToString(code([]byte(secret), body)))
		}},
	}
}

func seconds(after time.Duration) string { return strconv.FormatInt(time.Now().Add(after).Unix(), 10) }

func TestSignaturesOfSenders(t *testing.T) {
	t.Parallel()
	svc := newStore(t).service(redisidem.Config{})
	for name, s := range signers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handler := counting(created("done"))
			h := newWebhook(t, svc, s.hook(otherSecret, secretText), nil).Handler(handler)
			send := func(secret, at string, change func(http.Header), body string) int {
				r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/"+name, strings.NewReader(body))
				s.sign(r.Header, secret, at, event)
				if change != nil {
					change(r.Header)
				}
				return call(h, r).Code
			}
			refused := map[string]int{
				"another secret": send("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", seconds(0), nil, event),
				"a changed body": send(secretText, seconds(0), nil, event+" "),
				"no signature":   send(secretText, seconds(0), func(h http.Header) { clear(h) }, event),
				"a signature twice": send(secretText, seconds(0), func(h http.Header) {
					for name := range h {
						h[name] = append(h[name], h[name]...)
					}
				}, event),
			}
			if s.timed {
				refused["too old"] = send(secretText, seconds(-5*time.Minute-2*time.Second), nil, event)
				refused["in the future"] = send(secretText, seconds(5*time.Minute+time.Minute), nil, event)
				refused["no time"] = send(secretText, "", nil, event)
				refused["a time that is a word"] = send(secretText, "now", nil, event)
				refused["a time of the attacker's"] = send(secretText, seconds(-time.Hour), func(h http.Header) {
					for name, values := range h {
						h.Set(name, strings.ReplaceAll(values[0], seconds(-time.Hour), seconds(0)))
					}
				}, event)
			}
			for what, status := range refused {
				if status != http.StatusForbidden {
					t.Errorf("%s: %d", what, status)
				}
			}
			handler.ran(t, 0)
			for _, secret := range []string{secretText, otherSecret, secretText} {
				if status := send(secret, seconds(-4*time.Minute), nil, event); status != http.StatusCreated {
					t.Errorf("%d", status)
				}
			}
			handler.ran(t, 1)
		})
	}
}

// TestSignatureWithAnyOfSeveralCodes is about a sender that signs with two secrets while one
// replaces the other.
func TestSignatureWithAnyOfSeveralCodes(t *testing.T) {
	t.Parallel()
	svc := newStore(t).service(redisidem.Config{})
	at := seconds(0)
	stripe := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(event))
	stripe.Header.Set("Stripe-Signature", "t="+at+",v1="+hex.EncodeToString(code([]byte("old"), at+"."+event))+
		",v1="+hex.EncodeToString(code([]byte("new"), at+"."+event)))
	if w := call(newWebhook(t, svc, httpidem.StripeWebhook("new"), nil).Handler(created("")), stripe); w.Code != http.StatusCreated {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	standard := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(event))
	standard.Header.Set("Webhook-Id", "msg_1")
	standard.Header.Set("Webhook-Timestamp", at)
	standard.Header.Set("Webhook-Signature", "v1,"+standardCode(otherSecret, "msg_1", at, event)+" v1,"+standardCode(secretText, "msg_1", at, event))
	if w := call(newWebhook(t, svc, httpidem.StandardWebhook("s", secretText), nil).Handler(created("")), standard); w.Code != http.StatusCreated {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestToleranceOfSignatures(t *testing.T) {
	t.Parallel()
	svc := newStore(t).service(redisidem.Config{})
	for tolerance, want := range map[time.Duration]int{time.Hour: 403, 3 * time.Hour: 201, -1: 201} {
		hook := httpidem.StripeWebhook(secretText)
		hook.Tolerance = tolerance
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(event))
		signers()["stripe"].sign(r.Header, secretText, seconds(-2*time.Hour), event)
		if w := call(newWebhook(t, svc, hook, nil).Handler(created("")), r); w.Code != want {
			t.Errorf("%v: %d, want %d", tolerance, w.Code, want)
		}
	}
}

// TestSignatureOfGitHubsDocumentation has the values that GitHub publishes for tests.
func TestSignatureOfGitHubsDocumentation(t *testing.T) {
	t.Parallel()
	hook := httpidem.GitHubWebhook("It's a Secret to Every" + "body")
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("Hello, World!"))
	r.Header.Set("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")
	r.Header.Set("X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")
	h := newWebhook(t, newStore(t).service(redisidem.Config{}), hook, nil).Handler(created("done"))
	if w := call(h, r); w.Code != http.StatusCreated {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestNamesOfSignatureSchemes(t *testing.T) {
	t.Parallel()
	for scheme, want := range map[httpidem.SignatureScheme]string{
		0: "invalid", httpidem.SignatureStandard: "standard", httpidem.SignatureSvix: "svix", httpidem.SignatureStripe: "stripe",
		httpidem.SignatureGitHub: "github", httpidem.SignatureShopify: "shopify", 6: "invalid",
	} {
		if got := scheme.String(); got != want {
			t.Errorf("%d: %q, want %q", scheme, got, want)
		}
	}
}

// TestTimesFarAwayAreRefused covers times whose distance from now does not fit a duration, such as
// one in milliseconds.
func TestTimesFarAwayAreRefused(t *testing.T) {
	t.Parallel()
	svc := newStore(t).service(redisidem.Config{})
	for name, s := range signers() {
		if !s.timed {
			continue
		}
		h := newWebhook(t, svc, s.hook(secretText), nil).Handler(created(""))
		for _, at := range []string{
			"1760000000000", "4611686018427387904", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-1", "0", "+1", "",
		} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(event))
			s.sign(r.Header, secretText, at, event)
			if w := call(h, r); w.Code != http.StatusForbidden {
				t.Errorf("%s: the time %q is answered with %d", name, at, w.Code)
			}
		}
	}
}

// TestTimeOfASignatureIsANumber sends the bytes of a signed delivery in other parts, to a receiver
// that does not look at times.
func TestTimeOfASignatureIsANumber(t *testing.T) {
	t.Parallel()
	hook := httpidem.StandardWebhook("s", secretText)
	hook.Tolerance = -1
	h := newWebhook(t, newStore(t).service(redisidem.Config{}), hook, nil).Handler(created(""))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("5}"))
	r.Header.Set("Webhook-Id", "msg_1.1700000000")
	r.Header.Set("Webhook-Timestamp", `{"amount":10`)
	r.Header.Set("Webhook-Signature", "v1,"+standardCode(secretText, "msg_1", "1700000000", `{"amount":10.5}`))
	if w := call(h, r); w.Code != http.StatusForbidden {
		t.Errorf("status %d", w.Code)
	}
}

func TestBarePrefixIsNoSecret(t *testing.T) {
	t.Parallel()
	svc := newStore(t).service(redisidem.Config{})
	for _, hook := range []httpidem.Webhook{
		httpidem.StripeWebhook("whsec_"), httpidem.StandardWebhook("s", "whsec_"), httpidem.SvixWebhook("s", "whsec_"),
	} {
		if _, err := httpidem.NewWebhook(svc, hook, nil); !errors.Is(err, redisidem.ErrInvalid) {
			t.Errorf("%s: %v", hook.Sender, err)
		}
	}
}
