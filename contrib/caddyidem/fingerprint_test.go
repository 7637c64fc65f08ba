package caddyidem_test

import (
	"strings"
	"sync/atomic"
	"testing"
)

func TestFingerprintSaysWhatIsTheSame(t *testing.T) {
	var n atomic.Int64
	s := start(t, counting(&n), byClient)
	for i, c := range []struct {
		options, first, second string
		status                 int
	}{
		{"", `{"a":1}`, `{"a": 1}`, 422},
		{"fingerprint body json\n", `{"a":1}`, `{"a": 1}`, 201},
		{"fingerprint fields a\n", `{"a":1,"b":2}`, `{"a":1}`, 201},
		{"fingerprint fields a\n", `{"a":1}`, `{"a":2}`, 422},
		{"fingerprint except b\n", `{"a":1,"b":2}`, `{"a":1,"b":3}`, 201},
		{"fingerprint except b\nfingerprint headers X-Version\n", `{"a":1}`, `{"a":1}`, 422},
		{"fingerprint any_host\n", `{}`, `{}`, 201},
	} {
		if err := s.load(byClient + c.options); err != nil {
			t.Fatal(err)
		}
		key := strings.Repeat("k", i+1)
		if status, _, body := s.post("/", key, c.first, "X-Version", "1"); status != 201 {
			t.Errorf("%+v: %d %s", c, status, body)
		}
		if status, header, body := s.post("/", key, c.second, "X-Version", "2"); status != c.status || (header.Get("Idempotency-Replayed") == "true") != (status == 201) {
			t.Errorf("%+v: %d %v %s", c, status, header, body)
		}
	}
	for options, want := range map[string]string{
		"fingerprint\n": "wrong argument count", "fingerprint fields\n": "must be body and a word", "fingerprint any_host x\n": "must be body and a word",
		"fingerprint body xml\n": "fingerprint: body: must be bytes, json or multipart", "fingerprint fields a\nfingerprint except b\n": "fingerprint: except: cannot go with fields",
		"fingerprint fields a..b\n": "fingerprint: fields: ", "fingerprint body multipart\nfingerprint except b\n": "fingerprint: body: must be json",
		"keep 600\n": "keep: ", "keep\n": "wrong argument count", "keys some\n": "keys: must be any or uuid", "key_window 13h\n": "key_window: must be at most half of the retention of 24h",
		"key_window 2000000h\n":      "key_window: must be at most half of the retention of 24h",
		"key_window 1h\nkeys uuid\n": "key_window: cannot go with keys uuid", "key_from cookie a\n": "key_from: must be header, query or body", "key_from header\n": "wrong argument count",
		"key_from body id\n": "key_from[0]: ", "key_header X\nkey_from header Y\n": "key_from: cannot go with key_header", "key_from body /id\nkey_from header X\n": "in the body last",
	} {
		if err := s.load(byClient + options); err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(want)) {
			t.Errorf("%q: the error is %v, want one with %q", options, err, want)
		}
	}
}
