package otelidem

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/redisidem/redisidem/redisidem"
)

// openSpan is a span that has not ended. It is in the context that StartSpan returns.
type openSpan struct {
	trace.Span
	of    redisidem.Span
	began time.Time
	event atomic.Int32 // the kind of the last event of the key in the span, or 0
}

// openSpanContext is the key of an observer's open span. A service may have several observers, and
// each ends its own span.
type openSpanContext struct{ of *Observer }

// openSpan returns the innermost span of this observer, or nil.
func (o *Observer) openSpan(ctx context.Context) *openSpan {
	s, _ := ctx.Value(openSpanContext{o}).(*openSpan)
	return s
}

// observe remembers an event. A renewal does not say how the work ended.
func (s *openSpan) observe(kind redisidem.EventKind) {
	if kind != redisidem.EventRenewed {
		s.event.Store(int32(kind)) //nolint:gosec // there are few kinds
	}
}

// StartSpan implements [redisidem.Tracer].
func (o *Observer) StartSpan(ctx context.Context, s redisidem.Span) context.Context {
	attrs := append(labels(s.Flow, s.Stage), attrKey.String(s.Key))
	if s.Attempt > 0 {
		attrs = append(attrs, attrAttempt.Int(s.Attempt))
	}
	title := "redisidem " + s.Kind.String()
	if s.Kind == redisidem.SpanStage {
		title += " " + stageLabel(s.Stage)
	}
	if s.Origin != "" {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": s.Origin})
	}
	ctx, span := o.tracer.Start(ctx, title, trace.WithAttributes(attrs...))
	return context.WithValue(ctx, openSpanContext{o}, &openSpan{Span: span, of: s, began: time.Now()})
}

// EndSpan implements [redisidem.Tracer].
func (o *Observer) EndSpan(ctx context.Context, err error) {
	s := o.openSpan(ctx)
	outcome := s.outcome(err)
	attrs := []attribute.KeyValue{attrOutcome.String(outcome)}
	if err != nil {
		reason := redisidem.Reason(err)
		attrs = append(attrs, attrErrorType.String(reason))
		if isFailure(reason) {
			text := reason
			if o.errorText {
				text = err.Error()
				s.RecordError(err)
			}
			s.SetStatus(codes.Error, text)
		}
	}
	s.SetAttributes(attrs...)
	o.metrics.measure(ctx, s.of, time.Since(s.began), attrs)
	s.End()
}

// Origin implements [redisidem.Tracer].
func (o *Observer) Origin(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// outcome returns how the work of the span ended, one of a few words.
func (s *openSpan) outcome(err error) string {
	switch kind := redisidem.EventKind(s.event.Load()); {
	case kind != 0 && s.of.Kind != redisidem.SpanStage && s.of.Kind != redisidem.SpanComplete,
		kind == redisidem.EventDeadLettered:
		return kind.String()
	case err != nil:
		return "failed"
	}
	return "done"
}

// isFailure reports whether the span of an error with this reason gets the status Error.
func isFailure(reason string) bool {
	switch reason {
	case "locked", "mismatch", "finished", "canceled", "stopped":
		return false
	}
	return true
}
