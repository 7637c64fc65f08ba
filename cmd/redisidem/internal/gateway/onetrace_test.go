package gateway

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/redisidem/redisidem/contrib/otelidem"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// traced is a world whose spans are kept in memory.
type traced struct {
	*testing.T
	spans    *tracetest.InMemoryExporter
	provider *sdktrace.TracerProvider
	observer *otelidem.Observer
}

func newTraced(t *testing.T) *traced {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	observer, err := otelidem.New(&otelidem.Config{TracerProvider: provider})
	if err != nil {
		t.Fatal(err)
	}
	return &traced{t, spans, provider, observer}
}

// stage returns a stage with a span of its own, which fails while works is false.
func (w *traced) stage(name string, works *atomic.Bool, o redisidem.Outcome) redisidem.StageFunc {
	return func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
		_, span := w.provider.Tracer("shop").Start(ctx, name)
		defer span.End()
		if !works.Load() {
			return redisidem.Outcome{}, errors.New("the provider is away")
		}
		return o, nil
	}
}

// path returns the names of a span and its parents, from the outermost one, and the trace.
func (w *traced) path(name string) (path, trace string) {
	all := w.spans.GetSpans()
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Name != name {
			continue
		}
		path, trace = name, all[i].SpanContext.TraceID().String()
		for parent := all[i].Parent.SpanID(); ; {
			found := false
			for j := range all {
				if all[j].SpanContext.SpanID() == parent {
					path, parent, found = all[j].Name+" > "+path, all[j].Parent.SpanID(), true
					break
				}
			}
			if !found {
				return path, trace
			}
		}
	}
	return "", ""
}

// TestOneRequestIsOneTrace sends one request through a gateway to a service that runs a flow. The
// second stage fails, and a completer finishes it.
func TestOneRequestIsOneTrace(t *testing.T) {
	t.Parallel()
	w := newTraced(t)
	ctx := context.Background()
	var works, paid atomic.Bool
	works.Store(true)
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "order", Version: 1, RecoverAfter: time.Millisecond, Stages: []redisidem.FlowStage{
			{Point: redisidem.Started, Work: w.stage("reserve stock", &works, redisidem.Next())},
			{Point: "reserved", Work: w.stage("charge card", &paid, redisidem.Finish(redisidem.JSON(201, "ordered")))},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	service, err := redisidem.OpenUnchecked("redis://"+miniredis.RunT(t).Addr(), &redisidem.Config{Observer: w.observer, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := service.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	middleware, err := httpidem.New(service, httpidem.Unscoped, nil)
	if err != nil {
		t.Fatal(err)
	}
	handler, err := middleware.Flow(flow, nil)
	if err != nil {
		t.Fatal(err)
	}
	named := otelhttp.WithSpanNameFormatter(func(operation string, _ *http.Request) string { return operation })
	shop := otelhttp.NewHandler(handler, "shop", append(tracing{w.provider}.options(), named)...)
	b := &bench{T: t, traces: w.provider}
	b.serve(&Upstream{URL: parse(t, newUpstream(t, shop.ServeHTTP)), Timeout: 5 * time.Second}, "", Unscoped, func(c *redisidem.Config) {
		c.Observer = redisidem.Observers(c.Observer, w.observer)
	})

	b.want(b.send("POST", "/orders", "", "Idempotency-Key", "k"), http.StatusServiceUnavailable, "", false)
	const toShop = "POST default > redisidem stage started > HTTP POST > shop"
	b.logs(`"msg":"request"`)
	_, request := w.path("redisidem stage reserved")
	for name, want := range map[string]string{
		"reserve stock": toShop + " > redisidem stage started > reserve stock",
		"charge card":   toShop + " > redisidem stage reserved > charge card",
	} {
		path, trace := w.path(name)
		if path != want || trace != request || trace == "" {
			t.Errorf("%q of trace %s has the path %q, want %q", name, trace, path, want)
		}
	}

	paid.Store(true)
	completer, err := redisidem.NewCompleter(service, []*redisidem.Flow{flow}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		result, err := completer.Sweep(ctx)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%+v %v", result, err)
		}
		if result.Finished == 1 {
			break
		}
	}
	path, trace := w.path("charge card")
	if want := toShop + " > redisidem complete > redisidem stage reserved > charge card"; path != want || trace != request {
		t.Errorf("the completer's work in trace %s has the path %q, want %q in %s", trace, path, want, request)
	}
}
