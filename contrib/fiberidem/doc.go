// Package fiberidem makes retries of requests to a Fiber (v3) app safe. It runs the middleware of
// package httpidem, which documents the guarantees, the stored responses and the settings. The
// order of the checks, header fields, problems, status policy and records are the same. Services
// with Fiber and with net/http can therefore share a store.
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
// authentication, rate limits. Middleware behind New runs once for each key. Place middleware
// behind New if it changes the response or the error, or does the work.
//
// # Errors
//
// The ErrorHandler of the app answers an error of a handler behind New, so that this response is
// stored like any other. The middleware in front then gets no error.
//
// # Context
//
// [httpidem.Stage] finds the lease in c.Context(), not in c itself. Fiber does not notice that a
// client has disconnected. The work is finished and stored in any case. c.Context() ends when the
// lease is lost, or at a deadline that was set in front.
//
// # Streamed requests
//
// With StreamRequestBody, handlers behind New get the whole body as a stream. c.Body() reads it
// into memory, and c.Request().BodyStream() does not. A body in a file of Config.Spool stays there
// until the handlers have returned. Without StreamRequestBody, Fiber holds each body in memory
// before New runs, so a Spool saves no memory. For middleware in front, a stream that New has read
// is empty afterwards if no handler has run, if its file was removed, or if the handlers have not
// read a too large one to its end. If New refuses a request whose stream it has not read, the
// connection is closed after the response.
//
// # Streamed responses
//
// Fiber sends a stream after the handlers have returned. A stream whose known size fits into
// Config.Response.MaxBytes, such as a file, is read before that and stored. Any other stream is
// sent as it is written, and is not stored: retries are answered with [httpidem.ResultGone]. The
// same applies to hijacked connections. The writer of a stream runs outside of the lease.
// Config.Response.KeepFlushed has no effect.
package fiberidem
