package sim

import (
	"context"
	"fmt"

	"github.com/redisidem/redisidem/redisidem"
)

// traced is the context key for the traceparent of a call.
type traced struct{}

// traced returns the context of a new call about a key.
func (w *worker) traced(key string) context.Context {
	traceparent := fmt.Sprintf("00-%032x-%016x-01", w.world.tick(), w.number+1)
	w.world.mu.Lock()
	defer w.world.mu.Unlock()
	w.world.origins[traceparent] = key
	return context.WithValue(context.Background(), traced{}, traceparent)
}

// Origin implements [redisidem.Tracer].
func (w *worker) Origin(ctx context.Context) string {
	traceparent, _ := ctx.Value(traced{}).(string)
	return traceparent
}

// StartSpan implements [redisidem.Tracer]. It checks that a completer continues the trace of a call
// that made the key.
func (w *worker) StartSpan(ctx context.Context, s redisidem.Span) context.Context {
	if s.Kind != redisidem.SpanComplete {
		return ctx
	}
	c := w.world.history
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count.Traced++
	if key := c.origins[s.Origin]; key == "" || w.world.ids[key] != s.Key {
		c.violated("a completer continues the trace %q, which is of %q, for the key %s", s.Origin, key, s.Key)
	}
	return ctx
}

// EndSpan implements [redisidem.Tracer].
func (w *worker) EndSpan(context.Context, error) {}
