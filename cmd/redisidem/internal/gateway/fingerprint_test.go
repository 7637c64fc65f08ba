package gateway

import (
	"cmp"
	"strconv"
	"strings"
	"testing"
)

// TestRoutesCompareRequests sends pairs of requests with one key.
func TestRoutesCompareRequests(t *testing.T) {
	t.Parallel()
	const form = "--%\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--%--\r\n"
	b := setUp(t, `
routes:
  - {match: POST /json, fingerprint: {body: json}}
  - {match: POST /except, fingerprint: {except: [sent_at]}}
  - {match: POST /form, fingerprint: {body: multipart}}
  - {match: POST /version, fingerprint: {headers: [api-version]}}
  - {match: POST /both, fingerprint: {fields: [amount], headers: [API-Version], any_host: true}}
`, Unscoped)
	type sent struct{ body, name, value string }
	for _, c := range []struct {
		path     string
		one, two sent
		same     bool
	}{
		{"/json", sent{body: `{"a":1,"b":2}`}, sent{body: `{"b": 2, "a": 1}`}, true},
		{"/json", sent{body: `{"a":1}`}, sent{body: `{"a":2}`}, false},
		{"/except", sent{body: `{"a":1,"sent_at":1}`}, sent{body: `{"a":1,"sent_at":2}`}, true},
		{"/except", sent{body: `{"a":1,"sent_at":1}`}, sent{body: `{"a":2,"sent_at":1}`}, false},
		{
			"/form",
			sent{strings.ReplaceAll(form, "%", "x"), "Content-Type", "multipart/form-data; boundary=x"},
			sent{strings.ReplaceAll(form, "%", "y"), "Content-Type", "multipart/form-data; boundary=y"},
			true,
		},
		{"/version", sent{"{}", "Api-Version", "1"}, sent{"{}", "Api-Version", "1"}, true},
		{"/version", sent{"{}", "Api-Version", "1"}, sent{"{}", "Api-Version", "2"}, false},
		{"/version", sent{"{}", "Api-Version", "1"}, sent{"{ }", "Api-Version", "1"}, false},
		{"/both", sent{`{"amount":1}`, "Api-Version", "1"}, sent{`{"amount":1,"x":1}`, "Api-Version", "1"}, true},
		{"/both", sent{`{"amount":1}`, "Api-Version", "1"}, sent{`{"amount":1}`, "Api-Version", "2"}, false},
	} {
		key := strconv.Itoa(int(b.runs.Load()))
		send := func(s sent) answered {
			return b.send("POST", c.path, s.body, "Idempotency-Key", key, cmp.Or(s.name, "X"), cmp.Or(s.value, "x"))
		}
		b.want(send(c.one), 201, "", false)
		if c.same {
			b.want(send(c.two), 201, "", true)
		} else {
			b.want(send(c.two), 422, "", false)
		}
	}
}

// TestKeysOutliveAnotherFingerprint changes the fingerprint of a route twice under its keys.
func TestKeysOutliveAnotherFingerprint(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", Unscoped)
	reload := func(policy string) {
		t.Helper()
		rules, err := readRoutes("defaults: {" + policy + "}")
		if err != nil {
			t.Fatal(err)
		}
		b.config.Policies = rules
		b.reload()
	}
	const one, two = `{"a":1,"b":2}`, `{"b":2, "a":1}`
	b.want(b.send("POST", "/", one, "Idempotency-Key", "bytes"), 201, "order 1", false)
	reload("fingerprint: {body: json}")
	b.want(b.send("POST", "/", one, "Idempotency-Key", "bytes"), 422, "", false) // what other_fingerprints is for
	reload("fingerprint: {body: json}, other_fingerprints: [{}]")
	b.want(b.send("POST", "/", one, "Idempotency-Key", "bytes"), 201, "order 1", true)
	b.want(b.send("POST", "/", two, "Idempotency-Key", "bytes"), 422, "", false)
	b.want(b.send("POST", "/", one, "Idempotency-Key", "json"), 201, "order 2", false)
	reload("fingerprint: {fields: [a], any_host: true}, other_fingerprints: [{body: bytes}, {body: json}]")
	b.want(b.send("POST", "/", one, "Idempotency-Key", "bytes"), 201, "order 1", true)
	b.want(b.send("POST", "/", two, "Idempotency-Key", "json"), 201, "order 2", true)
	b.want(b.send("POST", "/", `{"a":1}`, "Idempotency-Key", "json"), 422, "", false)
	b.want(b.send("POST", "/", one, "Idempotency-Key", "fields"), 201, "order 3", false)
	b.want(b.send("POST", "/", `{"a":1}`, "Idempotency-Key", "fields"), 201, "order 3", true)
}

// TestFingerprintsAreNamedByTheirConfiguration is about the names that are in stored digests.
func TestFingerprintsAreNamedByTheirConfiguration(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		f    fingerprint
		want string
	}{
		{fingerprint{}, ""},
		{fingerprint{Body: "bytes"}, ""},
		{fingerprint{Body: "json"}, `{"body":"json"}`},
		{fingerprint{Fields: []string{"b", "a", "b"}}, `{"fields":["a","b"]}`},
		{fingerprint{Body: "json", Fields: []string{"a", "b"}}, `{"fields":["a","b"]}`},
		{fingerprint{Except: []string{"b", "a"}, Headers: []string{"x-b", "X-A"}}, `{"except":["a","b"],"headers":["X-A","X-B"]}`},
		{fingerprint{Body: "multipart", AnyHost: true}, `{"body":"multipart","any_host":true}`},
	} {
		if got, err := c.f.config(); err != nil || got.Name != c.want {
			t.Errorf("%+v: the name is %s, %v, want %s", c.f, got.Name, err, c.want)
		}
	}
}
