package redisidem

import (
	"context"
	"slices"
)

// Observers returns an observer that passes each event to all of these, in their order. Nil ones
// are left out. If one panics, the others get the event all the same, and the service then logs the
// panic.
//
// If any of them is a [Tracer], the result is one, too. Each tracer sees its own values in the
// contexts. The first Origin that is not empty is the one that a key stores. If a StartSpan panics,
// this span is missing in all of them.
func Observers(all ...Observer) Observer {
	all = slices.DeleteFunc(slices.Clone(all), func(o Observer) bool { return o == nil })
	var tracers []Tracer
	for _, o := range all {
		if t, ok := o.(Tracer); ok {
			tracers = append(tracers, t)
		}
	}
	if len(tracers) == 0 {
		return observers(all)
	}
	return &tracingObservers{all, tracers}
}

// observers are several observers.
type observers []Observer

// Observe implements [Observer].
func (o observers) Observe(ctx context.Context, e Event) {
	if len(o) == 0 {
		return
	}
	defer o[1:].Observe(ctx, e) // also if the first one panics
	o[0].Observe(ctx, e)
}

// tracingObservers are several observers of which some are tracers.
type tracingObservers struct {
	observers
	tracers []Tracer
}

// StartSpan implements [Tracer].
func (o *tracingObservers) StartSpan(ctx context.Context, s Span) context.Context {
	for _, t := range o.tracers {
		if inner := t.StartSpan(ctx, s); inner != nil {
			ctx = inner
		}
	}
	return ctx
}

// EndSpan implements [Tracer].
func (o *tracingObservers) EndSpan(ctx context.Context, err error) {
	for _, t := range o.tracers {
		defer t.EndSpan(ctx, err) //nolint:gocritic // the last one is ended first, and each also if another one panics
	}
}

// Origin implements [Tracer].
func (o *tracingObservers) Origin(ctx context.Context) string {
	for _, t := range o.tracers {
		if origin := t.Origin(ctx); origin != "" {
			return origin
		}
	}
	return ""
}
