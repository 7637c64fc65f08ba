package httpidem_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemclient"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

func TestChecksOfKeys(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]bool{
		"8e03978e-40d5-43dd-bc93-6894a57f9324": true, "8E03978E-40D5-43DD-BC93-6894A57F9324": true, "8e03978e40d543ddbc936894a57f9324": false,
		"{8e03978e-40d5-43dd-bc93-6894a57f932}": false, "00000000-0000-0000-0000-000000000000": false, "x": false,
		"urn:uuid:8e03978e-40d5-43dd-bc93-6894a57f9324": false,
	} {
		if got := httpidem.UUIDKeys(key) == nil; got != want {
			t.Errorf("UUIDKeys(%s) is %t", key, got)
		}
	}
	if httpidem.MinKeyBytes(3)("abc") != nil || httpidem.MinKeyBytes(3)("ab") == nil {
		t.Error("MinKeyBytes(3)")
	}
	ulid := ulidAt(time.Now())
	check := httpidem.KeysWithin(time.Hour, time.Minute)
	if err := check(ulid); err != nil {
		t.Errorf("%s: %v", ulid, err)
	}
	if err := check(strings.ToLower(ulid)); err != nil {
		t.Errorf("%s: %v", ulid, err)
	}
	var window *httpidem.WindowError
	for _, at := range []time.Duration{-61 * time.Minute, 61 * time.Second} {
		if err := check(ulidAt(time.Now().Add(at))); !errors.As(err, &window) {
			t.Errorf("%v: %v", at, err)
		}
	}
	for _, key := range []string{"ffffffff-ffff-7fff-bfff-ffffffffffff", "7" + strings.Repeat("Z", 25)} { // in the year 10889
		if err := check(key); !errors.As(err, &window) {
			t.Errorf("%s: %v", key, err)
		}
	}
	for _, key := range []string{"", "x", idemclient.NewKey(), strings.Repeat("U", 26), "8" + strings.Repeat("0", 25)} {
		var syntax *idemheader.SyntaxError
		if err := check(key); !errors.As(err, &syntax) {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func ulidAt(at time.Time) string {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	b := []byte(strings.Repeat("Z", 26))
	for i, ms := 9, at.UnixMilli(); i >= 0; i, ms = i-1, ms>>5 {
		b[i] = digits[ms&31]
	}
	return string(b)
}
