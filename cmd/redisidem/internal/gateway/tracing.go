package gateway

import (
	"net/http"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
)

// tracing makes the spans of requests. The zero value makes none, and W3C headers then reach the
// upstream as the client sent them.
type tracing struct{ provider trace.TracerProvider }

// propagator carries the W3C context of a request.
var propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})

func (t tracing) options() []otelhttp.Option {
	return []otelhttp.Option{
		otelhttp.WithTracerProvider(t.provider), otelhttp.WithMeterProvider(metricnoop.NewMeterProvider()), otelhttp.WithPropagators(propagator),
	}
}

// handler starts a span for each request.
func (t tracing) handler(next http.Handler) http.Handler {
	if t.provider == nil {
		return next
	}
	traced := otelhttp.NewHandler(http.HandlerFunc(func(w http.ResponseWriter, reduced *http.Request) {
		next.ServeHTTP(w, reducedOf(reduced).request.WithContext(reduced.Context()))
	}), "gateway", t.options()...)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		traced.ServeHTTP(w, (&reducedRequest{request: r}).reduced())
	})
}

// transport starts a span for each request to the upstream, and carries its context there.
func (t tracing) transport(next http.RoundTripper) http.RoundTripper {
	if t.provider == nil {
		return next
	}
	return tracedTransport{otelhttp.NewTransport(restoringTransport{next}, t.options()...)}
}

// name names the span of a request after its route, which is known once it is matched.
func (t tracing) name(r *http.Request, route string) {
	if t.provider == nil {
		return
	}
	span := trace.SpanFromContext(r.Context())
	if !strings.Contains(route, " ") { // a pattern may have its method
		span.SetName(methodLabel(r.Method) + " " + route)
	} else {
		span.SetName(route)
	}
	span.SetAttributes(semconv.HTTPRoute(route))
}
