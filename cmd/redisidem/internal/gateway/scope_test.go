package gateway

import (
	"net/netip"
	"testing"
)

func TestScopeFieldMustIdentifyACaller(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"Authorization", "authorization", "Proxy-Authorization", "Cookie", "Idempotency-Key", "Host", "Connection", "Content-Length",
		"X Tenant", "X-Tenant:", "", "X-Ténant",
	} {
		if _, err := FromHeader(name, nil); err == nil {
			t.Errorf("%q is accepted", name)
		}
	}
}

func TestOnlyTrustedProxiesNameCallers(t *testing.T) {
	t.Parallel()
	for proxy, status := range map[string]int{"127.0.0.0/8": 201, "10.0.0.0/8": 401} {
		identify, err := FromHeader("X-Tenant", TrustedProxies{netip.MustParsePrefix(proxy)})
		if err != nil {
			t.Fatal(err)
		}
		b := setUp(t, "", identify)
		got := b.send("POST", "/", "", "Idempotency-Key", "k", "X-Tenant", "acme")
		b.want(got, status, map[int]string{401: "did not come from"}[status], false)
		if status == 401 {
			b.want(b.send("POST", "/", "", "Idempotency-Key", "k"), 401, "did not come from", false)
			b.want(b.send("POST", "/", "", "X-Tenant", "acme"), 201, "", false) // it needs no caller
		}
	}
}
