// Package ginidem makes the retries of requests to a gin engine safe: it puts the middleware of
// package httpidem around the handlers of a gin chain. What it guarantees and what it does not,
// which answers are stored, and how to tune all that is told there.
//
// Make a [httpidem.Middleware] and hand it to [New]:
//
//	idem, err := httpidem.New(service, ginidem.Scope(tenantOf), nil)
//	...
//	r := gin.New()
//	r.Use(gin.Recovery(), authenticate, ginidem.New(idem))
//	r.POST("/charges", charge)
//
// # Order
//
// What stands before New in the chain runs for every request, also for retries: recovery, logging,
// authentication, rate limits. What stands behind it runs once for each key: whatever reads the
// body, changes the answer or does the work.
//
// A middleware that answers for c.Errors belongs behind New. In front of it, it would answer after
// the record was written: see New for what happens then.
//
// # Context
//
// [httpidem.Stage] finds the lease in c.Request.Context(), as it does in c itself if the engine has
// ContextWithFallback. The context outlives the client's connection; see package httpidem.
package ginidem
