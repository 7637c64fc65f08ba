package redisidem_test

import (
	"context"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

func TestObserversAllGetEachEvent(t *testing.T) {
	inBubble(t, func(b *bubble) {
		first, last := &recorder{}, &recorder{}
		all := redisidem.Observers(first, nil, nervous(0), last)
		if _, ok := all.(redisidem.Tracer); ok {
			b.Error("observers without a tracer are a tracer")
		}
		_, err := b.service(redisidem.Config{Observer: all}).Scope("a").Do(ctx, "k", request, finish("done"))
		mustBe(b, err, nil)
		if len(first.events) != 2 || len(last.events) != 2 {
			b.Errorf("events: %v and %v", first.kinds(), last.kinds())
		}
	})
}

// own is a tracer with a value of its own in the context.
type own struct {
	tracer
	origin string
}

type ownValue struct{ of *own }

func (o *own) StartSpan(ctx context.Context, s redisidem.Span) context.Context {
	o.write("start " + s.Kind.String())
	return context.WithValue(ctx, ownValue{o}, s.Kind.String())
}

func (o *own) EndSpan(ctx context.Context, _ error) {
	kind, _ := ctx.Value(ownValue{o}).(string)
	o.write("end " + kind)
}

func (o *own) Origin(context.Context) string { return o.origin }

func TestObserversTraceWithEachTracer(t *testing.T) {
	inBubble(t, func(b *bubble) {
		const origin = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		first, second, events := &own{}, &own{origin: origin}, &recorder{}
		svc := b.service(redisidem.Config{Observer: redisidem.Observers(events, first, badTracer{silent: true}, second)})
		_, err := svc.Scope("a").Do(ctx, "k", request, finish("done"))
		mustBe(b, err, nil)
		for _, o := range []*own{first, second} {
			o.mustHave(b, "start claim", " ! claimed", "end claim", "start stage", "end stage", "start commit", " ! committed", "end commit")
		}
		if len(events.events) != 2 {
			b.Errorf("events: %v", events.kinds())
		}
	})
}

func TestObserversHaveTheFirstOrigin(t *testing.T) {
	t.Parallel()
	for want, all := range map[string][]redisidem.Observer{
		"b": {&own{}, &own{origin: "b"}, &own{origin: "c"}}, "": {&own{}},
	} {
		tracer, ok := redisidem.Observers(all...).(redisidem.Tracer)
		if !ok {
			t.Fatal("the observers are no tracer")
		}
		if got := tracer.Origin(ctx); got != want {
			t.Errorf("the origin is %q, want %q", got, want)
		}
	}
}
