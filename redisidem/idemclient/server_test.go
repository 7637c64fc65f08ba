package idemclient_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemclient"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// TestClientAndServerTogether loses three responses of a server with the middleware: the work is
// done once, and the client gets the stored response.
func TestClientAndServerTogether(t *testing.T) {
	t.Parallel()
	service, err := redisidem.Open(t.Context(), "redis://"+miniredis.RunT(t).Addr(), &redisidem.Config{Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Close(context.Background()) })
	m, err := httpidem.New(service, httpidem.Unscoped, nil)
	if err != nil {
		t.Fatal(err)
	}
	var runs, requests atomic.Int64
	protected := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		runs.Add(1)
		created("done")(w, r)
	}))
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) > 3 {
			protected.ServeHTTP(w, r)
			return
		}
		protected.ServeHTTP(httptest.NewRecorder(), r) // the work is done, and its response is lost
		panic(http.ErrAbortHandler)
	}))
	client := &http.Client{Transport: newTransport(t, nil, &idemclient.TransportConfig{MinBackoff: time.Millisecond, Attempts: 10})}
	defer client.CloseIdleConnections()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, io.NopCloser(strings.NewReader("b")))
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusCreated || string(body) != "done" || resp.Header.Get(idemheader.Replayed) != "true" {
		t.Errorf("status %d, body %q, %v", resp.StatusCode, body, resp.Header)
	}
	if n := runs.Load(); n != 1 {
		t.Errorf("the work was done %d times, want once", n)
	}
}
