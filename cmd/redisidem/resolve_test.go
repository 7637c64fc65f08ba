package main

import (
	"context"
	"errors"
	"html"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
)

// interruptedKey makes a key without params whose attempt failed, in an embedded server. values is
// the codec of the programs.
func interruptedKey(t *testing.T, values redisidem.Codec) (sc *redisidem.Scope, addr string) {
	t.Helper()
	server := miniredis.RunT(t)
	svc, err := redisidem.OpenUnchecked("redis://"+server.Addr(), &redisidem.Config{Timeout: 20 * time.Second, Codec: values})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = svc.Close(context.Background()) })
	sc = svc.Scope("acme")
	failed := errors.New("card declined")
	_, err = sc.Do(t.Context(), "k", redisidem.Request{Method: "POST", Path: "/"}, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Outcome{}, failed
	})
	if !errors.Is(err, failed) {
		t.Fatal(err)
	}
	return sc, server.Addr()
}

// encryptionOf returns the codec that encrypts with a key, and a file with the key.
func encryptionOf(t *testing.T, key string) (values redisidem.Codec, ring string) {
	t.Helper()
	ring = keyRing(t, key)
	keys, err := codec.ReadEncryptionKeys(ring)
	if err == nil {
		values, err = codec.NewEncryption(keys...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return values, ring
}

// mustBeFinished reads a key as its programs do.
func mustBeFinished(t *testing.T, sc *redisidem.Scope, finished bool) {
	t.Helper()
	key, err := sc.Retrieve(t.Context(), "k")
	if err != nil || key.Finished() != finished {
		t.Errorf("the programs read %+v, %v; want finished %t", key, err, finished)
	}
}

// TestResolveRefusesAnswersThatProgramsCannotRead has bodies beyond the default of MaxValueBytes,
// from a file, from standard input and from the console's form.
func TestResolveRefusesAnswersThatProgramsCannotRead(t *testing.T) {
	t.Parallel()
	sc, addr := interruptedKey(t, nil)
	body := strings.Repeat("x", redisidem.DefaultMaxValueBytes+1)
	file := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	resolve := func(more ...string) string {
		args := append([]string{"keys", "resolve", "k", "--scope=acme", "--status=200", "--reason=r", "--yes", "--timeout=20s"}, more...)
		return command(t, addr, body, args...)
	}
	for flag, want := range map[string]string{
		"--body=" + file:               "--body is longer than --max-value-bytes (1048576)",
		"--body=-":                     "--body is longer than --max-value-bytes (1048576)",
		"--max-value-bytes=0":          "--max-value-bytes 0 must be from 1 to 536870912",
		"--max-value-bytes=1000000000": "--max-value-bytes 1000000000 must be from 1 to 536870912",
	} {
		if got := resolve(flag); !strings.Contains(got, want) || strings.Contains(got, "exit status 0") || !strings.Contains(got, "exit status") {
			t.Errorf("%s prints %s, want %s", flag, got, want)
		}
	}
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := resolve("--body="+short, "--max-value-bytes=10"), "Response.Header is 32 bytes long, more than MaxValueBytes (10)"; !strings.Contains(got, want) {
		t.Errorf("it prints %s, want %s", got, want)
	}
	mustBeFinished(t, sc, false)

	base, stop := startConsole(t, addr, "--write", "--timeout=20s", "--basic-auth-file", secretsFile(t))
	ann := func(r *http.Request) { r.SetBasicAuth("ann", "ann-s-secret-1234") }
	_, page := fetch(t, http.MethodGet, base+"keys/"+sc.ID("k"), "", ann)
	target := regexp.MustCompile(`name="?target"? value="([^"]+)"`).FindStringSubmatch(page)
	if target == nil {
		t.Fatalf("the page of the key has no target: %s", page)
	}
	form := url.Values{"target": {html.UnescapeString(target[1])}, "confirmed": {"1"}, "reason": {"r"}, "status": {"200"}, "body": {body}}
	status, page := fetch(t, http.MethodPost, base+"acts/resolve", form.Encode(), ann)
	if status != 400 || !strings.Contains(page, "Response.Body is 1048577 bytes long, more than MaxValueBytes (1048576)") {
		t.Errorf("the console answers %d: %.3000s", status, page)
	}
	stop()
	mustBeFinished(t, sc, false)

	if got := resolve("--body="+file, "--max-value-bytes=2000000"); !strings.Contains(got, "resolved") {
		t.Errorf("it prints %s", got)
	}
}

// TestResolveNeedsTheCodecOfThePrograms has programs with and without encryption.
func TestResolveNeedsTheCodecOfThePrograms(t *testing.T) {
	t.Parallel()
	encryption, ring := encryptionOf(t, "k1")
	for _, c := range []struct {
		values redisidem.Codec
		args   []string
		want   string
	}{
		{encryption, nil, "Config.Codec is not that of the programs: last_failure is encoded, and Config.Codec is nil; --encryption-key-file"},
		{encryption, []string{"--encryption-key-file", keyRing(t, "k2")}, `Config.Codec is not that of the programs: last_failure cannot be decoded by Config.Codec within MaxValueBytes (1048576): unknown encryption key "k1"; --encryption-key-file`},
		{encryption, []string{"--encryption-key-file", ring}, ""},
		{nil, []string{"--encryption-key-file", ring}, "Config.Codec is not that of the programs: their values are not encoded; --encryption-key-file"},
		{nil, []string{"--encryption-key-file", ring, "--accept-plain"}, "resolved"},
		{nil, nil, ""},
	} {
		sc, addr := interruptedKey(t, c.values)
		args := []string{"keys", "resolve", "k", "--scope=acme", "--status=200", "--reason=r", "--yes", "--timeout=20s"}
		got := command(t, addr, "", append(args, c.args...)...)
		switch {
		case c.want == "":
			mustBeFinished(t, sc, true)
		case !strings.Contains(got, c.want):
			t.Errorf("%q prints %s, want %s", c.args, got, c.want)
		case c.want != "resolved":
			mustBeFinished(t, sc, false)
		}
	}
}
