package idemclient_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/redisidem/redisidem/redisidem/idemclient"
)

// A client that gives each request a key, and retries it.
func ExampleTransport() {
	calls := 0
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		if calls == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "call %d has the body %s and a key: %t", calls, body, r.Header.Get("Idempotency-Key") != "")
	}))
	defer api.Close()

	transport, err := idemclient.NewTransport(nil, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &http.Client{Transport: transport}
	resp, err := client.Post(api.URL, "text/plain", strings.NewReader("hello"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	answer, _ := io.ReadAll(resp.Body)
	fmt.Println(string(answer))
	// Output:
	// call 2 has the body hello and a key: true
}
