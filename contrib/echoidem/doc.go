// Package echoidem makes the retries of requests to an Echo (v5) server safe: it puts the
// middleware of package httpidem around Echo's handlers. What it guarantees and what it does not,
// which answers are stored, and how to tune all that is told there.
//
// Make a [httpidem.Middleware] and hand it to [New]:
//
//	idem, err := httpidem.New(service, echoidem.Scope(tenantOf), nil)
//	...
//	e := echo.New()
//	e.Use(middleware.Recover(), authenticate, echoidem.New(idem))
//	e.POST("/charges", charge)
//
// # Order
//
// Middleware that is used before New runs for every request, also for retries: recovery, logging,
// authentication, rate limits. What is used after it runs once for each key: whatever reads the
// body, changes the answer or the error, or does the work.
//
// # Errors
//
// An error that a handler returns is answered inside, by Echo's own HTTPErrorHandler, so that this
// answer can be stored like any other. That is what echo.WrapMiddleware does not do: it would store
// an empty success. The error is still returned to the middleware in front, for logs and metrics;
// as with Echo's own, an HTTPErrorHandler must see that the response is committed.
//
// # Context
//
// [httpidem.Stage] finds the lease in c.Request().Context(). This context outlives the client's
// connection; see package httpidem.
package echoidem
