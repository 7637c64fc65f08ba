package otelidem

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/redisidem/redisidem/redisidem"
)

// name is the name of the instrumentation.
const name = "github.com/redisidem/redisidem/contrib/otelidem"

// The attributes of spans and metrics.
const (
	attrKey       = attribute.Key("redisidem.key.id") // of spans only: each key has another one
	attrFlow      = attribute.Key("redisidem.flow")
	attrStage     = attribute.Key("redisidem.stage")
	attrAttempt   = attribute.Key("redisidem.attempt")
	attrOutcome   = attribute.Key("redisidem.outcome")
	attrOperation = attribute.Key("redisidem.operation")
	attrEvent     = attribute.Key("redisidem.event")
	attrErrorType = attribute.Key("error.type")
)

// Config configures an [Observer]. The zero value of each field means its default.
type Config struct {
	// TracerProvider makes the spans. Default: the global one at the time of New.
	TracerProvider trace.TracerProvider
	// MeterProvider makes the metrics. Default: the global one at the time of New.
	MeterProvider metric.MeterProvider
	// ErrorText adds the texts of errors to spans. They may contain the application's own texts,
	// and with them data that must not be in traces. Default: false.
	ErrorText bool
}

// Observer is a [redisidem.Tracer] for OpenTelemetry. It is safe for concurrent use, and one may
// serve several services.
type Observer struct {
	tracer    trace.Tracer
	meter     metric.Meter
	metrics   instruments
	errorText bool
}

var _ redisidem.Tracer = (*Observer)(nil)

// New returns an Observer. A nil cfg means all defaults. It returns an error if the meter provider
// refuses an instrument.
func New(cfg *Config) (*Observer, error) {
	var c Config
	if cfg != nil {
		c = *cfg
	}
	if c.TracerProvider == nil {
		c.TracerProvider = otel.GetTracerProvider()
	}
	if c.MeterProvider == nil {
		c.MeterProvider = otel.GetMeterProvider()
	}
	o := &Observer{tracer: c.TracerProvider.Tracer(name), meter: c.MeterProvider.Meter(name), errorText: c.ErrorText}
	var err error
	if o.metrics, err = newInstruments(o.meter); err != nil {
		return nil, err
	}
	return o, nil
}

// Observe implements [redisidem.Observer].
func (o *Observer) Observe(ctx context.Context, e redisidem.Event) {
	o.metrics.count(ctx, &e)
	if s := o.openSpan(ctx); s != nil && s.of.Key == e.Key {
		s.observe(e.Kind)
	}
	switch e.Kind {
	case redisidem.EventLeaseLost, redisidem.EventOutcomeUnknown, redisidem.EventAbandoned, redisidem.EventDeadLettered,
		redisidem.EventCommitDropped, redisidem.EventFailed, redisidem.EventHung:
		attrs := append(labels(e.Flow, e.Stage), attrKey.String(e.Key), attrAttempt.Int(e.Attempt))
		if e.Err != nil {
			attrs = append(attrs, attrErrorType.String(redisidem.Reason(e.Err)))
		}
		trace.SpanFromContext(ctx).AddEvent("redisidem "+e.Kind.String(), trace.WithAttributes(attrs...))
	default:
	}
}

// labels returns the attributes of a flow and a stage. All compensations have one label, because
// their recovery points have numbers.
func labels(flow, stage string) []attribute.KeyValue {
	attrs := make([]attribute.KeyValue, 0, 6)
	if flow != "" {
		attrs = append(attrs, attrFlow.String(flow))
	}
	if stage != "" {
		attrs = append(attrs, attrStage.String(stageLabel(stage)))
	}
	return attrs
}

func stageLabel(stage string) string {
	if strings.HasPrefix(stage, "compensate:") {
		return "compensate"
	}
	return stage
}
