package redisidem_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// tracer is a tracer that writes a line for each span and event, with the path of open spans.
type tracer struct {
	mu    sync.Mutex
	lines []string
	open  int
}

type tracedPath struct{}

func pathOf(ctx context.Context) string {
	path, _ := ctx.Value(tracedPath{}).(string)
	return path
}

func (t *tracer) write(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
}

func (t *tracer) Observe(ctx context.Context, e redisidem.Event) {
	t.write(pathOf(ctx) + " ! " + e.Kind.String())
}

func (t *tracer) StartSpan(ctx context.Context, s redisidem.Span) context.Context {
	path := strings.TrimSpace(fmt.Sprint(pathOf(ctx), "/", s.Kind))
	line := path
	if s.Flow != "" || s.Stage != "" {
		line += fmt.Sprintf(" %s %s %d", s.Flow, s.Stage, s.Attempt)
	}
	if s.Key == "" {
		line += " without a key"
	}
	t.write(line)
	t.mu.Lock()
	t.open++
	t.mu.Unlock()
	return context.WithValue(ctx, tracedPath{}, path)
}

func (t *tracer) EndSpan(ctx context.Context, err error) {
	t.mu.Lock()
	t.open--
	t.mu.Unlock()
	if err != nil {
		t.write(pathOf(ctx) + " = " + redisidem.Reason(err))
	}
}

func (t *tracer) Origin(ctx context.Context) string { return pathOf(ctx) }

// mustHave checks the lines so far, and removes them.
func (t *tracer) mustHave(tb testing.TB, want ...string) {
	tb.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Equal(t.lines, want) {
		tb.Errorf("the tracer has\n%s\nwant\n%s", strings.Join(t.lines, "\n"), strings.Join(want, "\n"))
	}
	if t.open != 0 {
		tb.Errorf("%d spans are open", t.open)
	}
	t.lines = nil
}

func (t *tracer) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = nil
}

// caller is the context of a caller with a span of its own.
var caller = context.WithValue(ctx, tracedPath{}, "caller")

// TestSpansOfAStage checks which spans there are, that none is inside of the claim's, and that the
// callback has the stage's.
func TestSpansOfAStage(t *testing.T) {
	inBubble(t, func(b *bubble) {
		spans := &tracer{}
		sc := b.service(redisidem.Config{Observer: spans}).Scope("a")
		work := func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			spans.write("work in " + pathOf(ctx))
			if _, err := sc.Do(ctx, "inner", request, finish("inner")); err != nil {
				return redisidem.Outcome{}, err
			}
			return finish("done")(ctx, st)
		}
		for range 2 {
			_, err := sc.Do(caller, "k", request, work)
			mustBe(b, err, nil)
		}
		_, err := sc.Do(caller, "failing", request, fails(errStage))
		mustBe(b, err, errStage)
		_, err = sc.Do(caller, "k", redisidem.Request{Method: "PUT"}, never(b))
		mustBe(b, err, redisidem.ErrFingerprintMismatch)
		spans.mustHave(
			b, "caller/claim", "caller/claim ! claimed", "caller/stage  started 1", "work in caller/stage",
			"caller/stage/claim", "caller/stage/claim ! claimed", "caller/stage/stage  started 1", "caller/stage/commit  started 1", "caller/stage/commit ! committed",
			"caller/commit  started 1", "caller/commit ! committed",
			"caller/claim", "caller/claim ! replayed",
			"caller/claim", "caller/claim ! claimed", "caller/stage  started 1", "caller/stage = other", "caller ! abandoned",
			"caller/claim", "caller/claim ! refused", "caller/claim = mismatch",
		)
	})
}

// TestSpanOfACallbackThatDoesNotReturn has callbacks that panic and that end their goroutine.
func TestSpanOfACallbackThatDoesNotReturn(t *testing.T) {
	inBubble(t, func(b *bubble) {
		spans := &tracer{}
		sc := b.service(redisidem.Config{Observer: spans}).Scope("a")
		for _, leave := range []func(){func() { panic("bug") }, runtime.Goexit} {
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				defer func() { _ = recover() }()
				_, _ = sc.Do(caller, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					leave()
					return redisidem.Outcome{}, nil
				})
			}()
			<-ended
		}
		spans.mustHave(
			b, "caller/claim", "caller/claim ! claimed", "caller/stage  started 1", "caller/stage = panicked", "caller ! abandoned",
			"caller/claim", "caller/claim ! claimed", "caller/stage  started 2", "caller/stage = panicked", "caller ! abandoned",
		)
	})
}

func TestSpanOfAWait(t *testing.T) {
	inBubble(t, func(b *bubble) {
		spans := &tracer{}
		sc := b.service(redisidem.Config{Wait: time.Minute}).Scope("a")
		waiting := b.service(redisidem.Config{Wait: time.Minute, Observer: spans}).Scope("a")
		_, err := sc.Do(ctx, "k", request, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			go func() { _, _ = waiting.Do(caller, "k", request, never(b)) }()
			synctest.Wait()
			time.Sleep(time.Second)
			return finish("done")(ctx, st)
		})
		mustBe(b, err, nil)
		time.Sleep(time.Second)
		spans.mustHave(b, "caller/claim", "caller/claim/wait", "caller/claim ! replayed")
		_, err = waiting.Do(caller, "k", request, never(b)) // does not wait
		mustBe(b, err, nil)
		spans.mustHave(b, "caller/claim", "caller/claim ! replayed")
		// Two callers of one process, of which the second one waits for the first one's answer.
		b.hold(time.Second)
		for range 2 {
			go func() { _, _ = waiting.Do(caller, "k", request, never(b)) }()
			synctest.Wait()
		}
		b.deliver()
		time.Sleep(5 * time.Second)
		spans.mustHave(
			b, "caller/claim", "caller/claim", "caller/claim/wait", "caller/claim ! refused", "caller/claim = unavailable",
			"caller/claim/wait = unavailable", "caller/claim ! refused", "caller/claim = unavailable",
		)
	})
}

// TestSpansOfACompleter checks that what a completer does for a key is in one span, whatever
// becomes of the key.
func TestSpansOfACompleter(t *testing.T) {
	inBubble(t, func(b *bubble) {
		spans := &tracer{}
		svc := b.service(redisidem.Config{Observer: spans})
		failing := true
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.MaxAttempts = 2
			c.Stages[1].Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				if failing {
					return redisidem.Outcome{}, errStage
				}
				return last(ctx, st)
			}
			c.Stages[1].Next = []string{redisidem.Finished}
			c.Stages = c.Stages[:2]
		}))
		for _, value := range []string{"finished", "dead"} {
			failing = true
			_, err := svc.Scope("a").DoFlow(caller, value, request, flow)
			mustBe(b, err, errStage)
			spans.clear()
			time.Sleep(time.Hour)
			if value == "finished" {
				failing = false
				mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, Finished: 1})
				spans.mustHave(
					b, "/complete cart/1 taxed 2", " ! claimed", "/complete/stage cart/1 taxed 2",
					"/complete/commit cart/1 taxed 2", "/complete/commit ! committed",
				)
				continue
			}
			mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, Failed: 1})
			spans.mustHave(
				b, "/complete cart/1 taxed 2", " ! claimed", "/complete/stage cart/1 taxed 2", "/complete/stage = stage",
				"/complete ! abandoned", "/complete = stage",
			)
			time.Sleep(time.Hour)
			mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, DeadLettered: 1})
			spans.mustHave(b, "/complete cart/1 taxed 3", " ! claimed", "/complete ! dead-lettered", "/complete = dead-lettered")
		}
	})
}

// TestSpanOfAKeyThatACompleterRefuses has a completer that does not know the recovery point.
func TestSpanOfAKeyThatACompleterRefuses(t *testing.T) {
	inBubble(t, func(b *bubble) {
		spans := &tracer{}
		svc := b.service(redisidem.Config{Observer: spans})
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) { c.Stages[1].Work = fails(errStage) }))
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		time.Sleep(time.Hour)
		spans.clear()
		other := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages = c.Stages[:1]
			c.Stages[0].Work = last
		}))
		mustSweep(b, mustCompleter(b, svc, other), redisidem.SweepResult{Due: 1, Failed: 1})
		spans.mustHave(
			b, " ! refused", "/complete cart/1 taxed 2", " ! claimed", "/complete ! abandoned", "/complete = unknown-recovery-point",
		)
	})
}

// badTracer panics in each method, or returns no context.
type badTracer struct{ silent bool }

func (badTracer) Observe(context.Context, redisidem.Event) {}
func (t badTracer) StartSpan(context.Context, redisidem.Span) context.Context {
	if t.silent {
		return nil
	}
	panic("start")
}
func (badTracer) EndSpan(context.Context, error) { panic("end") }
func (t badTracer) Origin(context.Context) string {
	if t.silent {
		return "not a traceparent"
	}
	panic("origin")
}

// endsBadly panics at the end of spans only.
type endsBadly struct{ badTracer }

func (endsBadly) StartSpan(ctx context.Context, _ redisidem.Span) context.Context { return ctx }

// TestTracerThatPanicsIsLogged also has a completer, whose goroutine is not the caller's.
func TestTracerThatPanicsIsLogged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tracer redisidem.Tracer
		logs   string
	}{
		"at the start": {badTracer{}, "span=stage"}, "at the end": {endsBadly{}, "span=end"}, "at the origin": {badTracer{}, "span=origin"}, "without a context": {badTracer{silent: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				text := &logText{}
				svc := b.service(redisidem.Config{Observer: c.tracer, Logger: slog.New(slog.NewTextHandler(text, nil))})
				flow := mustFlow(b, cart(recoverable))
				_, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
				mustBe(b, err, nil)
				failing := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) { c.Stages[0].Work = fails(errStage) }))
				_, err = svc.Scope("a").DoFlow(ctx, "left", request, failing)
				mustBe(b, err, errStage)
				time.Sleep(time.Hour)
				mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, Finished: 1})
				if c.logs != "" && !strings.Contains(text.String(), "the observer panicked\" "+c.logs) || c.logs == "" && text.String() != "" {
					b.Errorf("the log is %s", text.String())
				}
				if got := svc.OriginOf(ctx); got != "" {
					b.Errorf("the origin is %q", got)
				}
			})
		})
	}
}

// TestOriginIsATraceparent refuses what is not one.
func TestOriginIsATraceparent(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Observer: &tracer{}})
		const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		for text, want := range map[string]string{
			good: good, "": "", "caller": "", strings.ToUpper(good): "", "01" + good[2:]: "", good + "0": "", strings.Replace(good, "-", "0", 1): "",
		} {
			if got := svc.OriginOf(context.WithValue(ctx, tracedPath{}, text)); got != want {
				b.Errorf("the origin of %q is %q, want %q", text, got, want)
			}
		}
		if got := b.service(redisidem.Config{}).OriginOf(ctx); got != "" {
			b.Errorf("without a tracer, the origin is %q", got)
		}
	})
}

func TestNamesOfSpans(t *testing.T) {
	t.Parallel()
	for kind, want := range map[redisidem.SpanKind]string{
		-1: "invalid", 0: "invalid", redisidem.SpanComplete + 1: "invalid", redisidem.SpanClaim: "claim", redisidem.SpanWait: "wait",
		redisidem.SpanStage: "stage", redisidem.SpanCommit: "commit", redisidem.SpanComplete: "complete",
	} {
		if got := kind.String(); got != want {
			t.Errorf("span %d is %q, want %q", int(kind), got, want)
		}
	}
}
