package redisidem

import (
	"context"
	"log/slog"
)

// LogObserver is an [Observer] that logs events with slog. Its zero value is ready to use. A line
// has the kind of the event, the key's ID, flow, stage and attempt, and the [Reason] of an error.
//
// The levels are: Debug for claims, renewals, commits and replays; Info for refusals and for stages
// that ended without a result; Warn for leases that were lost, commits whose outcome is unknown,
// results that were not kept, flows that were failed, and refusals because Redis is unavailable,
// denies a right or lacks replicas, the record is damaged, or the outcome is unknown; Error for
// dead letters, dropped commits and hung stages.
type LogObserver struct {
	// Logger receives the lines. Default: slog.Default().
	Logger *slog.Logger
	// Level returns the level of an event. Default: the levels above.
	Level func(Event) slog.Level
	// ErrorText adds the text of an error. It may contain the application's own error text, and
	// with it data that must not be in a log. Default: false.
	ErrorText bool
}

// Observe implements [Observer].
func (o LogObserver) Observe(ctx context.Context, e Event) {
	log, level := o.Logger, LogLevel(e)
	if log == nil {
		log = slog.Default()
	}
	if o.Level != nil {
		level = o.Level(e)
	}
	if !log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 9)
	attrs = append(attrs, slog.String("event", e.Kind.String()), slog.String("key", e.Key))
	if e.Flow != "" {
		attrs = append(attrs, slog.String("flow", e.Flow))
	}
	if e.Stage != "" {
		attrs = append(attrs, slog.String("stage", e.Stage))
	}
	if e.Attempt > 0 {
		attrs = append(attrs, slog.Int("attempt", e.Attempt))
	}
	if e.RecoveryPoint != "" && e.RecoveryPoint != e.Stage {
		attrs = append(attrs, slog.String("recovery_point", e.RecoveryPoint))
	}
	if e.Duration > 0 {
		attrs = append(attrs, slog.Duration("took", e.Duration))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("reason", Reason(e.Err)))
		if o.ErrorText {
			attrs = append(attrs, attrErr(e.Err))
		}
	}
	log.LogAttrs(ctx, level, "redisidem: "+e.Kind.String(), attrs...)
}

// LogLevel returns the level at which a [LogObserver] logs an event by default.
func LogLevel(e Event) slog.Level {
	switch e.Kind {
	case EventRefused:
		switch Reason(e.Err) {
		case "unavailable", "not-permitted", "not-durable", "damaged", "outcome-unknown":
			return slog.LevelWarn
		}
		return slog.LevelInfo
	case EventCommitted:
		if e.Err != nil {
			return slog.LevelWarn
		}
		return slog.LevelDebug
	case EventAbandoned:
		return slog.LevelInfo
	case EventLeaseLost, EventOutcomeUnknown:
		return slog.LevelWarn
	case EventFailed:
		return slog.LevelWarn
	case EventDeadLettered, EventCommitDropped, EventHung:
		return slog.LevelError
	default:
		return slog.LevelDebug
	}
}
