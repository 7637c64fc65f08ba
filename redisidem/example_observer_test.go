package redisidem_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/redisidem/redisidem/redisidem"
)

// counter counts events by their kind, as a metric would. Its callers run concurrently in production,
// so that it would need a mutex or atomic counters.
type counter map[redisidem.EventKind]int

func (c counter) Observe(_ context.Context, e redisidem.Event) { c[e.Kind]++ }

// An observer receives every event of a service, for metrics, traces and logs.
func ExampleObserver() {
	addr, stop := embeddedRedis()
	defer stop()
	ctx := context.Background()
	events := counter{}
	svc, err := redisidem.Open(ctx, "redis://"+addr, &redisidem.Config{Observer: events})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close(ctx) }()

	for attempt := range 3 { // a failure, a success, and a replay
		_, _ = svc.Scope("tenant-42").Do(ctx, "key-from-the-client", redisidem.Request{Method: "POST", Path: "/mails"},
			func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if attempt == 0 {
					return redisidem.Outcome{}, errors.New("the mail server is away")
				}
				return redisidem.Finish(redisidem.Response{Code: 204}), nil
			})
	}
	for _, kind := range []redisidem.EventKind{
		redisidem.EventClaimed, redisidem.EventAbandoned, redisidem.EventCommitted, redisidem.EventReplayed,
	} {
		fmt.Println(kind, events[kind])
	}
	// Output:
	// claimed 2
	// abandoned 1
	// committed 1
	// replayed 1
}
