package otelidem_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/redisidem/redisidem/contrib/otelidem"
	"github.com/redisidem/redisidem/redisidem"
)

var ctx = context.Background()

var request = redisidem.Request{Method: "POST", Path: "/orders"}

// world is a service whose spans and metrics are kept in memory.
type world struct {
	*testing.T
	spans    *tracetest.InMemoryExporter
	metrics  *sdkmetric.ManualReader
	tracer   trace.Tracer // for spans of the test's own
	observer *otelidem.Observer
	service  *redisidem.Service
	redis    *miniredis.Miniredis
}

func setUp(t *testing.T, change ...func(*otelidem.Config, *redisidem.Config)) *world {
	t.Helper()
	t.Parallel()
	w := &world{T: t, spans: tracetest.NewInMemoryExporter(), metrics: sdkmetric.NewManualReader(), redis: miniredis.RunT(t)}
	traces := sdktrace.NewTracerProvider(sdktrace.WithSyncer(w.spans))
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(w.metrics))
	w.tracer = traces.Tracer("test")
	config := &otelidem.Config{TracerProvider: traces, MeterProvider: meters}
	cfg := &redisidem.Config{Timeout: 5 * time.Second}
	for _, f := range change {
		f(config, cfg)
	}
	var err error
	w.observer, err = otelidem.New(config)
	w.must(err)
	cfg.Observer = redisidem.Observers(w.observer, cfg.Observer)
	w.service, err = redisidem.OpenUnchecked("redis://"+w.redis.Addr(), cfg)
	w.must(err)
	t.Cleanup(func() { w.must(errors.Join(w.service.Close(ctx), traces.Shutdown(ctx), meters.Shutdown(ctx))) })
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// mustHave checks the spans in the order of their ends, each with its parent, and removes them.
func (w *world) mustHave(want ...string) tracetest.SpanStubs {
	w.Helper()
	all := w.spans.GetSpans()
	w.spans.Reset()
	names := make(map[trace.SpanID]string)
	for i := range all {
		names[all[i].SpanContext.SpanID()] = all[i].Name
	}
	got := make([]string, 0, len(all))
	for i := range all {
		got = append(got, names[all[i].Parent.SpanID()]+" > "+all[i].Name+" "+value(all[i].Attributes, "redisidem.outcome"))
	}
	if !slices.Equal(got, want) {
		w.Fatalf("the spans are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	return all
}

func value(attrs []attribute.KeyValue, key attribute.Key) string {
	for _, a := range attrs {
		if a.Key == key {
			return a.Value.String()
		}
	}
	return ""
}

// does is a stage in which the program has a span of its own.
func (w *world) does(o redisidem.Outcome) redisidem.StageFunc {
	return func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
		_, span := w.tracer.Start(ctx, "work")
		defer span.End()
		return o, nil
	}
}

func (w *world) flow(stages ...redisidem.StageFunc) *redisidem.Flow {
	w.Helper()
	cfg := redisidem.FlowConfig{Name: "order", Version: 1, RecoverAfter: time.Millisecond, MaxAttempts: 2}
	for i, work := range stages {
		point := redisidem.Started
		if i > 0 {
			point = fmt.Sprint("stage-", i+1)
		}
		cfg.Stages = append(cfg.Stages, redisidem.FlowStage{Point: point, Work: work})
	}
	flow, err := redisidem.NewFlow(cfg)
	w.must(err)
	return flow
}

func TestSpansOfAFlowAndItsReplay(t *testing.T) {
	w := setUp(t)
	flow := w.flow(w.does(redisidem.Next()), w.does(redisidem.Finish(redisidem.JSON(201, "done"))))
	for range 2 {
		caller, span := w.tracer.Start(ctx, "request")
		_, err := w.service.Scope("a").DoFlow(caller, "k", request, flow)
		w.must(err)
		span.End()
	}
	all := w.mustHave(
		"request > redisidem claim claimed",
		"redisidem stage started > work ", "request > redisidem stage started done", "request > redisidem commit committed",
		"redisidem stage stage-2 > work ", "request > redisidem stage stage-2 done", "request > redisidem commit committed",
		" > request ", "request > redisidem claim replayed", " > request ",
	)
	stage := all[5]
	for key, want := range map[attribute.Key]string{
		"redisidem.flow": "order/1", "redisidem.stage": "stage-2", "redisidem.attempt": "1", "redisidem.key.id": w.service.Scope("a").ID("k"), "error.type": "",
	} {
		if got := value(stage.Attributes, key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if stage.Status.Code != codes.Unset || stage.SpanKind != trace.SpanKindInternal {
		t.Errorf("the stage's span is %+v", stage)
	}
}

var errWork = errors.New("secret text")

func fails(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
	return redisidem.Outcome{}, errWork
}

// TestFailuresAreInSpans also checks that the text of an error is only there if it was asked for.
func TestFailuresAreInSpans(t *testing.T) {
	for _, text := range []bool{false, true} {
		t.Run(fmt.Sprint("with text ", text), func(t *testing.T) {
			w := setUp(t, func(c *otelidem.Config, _ *redisidem.Config) { c.ErrorText = text })
			caller, span := w.tracer.Start(ctx, "request")
			if _, err := w.service.Scope("a").Do(caller, "k", request, fails); !errors.Is(err, errWork) {
				t.Fatal(err)
			}
			_, err := w.service.Scope("a").Do(caller, "k", redisidem.Request{Method: "PUT"}, fails)
			if !errors.Is(err, redisidem.ErrFingerprintMismatch) {
				t.Fatal(err)
			}
			span.End()
			all := w.mustHave(
				"request > redisidem claim claimed", "request > redisidem stage started failed", "request > redisidem claim refused", " > request ",
			)
			stage, refused := all[1], all[2]
			if stage.Status.Code != codes.Error || value(stage.Attributes, "error.type") != "other" {
				t.Errorf("the stage's span is %+v", stage)
			}
			if refused.Status.Code != codes.Unset || value(refused.Attributes, "error.type") != "mismatch" {
				t.Errorf("the span of the refused claim is %+v", refused)
			}
			if events := all[3].Events; len(events) != 1 || events[0].Name != "redisidem abandoned" {
				t.Errorf("the events of the request are %+v", events)
			}
			if got := strings.Contains(fmt.Sprintf("%+v", all), "secret text"); got != text {
				t.Errorf("the text of the error is in the spans: %t", got)
			}
		})
	}
}

// TestCompleterIsInTheTraceOfTheRequest calls the tracer as the service does for a key with an
// origin.
func TestCompleterIsInTheTraceOfTheRequest(t *testing.T) {
	w := setUp(t)
	caller, span := w.tracer.Start(ctx, "request")
	origin := w.observer.Origin(caller)
	span.End()
	if w.observer.Origin(ctx) != "" {
		t.Error("a context without a span has an origin")
	}
	at := redisidem.Span{Kind: redisidem.SpanComplete, Key: "id", Flow: "order/1", Stage: "compensate:17", Attempt: 3, Origin: origin}
	w.observer.EndSpan(w.observer.StartSpan(ctx, at), nil)
	all := w.mustHave(" > request ", "request > redisidem complete done")
	if all[0].SpanContext.TraceID() != all[1].SpanContext.TraceID() || value(all[1].Attributes, "redisidem.stage") != "compensate" {
		t.Errorf("the completer's span is %+v", all[1])
	}
}

func TestSpansOfACompleter(t *testing.T) {
	w := setUp(t)
	failing := w.flow(fails)
	scope := w.service.Scope("a")
	if _, err := scope.DoFlow(ctx, "k", request, failing); !errors.Is(err, errWork) {
		t.Fatal(err)
	}
	w.spans.Reset()
	completer, err := redisidem.NewCompleter(w.service, []*redisidem.Flow{failing}, nil)
	w.must(err)
	for range 2 {
		for deadline := time.Now().Add(20 * time.Second); ; {
			result, err := completer.Sweep(ctx)
			w.must(err)
			if result.Due > 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the key does not become due")
			}
			time.Sleep(time.Millisecond)
		}
	}
	all := w.mustHave("redisidem complete > redisidem stage started failed", " > redisidem complete failed", " > redisidem complete dead-lettered")
	if events := all[2].Events; len(events) != 1 || events[0].Name != "redisidem dead-lettered" {
		t.Errorf("the events are %+v", events)
	}
}

// collected returns the points of the metrics as text, without their numbers of seconds.
func (w *world) collected() []string {
	w.Helper()
	var all metricdata.ResourceMetrics
	w.must(w.metrics.Collect(ctx, &all))
	var lines []string
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			add := func(attrs attribute.Set, n any) {
				var words []string
				for _, a := range attrs.ToSlice() {
					words = append(words, string(a.Key)+"="+a.Value.String())
				}
				lines = append(lines, fmt.Sprintf("%s %s %s %v", m.Name, m.Unit, strings.Join(words, ","), n))
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, p.Value)
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					if p.Sum <= 0 || p.Sum > 60 {
						w.Errorf("%s has %v seconds", m.Name, p.Sum)
					}
					add(p.Attributes, p.Count)
				}
			default:
				w.Errorf("%s is a %T", m.Name, data)
			}
		}
	}
	slices.Sort(lines)
	return lines
}

func TestMetricsOfWork(t *testing.T) {
	w := setUp(t, func(_ *otelidem.Config, c *redisidem.Config) { c.CacheBytes = 1 << 20 })
	stop, err := w.observer.ObserveProcess(w.service)
	w.must(err)
	scope := w.service.Scope("a")
	_, err = scope.DoFlow(ctx, "k", request, w.flow(w.does(redisidem.Finish(redisidem.JSON(201, "done")))))
	w.must(err)
	_, err = scope.Do(ctx, "failing", request, fails)
	if !errors.Is(err, errWork) {
		t.Fatal(err)
	}
	want := []string{
		"redisidem.commits.pending {commit}  0",
		"redisidem.copies.lookups {lookup} redisidem.copies.hit=false 2",
		"redisidem.copies.lookups {lookup} redisidem.copies.hit=true 0",
		"redisidem.events {event} error.type=other,redisidem.event=abandoned,redisidem.stage=started 1",
		"redisidem.events {event} redisidem.event=claimed,redisidem.flow=order/1,redisidem.stage=started 1",
		"redisidem.events {event} redisidem.event=claimed,redisidem.stage=started 1",
		"redisidem.events {event} redisidem.event=committed,redisidem.flow=order/1,redisidem.stage=started 1",
		"redisidem.leases.held {lease}  0",
		"redisidem.operation.duration s error.type=other,redisidem.operation=stage,redisidem.outcome=failed,redisidem.stage=started 1",
		"redisidem.operation.duration s redisidem.flow=order/1,redisidem.operation=claim,redisidem.outcome=claimed 1",
		"redisidem.operation.duration s redisidem.flow=order/1,redisidem.operation=commit,redisidem.outcome=committed,redisidem.stage=started 1",
		"redisidem.operation.duration s redisidem.flow=order/1,redisidem.operation=stage,redisidem.outcome=done,redisidem.stage=started 1",
		"redisidem.operation.duration s redisidem.operation=claim,redisidem.outcome=claimed 1",
		"redisidem.stages.hung {stage}  0",
	}
	got := slices.DeleteFunc(w.collected(), func(line string) bool { // the copy may have been dropped again by the new subscription
		return strings.HasPrefix(line, "redisidem.copies {copy}") || strings.HasPrefix(line, "redisidem.copies.size By")
	})
	if !slices.Equal(got, want) {
		t.Errorf("the metrics are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	w.must(stop())
	if got := strings.Join(w.collected(), "\n"); strings.Contains(got, "redisidem.leases.held") {
		t.Errorf("after stop the metrics are %s", got)
	}
}

// TestTwoObserversEndTheirOwnSpans joins observers that export to two places. Each gets every span
// once, with the outcome that it had.
func TestTwoObserversEndTheirOwnSpans(t *testing.T) {
	second := tracetest.NewInMemoryExporter()
	traces := sdktrace.NewTracerProvider(sdktrace.WithSyncer(second))
	w := setUp(t, func(_ *otelidem.Config, c *redisidem.Config) {
		observer, err := otelidem.New(&otelidem.Config{TracerProvider: traces})
		if err != nil {
			t.Fatal(err)
		}
		c.Observer = observer
	})
	t.Cleanup(func() { w.must(traces.Shutdown(ctx)) })
	finish := func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Finish(redisidem.JSON(201, "done")), nil
	}
	_, err := w.service.Scope("a").DoFlow(ctx, "k", request, w.flow(finish))
	w.must(err)
	want := []string{"redisidem claim claimed", "redisidem stage started done", "redisidem commit committed"}
	for i, exporter := range []*tracetest.InMemoryExporter{w.spans, second} {
		var got []string
		for _, span := range exporter.GetSpans() {
			got = append(got, span.Name+" "+value(span.Attributes, "redisidem.outcome"))
		}
		if !slices.Equal(got, want) {
			t.Errorf("observer %d has ended the spans %q, want %q", i+1, got, want)
		}
	}
}

func TestGlobalProvidersAreTheDefault(t *testing.T) {
	t.Parallel()
	observer, err := otelidem.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	observer.EndSpan(observer.StartSpan(ctx, redisidem.Span{Kind: redisidem.SpanClaim, Key: "id"}), nil)
}
