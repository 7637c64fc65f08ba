package redistest

import (
	"bufio"
	"bytes"
	"io"
	"testing"
)

// FuzzReadMessage checks that messages are forwarded unchanged, byte for byte and in order.
func FuzzReadMessage(f *testing.F) {
	for _, s := range []string{
		"+OK\r\n", "$3\r\na\r\n\r\n", "$-1\r\n", "*2\r\n:1\r\n$0\r\n\r\n", "%1\r\n+a\r\n*0\r\n", "|1\r\n+a\r\n+b\r\n+c\r\n", ">1\r\n+a\r\n", "*-1\r\n",
		"$1073741824\r\n", "*1073741824\r\n", "PING\r\n", "\n", "=15\r\ntxt:Some string\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		var read []byte
		for {
			m, err := readMessage(r)
			if err != nil {
				break
			}
			if len(m) == 0 {
				t.Fatal("a message of nothing")
			}
			_ = pushed(m)
			read = append(read, m...)
		}
		if !bytes.HasPrefix(b, read) {
			t.Fatalf("%q was read as %q", b, read)
		}
		_, _ = io.Copy(io.Discard, r)
	})
}
