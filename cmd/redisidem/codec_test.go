package main

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
)

// keyRing writes a file of keys, whose secrets are made of the second letters of the words.
func keyRing(t *testing.T, words ...string) string {
	t.Helper()
	var text strings.Builder
	text.WriteString("# newest first\n\n")
	for _, word := range words {
		text.WriteString(word + " " + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte(word[1:]), 32)) + "\n")
	}
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestKeyRingThatIsRefused(t *testing.T) {
	t.Parallel()
	secret := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("s"), 32))
	for text, want := range map[string]string{
		"":                                      "has no keys",
		"k1 " + secret[1:]:                      ":1 must be an ID",
		"k1 " + secret + "\nk1 " + secret:       "k1",
		strings.Repeat("k", 300) + " " + secret: "ID",
	} {
		file := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := (&codecFlags{EncryptionKeyFile: file}).codec()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret[1:]) {
			t.Errorf("%q: error is %v, want one with %q", text, err, want)
		}
	}
}

// TestGatewayEncrypts has gateways with a ring that changes, and one without.
func TestGatewayEncrypts(t *testing.T) {
	t.Parallel()
	redis := miniredis.RunT(t)
	up := newUpstream(t, nil)
	base := []string{"--upstream", up.URL, "--scope", "unscoped", "--ready-without-redis", "always"}
	with := func(more ...string) *process { return start(t, redis.Addr(), append(base, more...)...) }
	if got := mustPost(t, with().url, "plain"); got.body != "order 1" {
		t.Fatalf("%+v", got)
	}
	old := with("--encryption-key-file", keyRing(t, "k1"), "--compressed")
	if got := mustPost(t, old.url, "k"); got.body != "order 2" {
		t.Fatalf("%+v", got)
	}
	if dump := redis.Dump(); strings.Contains(dump, "order 2") || !strings.Contains(dump, "order 1") {
		t.Errorf("Redis has %s", dump)
	}
	if got := mustPost(t, old.url, "plain"); got.status < 500 {
		t.Errorf("a plain value is accepted: %+v", got)
	}
	introducing := with("--encryption-key-file", keyRing(t, "k2", "k1"), "--compressed", "--accept-plain")
	if got := mustPost(t, introducing.url, "plain"); got.body != "order 1" || !got.replayed {
		t.Errorf("while the keys are introduced: %+v", got)
	}
	if got := mustPost(t, introducing.url, "k"); got.body != "order 2" || !got.replayed {
		t.Errorf("after the rotation: %+v", got)
	}
	if got := mustPost(t, with("--encryption-key-file", keyRing(t, "k2"), "--compressed").url, "k"); got.status < 500 {
		t.Errorf("without the old key: %+v", got)
	}
}
