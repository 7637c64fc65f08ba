// Package otelidem reports the work of package redisidem to OpenTelemetry, as spans and metrics.
//
//	observer, err := otelidem.New(nil) // the global providers
//	svc, err := redisidem.Open(ctx, url, &redisidem.Config{Observer: observer})
//
// # Spans
//
//	redisidem claim       asking for the lease on a key, until there is an answer
//	redisidem wait        inside of a claim: waiting for another worker
//	redisidem stage NAME  the callback of a stage; the work inside hangs under it
//	redisidem commit      storing the outcome of a stage
//	redisidem complete    a completer's work on a key, in the trace of the key's first request
//
// Their attributes are redisidem.key.id, redisidem.flow, redisidem.stage, redisidem.attempt,
// redisidem.outcome and, after an error, error.type with a word of [redisidem.Reason]. A span has
// the status Error if its work failed, but not if the key is locked, the request is another one, or
// the caller left. Lost leases, unknown outcomes, dropped commits, failed stages and dead letters
// are also events of the span that is open at that time. Keys, scopes and bodies are never
// reported.
//
// # Metrics
//
//	redisidem.events              counter, {event}
//	redisidem.operation.duration  histogram, s: the duration of the spans
//	redisidem.leases.held         up-down counter, {lease}: leases that this process holds
//	redisidem.stages.hung         up-down counter, {stage}: stages that outlive their contexts
//	redisidem.commits.pending     up-down counter, {commit}: commits that are being retried
//	redisidem.copies              up-down counter, {copy}: copies of finished records
//	redisidem.copies.size         up-down counter, By: the memory of these copies
//	redisidem.copies.lookups      counter, {lookup}: by redisidem.copies.hit
//
// The first two have the attributes redisidem.flow, redisidem.stage and error.type. Events also
// have redisidem.event, and durations redisidem.operation, a kind of span, and redisidem.outcome.
// The last five need [Observer.ObserveProcess].
package otelidem
