package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// observer returns a Config.Observer for a policy.
func (g *Gateway) observer(p *Policy) func(context.Context, httpidem.Event) {
	return func(ctx context.Context, e httpidem.Event) { g.observe(ctx, p, e) }
}

// observe records the result of a request, and logs failures of the protection.
func (g *Gateway) observe(ctx context.Context, p *Policy, e httpidem.Event) {
	if e.Late {
		g.metrics.countLate(requestLogOf(ctx), e.Result)
		g.logLate(ctx, e)
	} else {
		n := requestLogOf(ctx)
		n.result, n.key = e.Result, e.KeyID()
	}
	if e.Result == httpidem.ResultNotAllowed && e.Status == http.StatusServiceUnavailable {
		g.log.LogAttrs(ctx, slog.LevelWarn, "upstream did not report whether a caller is authorized", slog.Any("error", e.Err))
	}
	switch e.Result { //nolint:exhaustive // all others are in order
	case httpidem.ResultOutcomeUnknown:
		g.log.LogAttrs(ctx, slog.LevelWarn, "the outcome of a request is unknown", slog.String("key", e.KeyID()),
			slog.String("route", requestLogOf(ctx).route), slog.String("retries", p.retriesOfUnknown()))
	case httpidem.ResultOpened:
		g.metrics.open.Inc()
		g.log.LogAttrs(ctx, slog.LevelError, "request forwarded without protection", slog.Any("error", e.Err))
	case httpidem.ResultSpoolUnavailable:
		if errors.Is(e.Err, httpidem.ErrSpoolFull) {
			g.log.LogAttrs(ctx, slog.LevelWarn, "the spool is full", slog.Int64("spool_bytes", g.spool.MaxBytes()))
			break
		}
		g.log.LogAttrs(ctx, slog.LevelError, "the spool cannot be used", slog.Any("error", e.Err))
	case httpidem.ResultUnavailable, httpidem.ResultUnacknowledged, httpidem.ResultSuperseded, httpidem.ResultFailed:
		g.log.LogAttrs(ctx, slog.LevelError, "request failed in the idempotency layer", slog.String("result", e.Result.String()),
			slog.Any("error", e.Err))
	}
}

// retriesOfUnknown says for operators what happens to retries of a request whose outcome is
// unknown.
func (p *Policy) retriesOfUnknown() string {
	switch p.Interrupted {
	case "run":
		return "are forwarded again"
	case "ask":
		return "ask the upstream for the outcome; if it does not report one: " + howToSettle
	}
	return "wait for a decision: " + howToSettle
}

// logLate logs the result of a request whose client was answered before, at the time limit.
func (g *Gateway) logLate(ctx context.Context, e httpidem.Event) {
	level := slog.LevelWarn
	if e.Result == httpidem.ResultExecuted {
		level = slog.LevelInfo // the retry gets the response
	}
	g.log.LogAttrs(ctx, level, "request ended after its client was answered", slog.String("key", e.KeyID()),
		slog.String("result", e.Result.String()), slog.Int("status", e.Status))
}
