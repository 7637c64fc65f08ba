package caddyidem_test

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
)

// keyLine returns a line of a file of encryption keys.
func keyLine(id string) string {
	return id + " " + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte(id[1:]), 32)) + "\n"
}

func TestValuesAreEncrypted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	write := func(lines string) {
		if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var n atomic.Int64
	s := start(t, counting(&n), byClient)
	s.post("/", "plain", "open text")
	options := byClient + "encryption_key_file " + file + "\ncompressed\naccept_plain\n"
	write(keyLine("k1"))
	if err := s.load(options); err != nil {
		t.Fatal(err)
	}
	s.post("/", "k", "hidden text")
	if dump := s.redis.Dump(); strings.Contains(dump, "hidden text") || !strings.Contains(dump, "open text") {
		t.Errorf("Redis has %s", dump)
	}
	write(keyLine("k2") + keyLine("k1"))
	if err := s.load(options); err != nil {
		t.Fatal(err)
	}
	for key, text := range map[string]string{"plain": "open text", "k": "hidden text"} {
		if _, header, body := s.post("/", key, text); !strings.HasSuffix(body, ": "+text) || header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("%s: %v %q", key, header, body)
		}
	}
	write(keyLine("k2"))
	if err := s.load(options); err != nil {
		t.Fatal(err)
	}
	if status, _, body := s.post("/", "k", "hidden text"); status < 500 || n.Load() != 2 {
		t.Errorf("without the old key: %d %q, and %d ran", status, body, n.Load())
	}
	write("k1 short\n")
	if err := s.load(options); err == nil || !strings.Contains(err.Error(), "encryption_key_file: ") || !strings.Contains(err.Error(), "keys:1 must be an ID") {
		t.Errorf("a broken file: %v", err)
	}
}

func TestLargeBodiesAreSpooled(t *testing.T) {
	var n, spooled atomic.Int64
	dir, next := t.TempDir(), counting(&n)
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		files, _ := filepath.Glob("/proc/self/fd/*") // only Linux has them
		for _, file := range files {
			if name, err := os.Readlink(file); err == nil && strings.HasPrefix(name, dir) {
				spooled.Add(1)
			}
		}
		next.ServeHTTP(w, r)
	}), byClient+"spool_dir "+dir+"\nspool_bytes 2MiB\n")
	large := strings.Repeat("x", 512<<10)
	for range 2 {
		if status, _, body := s.post("/", "k", large); status != 201 || body != "1: "+large {
			t.Errorf("%d, %d bytes", status, len(body))
		}
	}
	if spooled.Load() != 1 && runtime.GOOS == "linux" {
		t.Errorf("%d files had the body", spooled.Load())
	}
	for options, want := range map[string]string{
		"spool_bytes 2MiB\n": "spool_bytes: needs spool_dir", "spool_above 2MiB\n": "spool_above: needs spool_dir",
		"spool_dir /none/such\n": "spool_dir: ", "spool_dir " + t.TempDir() + "\nspool_bytes 512KiB\n": "MaxBodyBytes", "accept_plain\n": "accept_plain: needs",
	} {
		if err := s.load(byClient + options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, want one with %q", options, err, want)
		}
	}
}
