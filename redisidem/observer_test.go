package redisidem_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// nervous is an observer that panics at one kind of event, or at all with 0.
type nervous redisidem.EventKind

func (n nervous) Observe(_ context.Context, e redisidem.Event) {
	if n == 0 || e.Kind == redisidem.EventKind(n) {
		panic(e.Kind)
	}
}

// TestUnsetObserverCostsNothing counts what an event allocates for a service without an observer.
func TestUnsetObserverCostsNothing(t *testing.T) {
	svc, err := redisidem.OpenUnchecked("redis://127.0.0.1:1", nil)
	mustBe(t, err, nil)
	event := redisidem.Event{Kind: redisidem.EventClaimed, Err: errStage}
	if n := testing.AllocsPerRun(1000, func() { svc.Observe(ctx, event) }); n != 0 {
		t.Errorf("an event without an observer allocates %v times", n)
	}
	mustBe(t, svc.Close(ctx), nil)
}

// TestObserverThatPanicsIsLogged has an observer that panics at each event, in the goroutines of
// callers, renewers, completers and background commits.
func TestObserverThatPanicsIsLogged(t *testing.T) {
	inBubble(t, func(b *bubble) {
		text := &logText{}
		log := slog.New(slog.NewTextHandler(text, nil))
		svc := b.service(redisidem.Config{Observer: nervous(0), Logger: log})
		sc := svc.Scope("a")
		// The lease is renewed, and the commit loses its replies.
		key, err := sc.Do(ctx, "slow", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			time.Sleep(2 * redisidem.DefaultLease)
			return redisidem.Finish(redisidem.JSON(200, "done")), nil
		})
		mustBe(b, err, nil)
		if !key.Finished() {
			b.Errorf("the key is at %q", key.RecoveryPoint)
		}
		_, err = sc.Do(ctx, "slow", request, never(b)) // a replay
		mustBe(b, err, nil)
		_, err = sc.Do(ctx, "slow", redisidem.Request{Method: "PUT"}, never(b))
		mustBe(b, err, redisidem.ErrFingerprintMismatch)
		_, err = sc.Do(ctx, "unknown", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			b.mute()
			return redisidem.Finish(redisidem.JSON(200, "done")), nil
		})
		mustBe(b, err, redisidem.ErrOutcomeUnknown)
		b.thaw()
		time.Sleep(time.Minute)
		_, err = sc.Do(ctx, "dropped", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			b.mute()
			return redisidem.Finish(redisidem.JSON(200, "done")), nil
		})
		mustBe(b, err, redisidem.ErrOutcomeUnknown)
		time.Sleep(time.Hour)
		b.thaw()
		_, err = sc.Do(ctx, "lost", request, func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
			mustBe(b, sc.Unlock(ctx, "lost"), nil)
			<-ctx.Done()
			return redisidem.Outcome{}, ctx.Err()
		})
		mustBe(b, err, redisidem.ErrLeaseLost)
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.MaxAttempts = 1
			c.Stages[0].Work = fails(errStage)
		}))
		_, err = sc.DoFlow(ctx, "dead", request, flow)
		mustBe(b, err, errStage)
		time.Sleep(time.Minute)
		mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, DeadLettered: 1})
		for kind := redisidem.EventClaimed; kind <= redisidem.EventCommitDropped; kind++ {
			if !strings.Contains(text.String(), "the observer panicked\" event="+kind.String()+" ") {
				b.Errorf("the panic at %s is not logged", kind)
			}
		}
	})
}

// logText is a log that goroutines write.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestEventsNameFlowAndStage(t *testing.T) {
	inBubble(t, func(b *bubble) {
		events := &recorder{}
		sc := b.service(redisidem.Config{Observer: events}).Scope("a")
		flow := mustFlow(b, cart())
		for range 2 {
			_, err := sc.DoFlow(ctx, "k", request, flow)
			mustBe(b, err, nil)
		}
		_, err := sc.Do(ctx, "without", request, finish("done"))
		mustBe(b, err, nil)
		var got []string
		for _, e := range events.events {
			got = append(got, fmt.Sprintf("%s %s %s>%s", e.Kind, e.Flow, e.Stage, e.RecoveryPoint))
		}
		want := []string{
			"claimed cart/1 started>started", "committed cart/1 started>taxed", "committed cart/1 taxed>paid", "committed cart/1 paid>ordered",
			"committed cart/1 ordered>finished", "replayed cart/1 >finished", "claimed  started>started", "committed  started>finished",
		}
		if !slices.Equal(got, want) {
			b.Errorf("the events are %q, want %q", got, want)
		}
	})
}

func TestNamesOfEvents(t *testing.T) {
	t.Parallel()
	for kind, want := range map[redisidem.EventKind]string{
		-1: "invalid", 0: "invalid", redisidem.EventHung + 1: "invalid",
		redisidem.EventClaimed: "claimed", redisidem.EventCommitted: "committed", redisidem.EventReplayed: "replayed",
		redisidem.EventRefused: "refused", redisidem.EventRenewed: "renewed", redisidem.EventLeaseLost: "lease-lost",
		redisidem.EventOutcomeUnknown: "outcome-unknown", redisidem.EventAbandoned: "abandoned",
		redisidem.EventDeadLettered: "dead-lettered", redisidem.EventCommitDropped: "commit-dropped", redisidem.EventFailed: "failed",
		redisidem.EventHung: "hung",
	} {
		if got := kind.String(); got != want {
			t.Errorf("event %d is %q, want %q", int(kind), got, want)
		}
	}
}

func TestReplayFromACopySaysSo(t *testing.T) {
	inBubble(t, func(b *bubble) {
		events := &recorder{}
		svc := warm(b, b.service(copies(func(c *redisidem.Config) { c.Observer = events })))
		for range 2 {
			_, err := svc.Scope("a").Do(ctx, "k", request, finish("done"))
			mustBe(b, err, nil)
		}
		_, err := b.service(redisidem.Config{Observer: events}).Scope("a").Do(ctx, "k", request, never(b))
		mustBe(b, err, nil)
		var got []string
		all := events.all()[2:] // the first ones are of warm
		for i := range all {
			got = append(got, fmt.Sprint(all[i].Kind, " ", all[i].FromCopy))
		}
		if want := []string{"claimed false", "committed false", "replayed true", "replayed false"}; !slices.Equal(got, want) {
			b.Errorf("the events are %q, want %q", got, want)
		}
	})
}
