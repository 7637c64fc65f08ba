package faultnet

import (
	"strings"
	"testing"

	"github.com/redisidem/redisidem/lua"
)

func TestParseRequest(t *testing.T) {
	t.Parallel()
	whole := "*3\r\n$3\r\nset\r\n$1\r\na\r\n$4\r\n\r\n\r\n\r\n"
	for i := range len(whole) {
		if words, length := parseRequest([]byte(whole[:i])); length != 0 {
			t.Errorf("%q is parsed as the request %q", whole[:i], words)
		}
	}
	words, length := parseRequest([]byte(whole + "*1\r\n"))
	if length != len(whole) || len(words) != 3 || string(words[2]) != "\r\n\r\n" {
		t.Errorf("parsed %q, of length %d", words, length)
	}
	for _, odd := range []string{"PING\r\n", "*x\r\n", "*1\r\n:1\r\n", "*-1\r\n", "*1\r\n$-1\r\n"} {
		if words, length := parseRequest([]byte(odd)); length != len(odd) || handshake([]byte(odd)) {
			t.Errorf("%q is parsed as %q, of length %d", odd, words, length)
		}
	}
}

func TestScriptCall(t *testing.T) {
	t.Parallel()
	call := func(words ...string) (*lua.Script, string) {
		var b [][]byte
		for _, w := range words {
			b = append(b, []byte(w))
		}
		return scriptCall(b)
	}
	for _, s := range lua.All() {
		for _, words := range [][]string{{"evalsha", s.SHA}, {"EVAL", s.Source}} {
			if got, nonce := call(append(words, "2", "a", "b", "nonce", "x")...); got == nil || got.Name != s.Name || nonce != "nonce" {
				t.Errorf("a call of %s is parsed as a call of %v with nonce %q", s.Name, got, nonce)
			}
		}
	}
	if got, _ := call("eval", lua.Commit.AllowOOM().Source, "0", "nonce"); got == nil || got.Name != "commit" {
		t.Errorf("a commit with the flag for full memory is parsed as a call of %v", got)
	}
	for _, words := range [][]string{
		{"get", "a"},
		{"evalsha", "abc", "0", "x"},
		{"evalsha", lua.Commit.SHA, "x", "y"},
		{"evalsha", lua.Commit.SHA, "9", "y"},
		{"evalsha", lua.Commit.SHA},
		nil,
	} {
		if got, _ := call(words...); got != nil {
			t.Errorf("%q is parsed as a call of %s", strings.Join(words, " "), got.Name)
		}
	}
}
