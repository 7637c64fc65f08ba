package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/telemetry"
)

// lastExport bounds the last export of telemetry, at the end of the program.
const lastExport = 5 * time.Second

// startTelemetry starts what OTEL_* variables ask for. end exports what is left. A collector that
// is away does not fail the program.
func startTelemetry(ctx context.Context, log *slog.Logger) (t *telemetry.Telemetry, end func(), err error) {
	if t, err = telemetry.Start(ctx, log); err != nil {
		return nil, nil, err
	}
	return t, func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastExport)
		defer cancel()
		if err := t.Shutdown(last); err != nil {
			log.Warn("the last telemetry was not exported", "error", err)
		}
	}, nil
}
