package redisidem_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/redisidem/redisidem/redisidem"
)

// Several observers see the same events: one logs them, one counts them.
func ExampleLogObserver() {
	addr, stop := embeddedRedis()
	defer stop()
	ctx := context.Background()
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "key" || a.Key == "took" { // they differ in each run
				return slog.Attr{}
			}
			return a
		},
	}))
	events := counter{}
	svc, err := redisidem.Open(ctx, "redis://"+addr, &redisidem.Config{
		Observer: redisidem.Observers(redisidem.LogObserver{Logger: log}, events),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close(ctx) }()

	for _, path := range []string{"/mails", "/letters"} { // another request with the same key is refused
		_, _ = svc.Scope("tenant-42").Do(ctx, "key-from-the-client", redisidem.Request{Method: "POST", Path: path},
			func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Finish(redisidem.Response{Code: 204}), nil
			})
	}
	fmt.Println(events[redisidem.EventCommitted], "committed")
	// Output:
	// level=INFO msg="redisidem: refused" event=refused reason=mismatch
	// 1 committed
}
