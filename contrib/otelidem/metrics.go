package otelidem

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/redisidem/redisidem/redisidem"
)

// instruments are the metrics that events and spans bring.
type instruments struct {
	events   metric.Int64Counter
	duration metric.Float64Histogram
}

func newInstruments(m metric.Meter) (i instruments, err error) {
	var err1 error
	i.events, err = m.Int64Counter(
		"redisidem.events", metric.WithUnit("{event}"), metric.WithDescription("Events of idempotency keys."),
	)
	i.duration, err1 = m.Float64Histogram(
		"redisidem.operation.duration", metric.WithUnit("s"), metric.WithDescription("Duration of the work on idempotency keys."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60),
	)
	return i, errors.Join(err, err1)
}

// count counts an event.
func (i instruments) count(ctx context.Context, e *redisidem.Event) {
	attrs := append(labels(e.Flow, e.Stage), attrEvent.String(e.Kind.String()))
	if e.Err != nil {
		attrs = append(attrs, attrErrorType.String(redisidem.Reason(e.Err)))
	}
	i.events.Add(ctx, 1, metric.WithAttributeSet(attribute.NewSet(attrs...)))
}

// measure records the duration of a span with its result.
func (i instruments) measure(ctx context.Context, s redisidem.Span, took time.Duration, result []attribute.KeyValue) {
	attrs := slices.Concat(labels(s.Flow, s.Stage), []attribute.KeyValue{attrOperation.String(s.Kind.String())}, result)
	i.duration.Record(ctx, took.Seconds(), metric.WithAttributeSet(attribute.NewSet(attrs...)))
}

// ObserveProcess adds metrics of what a service has in this process: see
// [redisidem.Service.ProcessStats]. They are read at each collection, until stop is called. With
// several services in a process, each needs a meter provider of its own, because their numbers have
// the same names.
func (o *Observer) ObserveProcess(svc *redisidem.Service) (stop func() error, err error) {
	var errs []error
	gauge := func(name, unit, text string) metric.Int64ObservableUpDownCounter {
		g, err := o.meter.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
		errs = append(errs, err)
		return g
	}
	leases := gauge("redisidem.leases.held", "{lease}", "Leases that this process holds.")
	hung := gauge("redisidem.stages.hung", "{stage}", "Stages that go on although their contexts ended long ago.")
	commits := gauge("redisidem.commits.pending", "{commit}", "Commits without an answer that are retried in the background.")
	copies := gauge("redisidem.copies", "{copy}", "Copies of finished records.")
	size := gauge("redisidem.copies.size", "By", "Memory of the copies of finished records.")
	lookups, err := o.meter.Int64ObservableCounter(
		"redisidem.copies.lookups", metric.WithUnit("{lookup}"), metric.WithDescription("Calls that looked for a copy."),
	)
	if err = errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	hit, miss := metric.WithAttributes(attribute.Bool("redisidem.copies.hit", true)), metric.WithAttributes(attribute.Bool("redisidem.copies.hit", false))
	registered, err := o.meter.RegisterCallback(func(_ context.Context, to metric.Observer) error {
		stats := svc.ProcessStats()
		to.ObserveInt64(leases, int64(stats.LeasesHeld))
		to.ObserveInt64(hung, int64(stats.StagesHung))
		to.ObserveInt64(commits, int64(stats.CommitsPending))
		to.ObserveInt64(copies, int64(stats.Copies))
		to.ObserveInt64(size, int64(stats.CopyBytes))           //nolint:gosec // it is bounded by CacheBytes
		to.ObserveInt64(lookups, int64(stats.CopyHits), hit)    //nolint:gosec // a count of calls
		to.ObserveInt64(lookups, int64(stats.CopyMisses), miss) //nolint:gosec // a count of calls
		return nil
	}, leases, hung, commits, copies, size, lookups)
	if err != nil {
		return nil, err
	}
	return registered.Unregister, nil
}
