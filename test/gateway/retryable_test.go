//go:build unix

package gateway

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/internal/tcpproxy"
)

// TestRetryableHTTPThroughTheGateway uses go-retryablehttp with its own policy: it repeats every
// request after a connection that broke, 429 and 5xx, also a POST.
func TestRetryableHTTPThroughTheGateway(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := runs.Add(1)
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprintf(w, "charge %d", n)
	}))
	t.Cleanup(up.Close)
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	write(t, file, fmt.Appendf(nil, "upstream: %s\nscope: unscoped\n", up.URL))
	p := start(t, rediscase.Server(t).Addr(), file)
	proxy := tcpproxy.Start(t, strings.TrimPrefix(p.url, "http://"))

	client := retryablehttp.NewClient()
	client.Logger, client.RetryWaitMin, client.RetryWaitMax, client.RetryMax = nil, time.Millisecond, 20*time.Millisecond, 3
	client.ErrorHandler = retryablehttp.PassthroughErrorHandler // the last answer, also if it is a failure
	t.Cleanup(client.HTTPClient.CloseIdleConnections)
	for _, each := range []struct {
		path, key string
		lost      int
		answer    string // what it begins with; empty for none
		replayed  bool
		runs      int64
	}{
		{path: "/charges", key: "a", answer: "201 charge 1", runs: 1},
		{path: "/charges", key: "a", answer: "201 charge 1", replayed: true, runs: 1},
		{path: "/charges", key: "b", lost: 3, answer: "201 charge 2", replayed: true, runs: 2},
		{path: "/charges", key: "c", lost: 5, runs: 3}, // one more repetition is that of net/http, on a connection of the pool
		{path: "/charges", key: "c", answer: "201 charge 3", replayed: true, runs: 3},
		{path: "/charges", lost: 1, answer: "201 charge 5", runs: 5}, // without a key it charges twice
		{path: "/other", key: "a", answer: "422", runs: 5},
	} {
		proxy.Lose(each.lost)
		r, err := retryablehttp.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+proxy.Addr()+each.path, []byte("100"))
		if err != nil {
			t.Fatal(err)
		}
		if each.key != "" {
			r.Header.Set("Idempotency-Key", each.key)
		}
		got, replayed := "", false
		res, err := client.Do(r)
		if err == nil {
			text, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			got, replayed = fmt.Sprintf("%d %s", res.StatusCode, text), res.Header.Get("Idempotency-Replayed") == "true"
		}
		if !strings.HasPrefix(got, each.answer) || (got == "") != (each.answer == "") || replayed != each.replayed || runs.Load() != each.runs {
			t.Errorf("%+v: the client got %q, replayed %v, %v; the service has run %d requests", each, got, replayed, err, runs.Load())
		}
	}
}
