package gateway

import (
	"net/http"
	"testing"
)

func TestDrainingGatewayIsNotReady(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", Unscoped)
	b.gateway.Drain()
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503} {
		res, err := http.Get(b.admin.URL + path) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s is %d, want %d", path, res.StatusCode, want)
		}
	}
}
