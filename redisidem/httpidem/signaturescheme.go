package httpidem

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// SignatureScheme is how a sender signs its webhooks. All are HMAC-SHA256 over the bytes of the
// body, some with a time in front.
type SignatureScheme int

const (
	// SignatureStandard is that of Standard Webhooks: Webhook-Id, Webhook-Timestamp and
	// Webhook-Signature, which signs ID, time and body.
	SignatureStandard SignatureScheme = iota + 1
	// SignatureSvix is SignatureStandard with Svix-Id, Svix-Timestamp and Svix-Signature.
	SignatureSvix
	// SignatureStripe is that of Stripe: Stripe-Signature, which signs time and body.
	SignatureStripe
	// SignatureGitHub is that of GitHub: X-Hub-Signature-256, which signs the body.
	SignatureGitHub
	// SignatureShopify is that of Shopify: X-Shopify-Hmac-Sha256, which signs the body.
	SignatureShopify
)

// String returns the scheme in lower case.
func (s SignatureScheme) String() string {
	switch s {
	case SignatureStandard:
		return "standard"
	case SignatureSvix:
		return "svix"
	case SignatureStripe:
		return "stripe"
	case SignatureGitHub:
		return "github"
	case SignatureShopify:
		return "shopify"
	default:
		return "invalid"
	}
}

// signature is what a delivery says about its signature.
type signature struct {
	prefix string // signed before the body
	at     string // when it was signed, in seconds; empty if the scheme has no time
	codes  [][]byte
}

var (
	errNoSignature  = errors.New("httpidem: the webhook has no signature that can be read")
	errWrongCode    = errors.New("httpidem: the signature of the webhook does not fit any secret")
	errWebhookStale = errors.New("httpidem: the webhook was signed too long ago, or in the future")
)

// reader returns the function that reads the signature of a delivery. It returns an error for one
// that cannot be read.
func (s SignatureScheme) reader() (func(http.Header) (signature, error), error) {
	switch s {
	case SignatureStandard:
		return func(h http.Header) (signature, error) { return readStandard(h, "Webhook-") }, nil
	case SignatureSvix:
		return func(h http.Header) (signature, error) { return readStandard(h, "Svix-") }, nil
	case SignatureStripe:
		return readStripe, nil
	case SignatureGitHub:
		return readGitHub, nil
	case SignatureShopify:
		return readShopify, nil
	default:
		return nil, invalid("Webhook.Scheme", "must be a scheme, unless Verify is set: %d", s)
	}
}

// decode returns the secrets as keys of an HMAC.
func (s SignatureScheme) decode(secrets []string) (keys [][]byte, err error) {
	if len(secrets) == 0 {
		return nil, invalid("Webhook.Secrets", "must not be empty, unless Verify is set")
	}
	for i, secret := range secrets {
		key := []byte(secret)
		if secret == "whsec_" {
			return nil, invalid("Webhook.Secrets["+strconv.Itoa(i)+"]", "must have more than whsec_")
		}
		if s == SignatureStandard || s == SignatureSvix {
			if key, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_")); err != nil {
				return nil, invalid("Webhook.Secrets["+strconv.Itoa(i)+"]", "must be base64, with or without whsec_ in front")
			}
		}
		if len(key) == 0 {
			return nil, invalid("Webhook.Secrets["+strconv.Itoa(i)+"]", "must not be empty")
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// single returns the value of a header field that is there once, or "".
func single(h http.Header, name string) string {
	if values := h[name]; len(values) == 1 {
		return values[0]
	}
	return ""
}

// readStandard reads "v1,code v1,code", the codes in base64.
func readStandard(h http.Header, prefix string) (s signature, err error) {
	id := single(h, prefix+"Id")
	s.at = single(h, prefix+"Timestamp")
	if id == "" || s.at == "" {
		return s, errNoSignature
	}
	for entry := range strings.SplitSeq(single(h, prefix+"Signature"), " ") {
		if text, ok := strings.CutPrefix(entry, "v1,"); ok {
			s.add(base64.StdEncoding.DecodeString(text))
		}
	}
	s.prefix = id + "." + s.at + "."
	return s, nil
}

// readStripe reads "t=time,v1=code,v1=code", the codes in hexadecimal.
func readStripe(h http.Header) (s signature, err error) {
	for entry := range strings.SplitSeq(single(h, "Stripe-Signature"), ",") {
		switch name, value, _ := strings.Cut(entry, "="); {
		case name == "t" && s.at != "":
			return s, errNoSignature
		case name == "t":
			s.at = value
		case name == "v1":
			s.add(hex.DecodeString(value))
		}
	}
	if s.at == "" {
		return s, errNoSignature
	}
	s.prefix = s.at + "."
	return s, nil
}

func readGitHub(h http.Header) (s signature, err error) {
	if text, ok := strings.CutPrefix(single(h, "X-Hub-Signature-256"), "sha256="); ok {
		s.add(hex.DecodeString(text))
	}
	return s, nil
}

func readShopify(h http.Header) (s signature, err error) {
	s.add(base64.StdEncoding.DecodeString(single(h, "X-Shopify-Hmac-Sha256")))
	return s, nil
}

// add adds a code that could be decoded.
func (s *signature) add(code []byte, err error) {
	if err == nil && len(code) == sha256.Size {
		s.codes = append(s.codes, code)
	}
}

// signatureVerifier verifies the deliveries of a sender.
type signatureVerifier struct {
	read      func(http.Header) (signature, error)
	secrets   [][]byte
	tolerance time.Duration // negative: the time does not matter
}

// verify returns an error for a request that the sender has not signed, or not lately. The time it
// takes depends on the length of the request, but not on how much of a code is right.
func (v *signatureVerifier) verify(r *http.Request, body []byte) error {
	s, err := v.read(r.Header)
	switch {
	case err != nil:
		return err
	case len(s.codes) == 0:
		return errNoSignature
	}
	fits := false
	for _, secret := range v.secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(s.prefix))
		mac.Write(body)
		code := mac.Sum(nil)
		for _, sent := range s.codes {
			fits = hmac.Equal(sent, code) || fits
		}
	}
	if !fits {
		return errWrongCode
	}
	return v.checkTime(s.at)
}

// checkTime checks the time of a signature, whose text is signed.
func (v *signatureVerifier) checkTime(text string) error {
	if text == "" {
		return nil
	}
	// The text must be a time even if its value does not matter. Otherwise a part of the body could
	// be sent as the time, and a part of the time as the ID, with the same signature.
	at, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return errNoSignature
	}
	age := time.Since(time.Unix(int64(at), 0)) //nolint:gosec // it has 63 bits
	if v.tolerance >= 0 && (age > v.tolerance || age < -v.tolerance) {
		return errWebhookStale
	}
	return nil
}
