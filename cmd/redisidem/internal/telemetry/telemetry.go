// Package telemetry exports the traces and metrics of this program by the usual OTEL_* variables.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/redisidem/redisidem/contrib/otelidem"
	"github.com/redisidem/redisidem/redisidem"
)

// Telemetry is what OTEL_* variables ask for.
type Telemetry struct {
	// Traces makes the spans. Nil if no variable asks for traces.
	Traces trace.TracerProvider
	// Observer reports the work on keys as spans and metrics. Nil if no variable asks for either.
	Observer redisidem.Observer

	otel *otelidem.Observer
	ends []func(context.Context) error
}

// Start reads the variables. Traces are exported if OTEL_TRACES_EXPORTER,
// OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set, and metrics if
// OTEL_METRICS_EXPORTER or one of the endpoints for metrics is. Without them it starts nothing.
// Errors of exporters go to log. It returns an error for a variable that cannot be understood.
// Shutdown must be called at the end.
func Start(ctx context.Context, log *slog.Logger) (*Telemetry, error) {
	t := &Telemetry{}
	if os.Getenv("OTEL_SDK_DISABLED") == "true" || !wants("TRACES") && !wants("METRICS") {
		return t, nil
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn("telemetry cannot be exported", "error", err)
	}))
	of, err := resource.New(
		ctx, resource.WithAttributes(serviceName()...), resource.WithTelemetrySDK(), resource.WithFromEnv(),
	)
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	cfg := &otelidem.Config{TracerProvider: noTraces, MeterProvider: noMetrics}
	if wants("TRACES") {
		exporter, err := autoexport.NewSpanExporter(ctx)
		if err != nil {
			return nil, fmt.Errorf("OTEL_TRACES_EXPORTER: %w", err)
		}
		traces := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(of))
		t.Traces, cfg.TracerProvider = traces, traces
		t.ends = append(t.ends, traces.Shutdown)
	}
	if wants("METRICS") {
		reader, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("OTEL_METRICS_EXPORTER: %w", err), t.Shutdown(ctx))
		}
		metrics := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithResource(of))
		cfg.MeterProvider = metrics
		t.ends = append(t.ends, metrics.Shutdown)
	}
	if t.otel, err = otelidem.New(cfg); err != nil {
		return nil, errors.Join(err, t.Shutdown(ctx))
	}
	t.Observer = t.otel
	return t, nil
}

// wants reports whether a variable asks for a signal.
func wants(signal string) bool {
	exporter := os.Getenv("OTEL_" + signal + "_EXPORTER")
	if exporter != "" {
		return exporter != "none"
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
}

// Watch adds the metrics of what a service has in this process.
func (t *Telemetry) Watch(svc *redisidem.Service) error {
	if t.otel == nil {
		return nil
	}
	stop, err := t.otel.ObserveProcess(svc)
	if err == nil {
		t.ends = append(t.ends, func(context.Context) error { return stop() })
	}
	return err
}

// Shutdown exports what is left, and ends the exporters. It blocks until ctx ends at the latest.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	errs := make([]error, 0, len(t.ends))
	for _, end := range t.ends {
		errs = append(errs, end(ctx))
	}
	t.ends = nil
	return errors.Join(errs...)
}
