package httpidem_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/redisidem/redisidem/internal/httptoken"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemclient"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// FuzzTimeOfKey checks that a key with its creation time has the same time in capitals and in
// small letters, and that every other one is refused.
func FuzzTimeOfKey(f *testing.F) {
	for _, s := range []string{
		idemclient.NewTimeKey(), idemclient.NewKey(), ulidAt(time.Now()), strings.Repeat("Z", 26), strings.Repeat("7Z", 13), "", strings.Repeat("\xff", 26),
		"{" + idemclient.NewTimeKey()[:34] + "}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		made, ok := httpidem.TimeOf(key)
		upper, okUpper := httpidem.TimeOf(strings.ToUpper(key))
		lower, okLower := httpidem.TimeOf(strings.ToLower(key))
		if len(key) == len(strings.ToUpper(key)) && (ok != okUpper || ok != okLower || !made.Equal(upper) || !made.Equal(lower)) {
			t.Fatalf("%q was made at %v, %v or %v", key, made, upper, lower)
		}
		if ok && (made.Before(time.UnixMilli(0)) || made.UnixMilli() >= 1<<48) {
			t.Fatalf("%q was made at %v", key, made)
		}
		if ok && len(key) == 26 && !strings.EqualFold(ulidAt(made)[:10], key[:10]) {
			t.Fatalf("%q was made at %v, when keys began with %s", key, made, ulidAt(made)[:10])
		}
		err := httpidem.KeysWithin(time.Hour, time.Hour)(key)
		var syntax *idemheader.SyntaxError
		if ok == errors.As(err, &syntax) {
			t.Fatalf("%q: a time: %v; error %v", key, ok, err)
		}
	})
}

// FuzzLists checks that what was added to a list header is found in it, whatever stood there.
func FuzzLists(f *testing.F) {
	f.Add("Vary", "Accept, Idempotency-Key", "origin")
	f.Add("Vary", "*", "X")
	f.Add("Vary", ",,", "X")
	f.Fuzz(func(t *testing.T, field, there, name string) {
		if !httptoken.Valid(field) || !httptoken.Valid(name) {
			return
		}
		h := http.Header{http.CanonicalHeaderKey(field): {there}}
		httpidem.AddToList(h, http.CanonicalHeaderKey(field), name)
		if !httpidem.InList(h.Values(field), name) {
			t.Fatalf("%q is not in %q", name, h)
		}
		before := len(h.Values(field))
		httpidem.AddToList(h, http.CanonicalHeaderKey(field), name)
		if after := len(h.Values(field)); after != before {
			t.Fatalf("added twice: %q", h)
		}
	})
}

// FuzzPointers checks that a JSON pointer finds what a decoder of the whole document finds.
func FuzzPointers(f *testing.F) {
	f.Add([]byte(`{"data":{"id":"evt_1"},"list":[1,{"a/b":null}]}`), "data", "id")
	f.Add([]byte(`{"a":"x","a":"y"}`), "a", "")
	f.Add([]byte(`[["x"]]`), "0", "0")
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	f.Fuzz(func(t *testing.T, document []byte, first, second string) {
		var whole any
		if json.Unmarshal(document, &whole) != nil || !utf8.Valid(document) {
			return
		}
		got, err := httpidem.Pointed(document, "/"+escape.Replace(first)+"/"+escape.Replace(second))
		if err != nil { // a member twice: the decoder has the last one
			return
		}
		want, found := whole, true
		for _, name := range []string{first, second} {
			switch value := want.(type) {
			case map[string]any:
				want, found = value[name]
			case []any:
				i, err := strconv.Atoi(name)
				if found = err == nil && i >= 0 && i < len(value) && strconv.Itoa(i) == name; found {
					want = value[i]
				}
			default:
				found = false
			}
			if !found {
				break
			}
		}
		var value any
		if (got != nil) != found || found && (json.Unmarshal(got, &value) != nil || !reflect.DeepEqual(value, want)) {
			t.Fatalf("%q and %q in %s: %s, want %v", first, second, document, got, want)
		}
	})
}

// FuzzMultipart checks that two bodies with other boundaries have the same fingerprint only if they
// are the same text apart from the boundary.
func FuzzMultipart(f *testing.F) {
	small := form("one", [3]string{`name="a"`, "text/plain", "x"}, [3]string{`name="b"`, "text/plain", ""})
	for _, inserted := range []string{"", "--oneX\r\n", "--one \r\n", "\r\n--two", "\n", "\r\n", "\r", "--", " ", "\n--two\r\n", "--two--"} {
		for _, at := range []int{0, 5, 7, len(small) / 2, len(small)} {
			f.Add([]byte(small), at, 0, []byte(inserted))
			f.Add([]byte(small), at, 2, []byte(inserted))
		}
	}
	f.Add([]byte("--one\r\n\r\n--one--"), 7, 2, []byte{})
	sum := func(t *testing.T, boundary string, body []byte) string {
		t.Helper()
		r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/"}, Header: http.Header{"Content-Type": {"multipart/form-data; boundary=" + boundary}}}
		s, err := httpidem.FingerprintOf(httpidem.Fingerprint{Func: httpidem.MultipartParts}, r, body)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	withoutEnd := func(body []byte) []byte { return bytes.TrimSuffix(body, []byte("\r\n")) }
	f.Fuzz(func(t *testing.T, body []byte, at, removed int, inserted []byte) {
		renamed := bytes.ReplaceAll(body, []byte("--one"), []byte("--two"))
		if at < 0 || removed < 0 || at > len(renamed) || removed > len(renamed)-at {
			return
		}
		other := bytes.Join([][]byte{renamed[:at], inserted, renamed[at+removed:]}, nil)
		if sum(t, "one", body) != sum(t, "two", other) || bytes.Equal(body, other) {
			return
		}
		if back := bytes.ReplaceAll(other, []byte("--two"), []byte("--one")); !bytes.Equal(withoutEnd(body), withoutEnd(back)) {
			t.Fatalf("%q and %q have the same fingerprint", body, other)
		}
	})
}

// FuzzWebhookSignature checks that no delivery is accepted that is not signed with the secret,
// whatever its header fields are.
func FuzzWebhookSignature(f *testing.F) {
	code := strings.Repeat("0", 64)
	f.Add("t=1,v1="+code+",v1=", "1", "msg_1", []byte("{}"))
	f.Add("v1,"+strings.Repeat("A", 43)+"= v1a,", "9223372036854775807", "", []byte(nil))
	f.Add("sha256="+code, "-1", "evt_1", []byte(`{"id":"evt_1"}`))
	svc := newStore(f).service(redisidem.Config{})
	handlers := make(map[string]http.Handler)
	for name, s := range signers() {
		handlers[name] = newWebhook(f, svc, s.hook(secretText), nil).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			f.Error("a delivery was accepted")
		}))
	}
	f.Fuzz(func(t *testing.T, signature, at, id string, body []byte) {
		for name, h := range handlers {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body))
			for _, prefix := range []string{"Webhook-", "Svix-"} {
				r.Header[prefix+"Id"], r.Header[prefix+"Timestamp"], r.Header[prefix+"Signature"] = []string{id}, []string{at}, []string{signature}
			}
			for _, field := range []string{"Stripe-Signature", "X-Hub-Signature-256", "X-Shopify-Hmac-Sha256"} {
				r.Header[field] = []string{signature}
			}
			if w := call(h, r); w.Code != http.StatusForbidden {
				t.Errorf("%s: %d %s", name, w.Code, w.Body)
			}
		}
	})
}
