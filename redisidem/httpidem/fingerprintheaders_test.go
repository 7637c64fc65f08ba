package httpidem_test

import (
	"errors"
	"net/http"
	"net/url"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestWithHeadersComparesFields(t *testing.T) {
	t.Parallel()
	f := httpidem.Fingerprint{Func: httpidem.WithHeaders(httpidem.WholeRequest, "api-version", "X-Mode", "API-Version")}
	sums := make(map[string]int)
	for i, header := range []http.Header{
		{},
		{"Api-Version": {""}},
		{"Api-Version": {"1"}},
		{"Api-Version": {"2"}},
		{"Api-Version": {"1", "2"}},
		{"X-Mode": {"1"}},
		{"Api-Version": {"1"}, "X-Mode": {"1"}},
	} {
		sum := func(body string) string {
			s, err := httpidem.FingerprintOf(f, &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/"}, Header: header}, []byte(body))
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		if other, taken := sums[sum("{}")]; taken || sum("{}") == sum("{ }") {
			t.Errorf("%v has the fingerprint of header %d, or its body does not count", header, other)
		}
		sums[sum("{}")] = i
		before := sum("{}")
		header.Set("User-Agent", "other")
		if sum("{}") != before {
			t.Errorf("%v: another field counts", header)
		}
	}
	defer func() {
		if err, _ := recover().(error); !errors.Is(err, redisidem.ErrInvalid) {
			t.Errorf("an invalid name: %v", err)
		}
	}()
	httpidem.WithHeaders(httpidem.WholeRequest, "a b")
}
