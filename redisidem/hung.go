package redisidem

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// errStageTimeout is the reason in an EventHung of a stage that ignores its Timeout.
var errStageTimeout = errors.New("redisidem: stage runs longer than its Timeout")

// watchHung reports a run of the stage as hung if it has not returned one Lease after the timeout
// of its context. The returned function is called when the run has returned.
func (l *Lease) watchHung(timeout time.Duration) (returned func()) {
	timer := time.AfterFunc(timeout+l.scope.service.cfg.Lease, func() { l.reportHung(errStageTimeout) })
	return func() {
		timer.Stop()
		l.endHung()
	}
}

// reportHung reports that a callback is still running although its context ended long ago. It is
// reported once for each run.
func (l *Lease) reportHung(cause error) {
	l.mu.Lock()
	if !l.working.Load() || l.hung {
		l.mu.Unlock()
		return
	}
	l.hung = true
	since := l.since
	l.mu.Unlock()
	if l.onHung != nil {
		l.onHung(true)
	}
	s := l.scope.service
	e := l.event(EventHung)
	e.Scope, e.Duration, e.Err = l.id.Scope, time.Since(since), cause
	ctx := context.WithoutCancel(l.ctx)
	s.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: a stage goes on although its context has ended", attrKey(l.id),
		slog.String("flow", e.Flow), slog.String("stage", e.Stage), slog.Time("since", since), attrErr(cause))
	s.observe(ctx, e)
}

// endHung follows a callback that has returned, which may have been reported as hung.
func (l *Lease) endHung() {
	l.mu.Lock()
	was := l.hung
	l.hung = false
	l.mu.Unlock()
	if was && l.onHung != nil {
		l.onHung(false)
	}
}

// isHung reports whether the lease's callback was reported as hung and has not returned.
func (l *Lease) isHung() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hung
}
