package redistest

import (
	"bufio"
	"io"
	"strings"
	"testing"
)

func TestReadMessageTakesExactlyOne(t *testing.T) {
	t.Parallel()
	for _, message := range []string{
		"+OK\r\n", "-ERR no\r\n", ":12\r\n", "$5\r\na\r\nbc\r\n", "$0\r\n\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n",
		"*2\r\n$1\r\na\r\n*1\r\n:1\r\n", "_\r\n", "#t\r\n", ",1.5\r\n", "(123\r\n", "!5\r\nERR a\r\n", "=5\r\ntxt:a\r\n",
		"%1\r\n+k\r\n*1\r\n+v\r\n", "~2\r\n+a\r\n+b\r\n", ">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n",
		"|1\r\n+ttl\r\n:3\r\n*1\r\n+x\r\n", "PING\r\n", "\n", strings.Repeat("*1\r\n", 1000) + "+deep\r\n",
		"$70000\r\n" + strings.Repeat("x", 70000) + "\r\n",
	} {
		r := bufio.NewReader(strings.NewReader(message + "+next\r\n"))
		got, err := readMessage(r)
		if string(got) != message || err != nil {
			t.Errorf("%.40q: got %.40q, %v", message, got, err)
			continue
		}
		if rest, _ := io.ReadAll(r); string(rest) != "+next\r\n" {
			t.Errorf("%.40q: %.40q is left", message, rest)
		}
	}
}

func TestReadMessageFails(t *testing.T) {
	t.Parallel()
	for _, input := range []string{
		"", "+OK", "$5\r\nabc", "$x\r\n", "$\n", "$-2\r\n", "*1\r\n", "*99999999999999999999\r\n", "$9999999999\r\n", "%1\r\n+k\r\n",
	} {
		if got, err := readMessage(bufio.NewReader(strings.NewReader(input))); err == nil {
			t.Errorf("%q: no error but %q", input, got)
		}
	}
}
