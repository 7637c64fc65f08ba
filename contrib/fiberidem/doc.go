// Package fiberidem makes the retries of requests to a Fiber (v3) app safe. It runs the middleware
// of package httpidem. See that package for its guarantees, for the answers that are stored, and
// for the settings. The order of the checks, header fields, problems, status policy and records are
// the same, so services with Fiber and with net/http can share a store.
//
// Make a [httpidem.Middleware] and pass it to [New]:
//
//	idem, err := httpidem.New(service, fiberidem.Scope(tenantOf), nil)
//	...
//	app := fiber.New()
//	app.Use(recover.New(), authenticate, fiberidem.New(idem))
//	app.Post("/charges", charge)
//
// # Order
//
// Middleware in front of New runs for every request, also for retries: recovery, logging,
// authentication, rate limits. Middleware behind it runs once for each key. Put middleware there
// that changes the answer or the error, or does the work.
//
// # Errors
//
// The app's own ErrorHandler answers an error of a handler behind New, so that this answer can be
// stored like any other. The middleware in front then gets no error.
//
// # Context
//
// [httpidem.Stage] finds the lease in c.Context(), not in c itself. Fiber does not notice that a
// client has disconnected; work is finished and stored in any case. c.Context() ends when the lease
// is lost, or at a deadline that was set in front.
//
// # Streams
//
// Fiber sends a stream after the handlers have returned. A stream whose known size fits into
// Config.MaxResponseBytes, such as a file, is read before that and stored. Any other stream is sent
// as it is written and not kept: retries get [httpidem.ResultGone]. The same holds for hijacked
// connections. The writer of a stream runs outside of the lease. Config.KeepFlushed has no effect
// here.
package fiberidem
