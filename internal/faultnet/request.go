package faultnet

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/redisidem/redisidem/lua"
)

// parseRequest returns the words of the first request in b and its length. The length is 0 if the
// request is not complete. A client's requests are arrays of strings. Any other data is one request
// without words.
func parseRequest(b []byte) (words [][]byte, length int) {
	count, rest, ok := number(b, '*')
	switch {
	case len(b) == 0 || !ok && rest == nil:
		return nil, 0
	case !ok:
		return nil, len(b)
	}
	for range count {
		size, after, ok := number(rest, '$')
		switch {
		case !ok && after == nil, ok && len(after)-2 < size: // a size can be as large as an int
			return nil, 0
		case !ok:
			return nil, len(b)
		}
		words, rest = append(words, after[:size]), after[size+2:]
	}
	return words, len(b) - len(rest)
}

// number reads a line that consists of a mark and a number. It returns the bytes after the line, or
// nil if the line is not complete.
func number(b []byte, mark byte) (n int, rest []byte, ok bool) {
	end := bytes.Index(b, []byte("\r\n"))
	if end < 0 {
		return 0, nil, false
	}
	rest = b[end+2:]
	if b[0] != mark {
		return 0, rest, false
	}
	n, err := strconv.Atoi(string(b[1:end]))
	return n, rest, err == nil && n >= 0
}

// scriptCall returns the script of the library that a request calls, or nil. It also returns the
// nonce of the call, which the reply echoes.
func scriptCall(words [][]byte) (s *lua.Script, nonce string) {
	if len(words) < 4 || !strings.HasPrefix(strings.ToLower(string(words[0])), "eval") {
		return nil, ""
	}
	keys, err := strconv.Atoi(string(words[2]))
	if err != nil || keys < 0 || len(words) < 4+keys {
		return nil, ""
	}
	name := string(words[1])
	for _, s := range lua.All() {
		for _, form := range []*lua.Script{s, s.AllowOOM()} {
			if form != nil && (name == form.SHA || name == form.Source) {
				return s, string(words[3+keys])
			}
		}
	}
	return nil, ""
}

// handshake reports whether a request belongs to the handshake that opens a connection.
func handshake(b []byte) bool {
	words, _ := parseRequest(b)
	if len(words) == 0 {
		return false
	}
	switch strings.ToLower(string(words[0])) {
	case "hello", "auth", "select", "client", "readonly":
		return true
	}
	return false
}
