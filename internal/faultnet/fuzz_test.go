package faultnet

import (
	"bytes"
	"strconv"
	"testing"

	"github.com/redisidem/redisidem/lua"
)

// FuzzParseRequest checks that a request is parsed exactly to its end. A request without its last
// byte is not complete.
func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{
		"*1\r\n$4\r\nPING\r\n", "*2\r\n$3\r\nGET\r\n$0\r\n\r\n*1\r\n", "PING\r\n", "*-1\r\n", "*1\r\n$9223372036854775807\r\n", "*1\r\n$-1\r\n",
		"*9223372036854775807\r\n", "\r\n", "*1\r\n+a\r\n",
		"*5\r\n$7\r\nevalsha\r\n$40\r\n" + lua.Commit.SHA + "\r\n$1\r\n1\r\n$1\r\nk\r\n$5\r\nnonce\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		words, length := parseRequest(b)
		if length < 0 || length > len(b) {
			t.Fatalf("%q is %d bytes long", b, length)
		}
		_, _ = scriptCall(words)
		if length == 0 || len(words) == 0 {
			return
		}
		if again, n := parseRequest(b[:length]); n != length || len(again) != len(words) {
			t.Fatalf("%q: %d words of %d bytes, and then %d of %d", b, len(words), length, len(again), n)
		}
		if _, n := parseRequest(b[:length-1]); n != 0 {
			t.Fatalf("%q is complete without its last byte", b[:length])
		}
		var written bytes.Buffer
		written.WriteString("*" + strconv.Itoa(len(words)) + "\r\n")
		for _, w := range words {
			written.WriteString("$" + strconv.Itoa(len(w)) + "\r\n")
			written.Write(w)
			written.WriteString("\r\n")
		}
		again, n := parseRequest(written.Bytes())
		if n != written.Len() || len(again) != len(words) {
			t.Fatalf("%q was written as %q", b, written.Bytes())
		}
		for i := range again {
			if !bytes.Equal(again[i], words[i]) {
				t.Fatalf("word %d of %q was written as %q", i, b, again[i])
			}
		}
	})
}
