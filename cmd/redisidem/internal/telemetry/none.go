package telemetry

import (
	"go.opentelemetry.io/otel/attribute"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// The providers for signals that no variable asks for.
var (
	noTraces  = tracenoop.NewTracerProvider()
	noMetrics = metricnoop.NewMeterProvider()
)

// serviceName is the name of this program, unless OTEL_SERVICE_NAME has another one.
func serviceName() []attribute.KeyValue {
	return []attribute.KeyValue{attribute.String("service.name", "redisidem-gateway")}
}
