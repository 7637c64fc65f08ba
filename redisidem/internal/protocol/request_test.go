package protocol

import "testing"

func TestRequestsAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Request{
		"1 3 4 a k-1 POST /charges": {"a", "k-1", "POST", "/charges"},
		"0 1 0  k  ":                {"", "k", "", ""},
		"3 3 0 a b k 1  /a b":       {"a b", "k 1", "", "/a b"},
		"1 2 1 \xff \n\x00 x ":      {"\xff", "\n\x00", "x", ""},
	} {
		if got := FormatRequest(want.Scope, want.Value, want.Method, want.Path); got != text {
			t.Errorf("%+v is written as %q, want %q", want, got, text)
		}
		if got, ok := ParseRequest(text); !ok || got != want {
			t.Errorf("%q is read as %+v, %t", text, got, ok)
		}
	}
}

func TestTextsThatAreNoRequestAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "1", "1 1 4", "1 1 4 ", "x 1 4 a k POST /", "-1 1 4 a k POST /", "01 1 4 a k POST /", "1 1 5 a k POST /", "1 1 40 a k POST /",
		"9223372036854775807 1 4 a k POST /", "1 1 4 ab k POST /",
	} {
		if got, ok := ParseRequest(text); ok {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}
