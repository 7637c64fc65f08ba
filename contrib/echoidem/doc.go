// Package echoidem makes retries of requests to an Echo (v5) server safe. It runs Echo's handlers
// inside of the middleware of package httpidem, which documents the guarantees, the stored
// responses and the settings.
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
// authentication, rate limits. Middleware behind New runs once for each key. Place middleware
// behind New if it reads the body, changes the response or the error, or does the work.
//
// # Errors
//
// The HTTPErrorHandler of Echo answers an error of a handler behind New, so that this response is
// stored like any other. echo.WrapMiddleware would store an empty success instead. The error is
// still returned to the middleware in front, for logs and metrics. A custom HTTPErrorHandler must
// check whether the response is committed, as the default does.
//
// # Context
//
// [httpidem.Stage] finds the lease in c.Request().Context(). This context does not end when the
// client disconnects: see package httpidem.
package echoidem
