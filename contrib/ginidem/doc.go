// Package ginidem makes retries of requests to a gin engine safe. It runs the handlers of a gin
// chain inside of the middleware of package httpidem, which documents the guarantees, the stored
// responses and the settings.
//
// Make a [httpidem.Middleware] and pass it to [New]:
//
//	idem, err := httpidem.New(service, ginidem.Scope(tenantOf), nil)
//	...
//	r := gin.New()
//	r.Use(gin.Recovery(), authenticate, ginidem.New(idem))
//	r.POST("/charges", charge)
//
// # Order
//
// Middleware in front of New runs for every request, also for retries: recovery, logging,
// authentication, rate limits. Middleware behind New runs once for each key. Place middleware
// behind New if it reads the body, changes the response or does the work.
//
// A middleware that answers for c.Errors belongs behind New. In front of New it would answer after
// the record was written: see New for the consequences.
//
// # Context
//
// [httpidem.Stage] finds the lease in c.Request.Context(). It also finds it in c itself if the
// engine has ContextWithFallback. The context does not end when the client disconnects: see package
// httpidem.
package ginidem
