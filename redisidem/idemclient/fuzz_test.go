package idemclient_test

import (
	"net/http"
	"testing"

	"github.com/redisidem/redisidem/redisidem/idemclient"
)

// FuzzRetryAfter checks that no server can make a client wait for less than nothing or for longer
// than a lifetime of seconds.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "0", "120", "-1", "1e3", "99999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 31 Dec 1999 23:59:59 GMT"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := idemclient.RetryAfterOf(&http.Response{Header: http.Header{"Retry-After": {text}}})
		if got < 0 {
			t.Fatalf("%q is %v", text, got)
		}
	})
}
