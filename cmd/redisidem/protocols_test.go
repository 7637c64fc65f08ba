package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestHTTP2WithoutTLSOnBothSides has a client and an upstream that speak only HTTP/2, and one of
// each that speak only HTTP/1.
func TestHTTP2WithoutTLSOnBothSides(t *testing.T) {
	t.Parallel()
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprint("HTTP/", version), func(t *testing.T) {
			t.Parallel()
			protocols, scheme := &http.Protocols{}, "http://"
			protocols.SetHTTP1(version == 1)
			protocols.SetUnencryptedHTTP2(version == 2)
			up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, r.ProtoMajor) }))
			up.Config.Protocols = protocols
			up.Start()
			t.Cleanup(up.Close)
			if version == 2 {
				scheme = "h2c://"
			}
			p := start(t, "", "--upstream", strings.Replace(up.URL, "http://", scheme, 1), "--scope", "header:X-Tenant")
			transport := &http.Transport{Protocols: protocols}
			t.Cleanup(transport.CloseIdleConnections)
			for _, replayed := range []bool{false, true} {
				got, err := post(t.Context(), &http.Client{Transport: transport}, p.url, "k")
				if err != nil {
					t.Fatal(err)
				}
				if got.body != fmt.Sprint(version) || got.replayed != replayed {
					t.Errorf("the client got %+v", got)
				}
			}
		})
	}
}
