// Package httpidem is net/http middleware that makes retries of HTTP requests safe, with the
// idempotency keys of package redisidem. It follows draft-ietf-httpapi-idempotency-key-header-07
// (expired).
//
// # Guarantees
//
// At most one response is stored for a key in a scope. Every request that is answered from the
// store gets that response: the same status, the same stored fields and the same bytes. A response
// is stored before it is sent, and also if the client has disconnected. A request with another
// payload, or of another scope, never gets it.
//
// Only one handler runs at a time for a key. A second run can start only after the first one
// panicked, lost its lease, or ended with a response that the policy does not store. A process that
// dies loses its leases.
//
// # Limits
//
// Effects of a handler outside of the store happen at least once. A process can die after it
// charged a card and before it stored that. [Stage] gives the handler the number of its attempt, a
// fence and keys for its own calls. With them the other service can recognise a repetition. Package
// redisidem documents what Redis can lose.
//
// # Use
//
// Make a [Middleware] with [New], and wrap handlers with [Middleware.Handler]. Place it inside of
// authentication and rate limiting. Their refusals then use up no key, and a caller whose rights
// were withdrawn gets no stored response. The scope function returns the name of the authenticated
// caller. For a route with another policy, make another Middleware on the same service.
//
// [NewWebhook] makes the middleware for events that another service delivers and signs.
//
// The checks come in this order:
//
//   - the signature of a webhook
//   - the syntax of the key
//   - the scope
//   - the rights of the caller (Config.Authorize)
//   - the quota of the scope (Config.Quota)
//   - the fingerprint
//   - a stored response
//   - a request in flight
//
// The handler runs only after all of them. Its response is held back until it is stored. A response
// that is flushed, hijacked or larger than the limit cannot be held back. It is sent as it is
// written, and retries are answered with [ResultGone].
//
// The handler's context does not end when the client disconnects, unless Config.CancelWithClient is
// set. It ends when the lease is lost, after the service's MaxHold, and at a deadline that was set
// outside of the middleware.
//
// Of a request to a handler, the middleware stores only the method, the path and the fingerprint.
//
// # Clients
//
// Package [github.com/redisidem/redisidem/redisidem/idemclient] is the client side. Package
// [github.com/redisidem/redisidem/redisidem/idemheader] has the header fields of both sides.
package httpidem
