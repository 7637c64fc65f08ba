package redisidem_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestLogObserverWritesWhatHappened(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	handler := slog.NewTextHandler(&text, &slog.HandlerOptions{
		Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})
	secret := errors.New("secret text")
	full := redisidem.Event{
		Kind: redisidem.EventCommitted, Key: "id", Flow: "cart/1", Stage: "started", RecoveryPoint: "taxed", Attempt: 2, Duration: time.Second,
	}
	for _, c := range []struct {
		observer redisidem.LogObserver
		event    redisidem.Event
		want     string
	}{
		{redisidem.LogObserver{}, full, `level=DEBUG msg="redisidem: committed" event=committed key=id flow=cart/1 stage=started attempt=2 recovery_point=taxed took=1s`},
		{redisidem.LogObserver{}, redisidem.Event{Kind: redisidem.EventLeaseLost, Key: "id", Err: redisidem.ErrFenced}, `level=WARN msg="redisidem: lease-lost" event=lease-lost key=id reason=fenced`},
		{redisidem.LogObserver{}, redisidem.Event{Kind: redisidem.EventAbandoned, Err: secret}, `level=INFO msg="redisidem: abandoned" event=abandoned key="" reason=other`},
		{redisidem.LogObserver{ErrorText: true}, redisidem.Event{Kind: redisidem.EventAbandoned, Err: secret}, `level=INFO msg="redisidem: abandoned" event=abandoned key="" reason=other error="secret text"`},
		{redisidem.LogObserver{Level: func(redisidem.Event) slog.Level { return slog.LevelDebug - 1 }}, full, ""},
		{redisidem.LogObserver{Level: func(redisidem.Event) slog.Level { return slog.LevelError }}, redisidem.Event{Kind: redisidem.EventRenewed}, `level=ERROR msg="redisidem: renewed" event=renewed key=""`},
	} {
		text.Reset()
		c.observer.Logger = slog.New(handler)
		c.observer.Observe(ctx, c.event)
		if got := strings.TrimSpace(text.String()); got != c.want {
			t.Errorf("the line is\n%s\nwant\n%s", got, c.want)
		}
	}
}

func TestLevelsOfTheLog(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind redisidem.EventKind
		err  error
		want slog.Level
	}{
		{redisidem.EventClaimed, nil, slog.LevelDebug},
		{redisidem.EventCommitted, nil, slog.LevelDebug},
		{redisidem.EventCommitted, &redisidem.NotKeptError{}, slog.LevelWarn},
		{redisidem.EventReplayed, nil, slog.LevelDebug},
		{redisidem.EventRefused, redisidem.ErrLocked, slog.LevelInfo},
		{redisidem.EventRefused, redisidem.ErrUnavailable, slog.LevelWarn},
		{redisidem.EventRefused, errors.Join(redisidem.ErrUnavailable, context.Canceled), slog.LevelInfo},
		{redisidem.EventRefused, redisidem.ErrDamaged, slog.LevelWarn},
		{redisidem.EventRenewed, nil, slog.LevelDebug},
		{redisidem.EventLeaseLost, redisidem.ErrLeaseLost, slog.LevelWarn},
		{redisidem.EventOutcomeUnknown, nil, slog.LevelWarn},
		{redisidem.EventAbandoned, nil, slog.LevelInfo},
		{redisidem.EventDeadLettered, nil, slog.LevelError},
		{redisidem.EventCommitDropped, nil, slog.LevelError},
	} {
		if got := redisidem.LogLevel(redisidem.Event{Kind: c.kind, Err: c.err}); got != c.want {
			t.Errorf("%s with %v is logged at %v, want %v", c.kind, c.err, got, c.want)
		}
	}
}
