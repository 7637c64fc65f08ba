package redisidem

import (
	"context"
	"fmt"
	"runtime/debug"
)

// Tracer is an optional extension of [Observer]. If Config.Observer has these methods, the service
// reports its work on keys as spans. An event is observed with the context of the span in which it
// occurs. What is said of an Observer applies to a Tracer: it is called concurrently, must be
// quick, and a panic is logged and goes no further.
//
// Package contrib/otelidem is a Tracer for OpenTelemetry.
type Tracer interface {
	Observer

	// StartSpan is called when a piece of work begins. It returns the context for this work, which
	// must descend from ctx. The callback of a stage gets it, so that the work inside belongs to
	// the span of the stage.
	StartSpan(ctx context.Context, s Span) context.Context

	// EndSpan is called once with the context that StartSpan returned, when the work has ended. err
	// is why it failed, or nil. It may contain the application's own error text: see [Reason].
	// After a panic or runtime.Goexit in a callback it is an error that says so.
	EndSpan(ctx context.Context, err error)

	// Origin returns the trace context of ctx as a W3C traceparent, or "". A new key stores it, so
	// that a [Completer] that continues the key belongs to the trace of the request that made it.
	Origin(ctx context.Context) string
}

// SpanKind is the kind of a [Span].
type SpanKind int

// The kinds of spans.
const (
	// SpanClaim is the time from asking for a lease to an answer. The claims of completers have
	// none, because most find that there is nothing to do.
	SpanClaim SpanKind = iota + 1
	// SpanWait is the part of a claim for which the caller waited for another worker or another
	// caller of this process: see Config.Wait. A claim without such a wait has none.
	SpanWait
	// SpanStage is a stage: the callback of a stage or a compensation, with its retries under the
	// same lease.
	SpanStage
	// SpanCommit is the commit of an outcome. If it is repeated in the background, the span ends
	// before that.
	SpanCommit
	// SpanComplete is the time for which a Completer has the lease on a key.
	SpanComplete
)

// String returns the kind in lower case, or "invalid" for any other value.
func (k SpanKind) String() string {
	names := [...]string{SpanClaim: "claim", SpanWait: "wait", SpanStage: "stage", SpanCommit: "commit", SpanComplete: "complete"}
	if k <= 0 || int(k) >= len(names) {
		return "invalid"
	}
	return names[k]
}

// Span describes a piece of work at its start. Its fields never contain a key's text, a scope or a
// body.
type Span struct {
	// Kind is the kind of the span.
	Kind SpanKind
	// Key is the key's ID, a digest.
	Key string
	// Flow is the flow that works on the key, as name/version. Empty without one.
	Flow string
	// Stage is the recovery point at which the work begins, and Attempt the number of this run of
	// the stage. They are empty and 0 for SpanClaim and SpanWait, which begin without a lease.
	Stage   string
	Attempt int
	// Origin is the traceparent of the request that made the key. It is set for SpanComplete if the
	// key has one.
	Origin string
}

// openSpan is a span that has not ended. The zero value stands for no span.
type openSpan struct {
	service *Service
	ctx     context.Context // as StartSpan returned it
}

// startSpan starts a span, and returns the context for the work in it. Without a tracer it returns
// ctx and no span.
func (s *Service) startSpan(ctx context.Context, at Span) (inner context.Context, opened openSpan) {
	if s.tracer == nil {
		return ctx, openSpan{}
	}
	defer func() {
		if v := recover(); v != nil {
			s.logPanic(ctx, v, "span", at.Kind.String())
			inner, opened = ctx, openSpan{}
		}
	}()
	inner = s.tracer.StartSpan(ctx, at)
	if inner == nil {
		return ctx, openSpan{}
	}
	return inner, openSpan{s, inner}
}

// end ends the span.
func (o openSpan) end(err error) {
	if o.service == nil {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			o.service.logPanic(o.ctx, v, "span", "end")
		}
	}()
	o.service.tracer.EndSpan(o.ctx, err)
}

// startClaimSpan starts a span of a claim. The claim of a completer has none.
func (sc *Scope) startClaimSpan(ctx context.Context, c *claim, kind SpanKind) (context.Context, openSpan) {
	if sc.service.tracer == nil || c.completing {
		return ctx, openSpan{}
	}
	at := Span{Kind: kind, Key: c.id.Digest}
	if c.flow != nil {
		at.Flow = c.flow.id
	}
	return sc.service.startSpan(ctx, at)
}

// startSpan starts a span of the lease's work.
func (l *Lease) startSpan(ctx context.Context, kind SpanKind) (context.Context, openSpan) {
	s := l.scope.service
	if s.tracer == nil {
		return ctx, openSpan{}
	}
	l.mu.Lock()
	at := Span{Kind: kind, Key: l.id.Digest, Flow: l.flowID(), Stage: l.key.RecoveryPoint, Attempt: l.attempt}
	if kind == SpanComplete {
		at.Origin = l.key.origin
	}
	l.mu.Unlock()
	return s.startSpan(ctx, at)
}

// origin returns the traceparent that a key made with ctx stores, or "".
func (s *Service) origin(ctx context.Context) (traceparent string) {
	if s.tracer == nil {
		return ""
	}
	defer func() {
		if v := recover(); v != nil {
			s.logPanic(ctx, v, "span", "origin")
			traceparent = ""
		}
	}()
	if traceparent = s.tracer.Origin(ctx); !isTraceparent(traceparent) {
		return ""
	}
	return traceparent
}

// isTraceparent reports whether a text has the form of version 00 of a W3C traceparent.
func isTraceparent(text string) bool {
	if len(text) != len("00-")+32+len("-")+16+len("-00") {
		return false
	}
	for i, c := range []byte(text) {
		dash := i == 2 || i == 35 || i == 52
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
		if dash && c != '-' || !dash && !hex {
			return false
		}
	}
	return text[:2] == "00"
}

// logPanic logs a panic of the observer.
func (s *Service) logPanic(ctx context.Context, v any, what, which string) {
	s.cfg.Logger.ErrorContext(
		ctx, "redisidem: the observer panicked", what, which, "panic", fmt.Sprint(v), "stack", string(debug.Stack()),
	)
}
