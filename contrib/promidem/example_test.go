package promidem_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/redisidem/redisidem/contrib/promidem"
	"github.com/redisidem/redisidem/redisidem"
)

// One value is the observer of the service and the collector of its numbers.
func Example() {
	server, err := miniredis.Run()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	ctx := context.Background()

	metrics := promidem.New(&promidem.Config{Flows: []string{"order"}})
	svc, err := redisidem.OpenUnchecked("redis://"+server.Addr(), &redisidem.Config{Observer: metrics})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close(ctx) }()
	metrics.Watch(svc)
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics)

	scrape := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(scrape, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	for line := range strings.Lines(scrape.Body.String()) {
		if strings.HasPrefix(line, "redisidem_dead_letters") || strings.HasPrefix(line, "redisidem_redis_up") {
			fmt.Print(line)
		}
	}
	// Output:
	// redisidem_dead_letters{flow="order"} 0
	// redisidem_redis_up 1
}
