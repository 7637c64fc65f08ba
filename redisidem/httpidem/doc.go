// Package httpidem makes retries of HTTP requests safe, with the idempotency keys of package
// redisidem, by a middleware for servers. It follows draft-ietf-httpapi-idempotency-key-header-07
// (expired).
//
// # What it guarantees
//
// For one key in one scope at most one answer is stored, and every request that is answered from
// the store gets that answer: the same status, the same stored fields, the same bytes. One handler
// runs at a time for a key; a second run can begin only after the first one ended with an answer
// that the policy does not store, or panicked, or lost its lease, as when its process died. An
// answer is stored before it is sent, and also when the client has gone. A request with another
// payload, and a request of another scope, never gets it.
//
// # What it does not
//
// What handlers do elsewhere happens at least once: a process can die between charging a card and
// storing that it did. From [Stage] a handler learns which attempt it is, and gets a fence and keys
// for its own calls, with which the other side can make that harmless. See package redisidem for
// what Redis can lose.
//
// # Server
//
// Make a [Middleware] with [New] and wrap handlers with [Middleware.Handler]: inside of
// authentication and rate limiting, so that their refusals bind no key, and that a caller whose
// rights were withdrawn gets no stored answer. The scope function names the authenticated caller.
// Another policy for another route is another Middleware on the same service.
//
// What is checked, in this order: the key's syntax, the scope, whether the caller may
// (Config.Authorize), the scope's quota (Config.Quota), the fingerprint, whether there is an
// answer, whether a request is in flight. Only then the handler runs. Its answer is held back until
// it is stored. An answer that cannot be held back, since it is flushed, hijacked or larger than
// the limit, is sent as it comes, and retries are answered with [ResultGone].
//
// The handler's context is not cancelled when the client goes away, but when the lease is lost,
// after the service's MaxHold, and with a deadline that was set outside of the middleware. Of
// requests the middleware stores method, path and fingerprint, and nothing else.
//
// # Clients
//
// Package [github.com/redisidem/redisidem/redisidem/idemclient] has the client side, and
// [github.com/redisidem/redisidem/redisidem/idemheader] the header fields of both sides.
package httpidem
