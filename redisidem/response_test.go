package redisidem

import (
	"reflect"
	"testing"
)

func TestHeaderRoundTrip(t *testing.T) {
	t.Parallel()
	for _, h := range []map[string][]string{
		nil,
		{"Content-Type": {"application/json"}},
		{"Set-Cookie": {"a=1", "b=2", "a=1"}, "X": {""}},
		{"X-Latin": {"caf\xe9"}, "X-Colon": {"a: b: c"}, "X-Space": {" a "}},
		{"x": {"lower"}, "X": {"upper"}},
	} {
		got, err := decodeHeader(string(encodeHeader(h)))
		if err != nil || !reflect.DeepEqual(got, h) {
			t.Errorf("%q came back as %q, %v", h, got, err)
		}
	}
	for _, bad := range []string{"X", "X: a", "X: a\n", ": a\r\n", "X:a\r\n", "X: a\r\nY", "X: a\nb\r\n", "X: a\x00\r\n", "\r\n"} {
		if h, err := decodeHeader(bad); err == nil {
			t.Errorf("%q decodes to %q", bad, h)
		}
	}
}
