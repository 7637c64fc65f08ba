// Package fiberidem makes the retries of requests to a Fiber (v3) app safe. What it guarantees and
// what it does not, which answers are stored, and how to tune all that is told in package httpidem,
// whose middleware it drives: the order of the checks, header fields, problems, status policy and
// records are the same, so that services with Fiber and with net/http can share a store.
//
// Make a [httpidem.Middleware] and hand it to [New]:
//
//	idem, err := httpidem.New(service, fiberidem.Scope(tenantOf), nil)
//	...
//	app := fiber.New()
//	app.Use(recover.New(), authenticate, fiberidem.New(idem))
//	app.Post("/charges", charge)
//
// # Order
//
// What is used before New runs for every request, also for retries: recovery, logging,
// authentication, rate limits. What is used after it runs once for each key: whatever changes the
// answer or the error, or does the work.
//
// # Errors
//
// An error that a handler returns is answered inside, by the app's own ErrorHandler, so that this
// answer can be stored like any other. The middleware in front gets no error then.
//
// # Context
//
// [httpidem.Stage] finds the lease in c.Context(), not in c itself. Fiber does not notice that a
// client has gone; work is finished and stored in any case. c.Context() ends when the lease is
// lost, and with a deadline that was set in front.
//
// # Answers that are streams
//
// Fiber sends a stream after the handlers have returned. One of a known size that fits into
// Config.MaxResponseBytes, as a file mostly is, is read before that and stored. Any other is sent
// as it comes and not kept: retries get [httpidem.ResultGone]. That goes for hijacked connections, too.
// Whatever work the writer of a stream does, it does outside of the lease. Config.KeepFlushed
// changes nothing here.
package fiberidem
