// Package echoidem makes the retries of requests to an Echo (v5) server safe. It puts the
// middleware of package httpidem around Echo's handlers. See that package for its guarantees, for
// the answers that are stored, and for the settings.
//
// Make a [httpidem.Middleware] and pass it to [New]:
//
//	idem, err := httpidem.New(service, echoidem.Scope(tenantOf), nil)
//	...
//	e := echo.New()
//	e.Use(middleware.Recover(), authenticate, echoidem.New(idem))
//	e.POST("/charges", charge)
//
// # Order
//
// Middleware in front of New runs for every request, also for retries: recovery, logging,
// authentication, rate limits. Middleware behind it runs once for each key. Put middleware there
// that reads the body, changes the answer or the error, or does the work.
//
// # Errors
//
// Echo's own HTTPErrorHandler answers an error of a handler behind New, so that this answer can be
// stored like any other. echo.WrapMiddleware does not do that: it would store an empty success. The
// error is still returned to the middleware in front, for logs and metrics. Like Echo's own, an
// HTTPErrorHandler must check whether the response is committed.
//
// # Context
//
// [httpidem.Stage] finds the lease in c.Request().Context(). This context outlives the client's
// connection; see package httpidem.
package echoidem
