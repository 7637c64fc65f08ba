package caddyidem

import (
	"context"
	"log/slog"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap/exp/zapslog"
)

// currentLog writes to the log of Caddy's present configuration. A store outlives the configuration
// that opened it, and with that one's log its messages would be lost.
type currentLog struct {
	// with is what WithAttrs and WithGroup have added, in their order.
	with []func(slog.Handler) slog.Handler
}

// present returns the handler of the present log.
func (l currentLog) present() slog.Handler {
	var h slog.Handler = zapslog.NewHandler(caddy.Log().Core(), zapslog.WithName("http.handlers.idempotency"))
	for _, add := range l.with {
		h = add(h)
	}
	return h
}

func (l currentLog) and(add func(slog.Handler) slog.Handler) slog.Handler {
	return currentLog{append(l.with[:len(l.with):len(l.with)], add)}
}

// Enabled implements [slog.Handler].
func (l currentLog) Enabled(ctx context.Context, level slog.Level) bool {
	return l.present().Enabled(ctx, level)
}

// Handle implements [slog.Handler].
func (l currentLog) Handle(ctx context.Context, r slog.Record) error {
	return l.present().Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (l currentLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return l.and(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

// WithGroup implements [slog.Handler].
func (l currentLog) WithGroup(name string) slog.Handler {
	return l.and(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}
