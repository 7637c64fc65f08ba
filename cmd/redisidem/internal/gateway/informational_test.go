package gateway

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// TestInformationalResponsesLeaveTheGatewaysFields compares the fields of responses with and
// without early hints before them. Under a key the response is a replay.
func TestInformationalResponsesLeaveTheGatewaysFields(t *testing.T) {
	t.Parallel()
	b := setUp(t, "routes: [{match: /open, protect: false}]", Unscoped)
	b.config.CORS = CORS{Origins: []string{"https://shop.example"}, Credentials: true}
	b.reload()
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		for range len(r.URL.Query()["hints"]) {
			w.WriteHeader(http.StatusEarlyHints)
		}
		w.Header().Set("Vary", "Accept")
		w.Header().Set("Access-Control-Allow-Origin", "https://evil.example")
		w.WriteHeader(http.StatusCreated)
	})
	for _, draining := range []bool{false, true} {
		b.gateway.readiness.draining.Store(draining)
		for _, path := range []string{"/", "/open"} {
			for _, key := range []string{"", "k"} {
				send := func(query string) answered {
					pairs := []string{"Origin", "https://shop.example"}
					if key != "" {
						pairs = append(pairs, "Idempotency-Key", key+path+query)
					}
					b.send("POST", path+query, "", pairs...)
					got := b.send("POST", path+query, "", pairs...)
					got.header.Del("Idempotency-Key")
					got.header.Del("Date")
					return got
				}
				want := send("?")
				if strings.Join(want.header.Values("Vary"), ", ") != "Origin, Accept" || want.closes != draining {
					t.Errorf("%s: %v, closes its connection: %t", path, want.header, want.closes)
				}
				for _, query := range []string{"?hints", "?hints&hints"} {
					if got := send(query); !reflect.DeepEqual(got, want) {
						t.Errorf("%s%s with key %q, draining %t:\n%+v, want\n%+v", path, query, key, draining, got, want)
					}
				}
			}
		}
	}
}
