package otelidem_test

import (
	"context"
	"fmt"

	"github.com/alicebob/miniredis/v2"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/redisidem/redisidem/contrib/otelidem"
	"github.com/redisidem/redisidem/redisidem"
)

// A program sets the global providers, or names its own.
func Example() {
	server, err := miniredis.Run()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	ctx := context.Background()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	defer func() { _ = provider.Shutdown(ctx) }()

	observer, err := otelidem.New(&otelidem.Config{TracerProvider: provider})
	if err != nil {
		fmt.Println(err)
		return
	}
	svc, err := redisidem.OpenUnchecked("redis://"+server.Addr(), &redisidem.Config{Observer: observer})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close(ctx) }()

	_, err = svc.Scope("tenant-42").Do(ctx, "key-from-the-client", redisidem.Request{Method: "POST", Path: "/mails"},
		func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Finish(redisidem.Response{Code: 204}), nil
		})
	if err != nil {
		fmt.Println(err)
		return
	}
	ended := spans.GetSpans()
	for i := range ended {
		fmt.Println(ended[i].Name)
	}
	// Output:
	// redisidem claim
	// redisidem stage started
	// redisidem commit
}
