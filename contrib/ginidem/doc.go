// Package ginidem makes the retries of requests to a gin engine safe. It puts the middleware of
// package httpidem around the handlers of a gin chain. See that package for its guarantees, for the
// answers that are stored, and for the settings.
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
// authentication, rate limits. Middleware behind it runs once for each key. Put middleware there
// that reads the body, changes the answer or does the work.
//
// A middleware that answers for c.Errors belongs behind New. In front of New it would answer after
// the record was written; see New for the consequences.
//
// # Context
//
// [httpidem.Stage] finds the lease in c.Request.Context(), as it does in c itself if the engine has
// ContextWithFallback. The context outlives the client's connection; see package httpidem.
package ginidem
