package gateway

import "testing"

func TestScopeFieldMustIdentifyACaller(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"Authorization", "authorization", "Proxy-Authorization", "Cookie", "Idempotency-Key", "Host", "Connection", "Content-Length",
		"X Tenant", "X-Tenant:", "", "X-Ténant",
	} {
		if _, err := FromHeader(name); err == nil {
			t.Errorf("%q is accepted", name)
		}
	}
}
