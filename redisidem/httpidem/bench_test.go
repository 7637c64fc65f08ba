package httpidem_test

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// BenchmarkFirstRequest is a request that runs the handler, without the network of HTTP.
func BenchmarkFirstRequest(b *testing.B) {
	rdb := redis.NewClient(&redis.Options{Addr: rediscase.Server(b).Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	defer func() { _ = rdb.Close() }()
	svc, err := redisidem.New(rdb, &redisidem.Config{AutoPipeline: true})
	if err != nil {
		b.Fatal(err)
	}
	m, err := httpidem.New(svc, httpidem.Unscoped, nil)
	if err != nil {
		b.Fatal(err)
	}
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("done")) }))
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		r := httptest.NewRequest(http.MethodPost, "/orders", strings.NewReader("body"))
		r.Header.Set("Idempotency-Key", strconv.Itoa(n))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
}
