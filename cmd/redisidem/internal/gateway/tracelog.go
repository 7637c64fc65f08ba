package gateway

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// TraceLog is a handler that adds the trace and the span of the context to each line, as trace_id
// and span_id.
type TraceLog struct{ slog.Handler }

// Handle implements [slog.Handler].
func (h TraceLog) Handle(ctx context.Context, r slog.Record) error { //nolint:gocritic // the interface has it so
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h TraceLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return TraceLog{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (h TraceLog) WithGroup(name string) slog.Handler { return TraceLog{h.Handler.WithGroup(name)} }
