// Package caddyidem is a module of Caddy 2 that makes retries of HTTP requests safe: a request with
// an idempotency key reaches the handlers behind it once, and its retries get the same response.
//
// Build a Caddy with it and use the directive idempotency in a Caddyfile:
//
//	xcaddy build --with github.com/redisidem/redisidem/contrib/caddyidem
//
//	{
//		order idempotency after basic_auth
//	}
//
//	api.example.com {
//		basic_auth {
//			shop $2a$14$...
//		}
//		idempotency {
//			redis {env.REDIS_URL}
//			scope {http.auth.user.id}
//			retention 48h
//		}
//		reverse_proxy 10.0.0.7:8080
//	}
//
// Place it behind authentication, since the scope must name the authenticated caller, and in front
// of everything that works: with the order above also in front of handle and route blocks.
// [Handler] has every option, with the names of the JSON configuration. The subdirectives of the
// Caddyfile have the same names.
//
// # Differences from the gateway
//
// The handler has the policies of a gateway's route, except these:
//
//   - interrupted has no ask: a request whose outcome is unknown is refused or runs again. With run
//     it runs as soon as the lease of a Caddy that was killed is over.
//   - other_fingerprints: after a change of the fingerprint, retries of earlier requests get 422.
//     Caddy's reloads do not refuse the change.
//   - authorize: place a handler such as forward_auth in front.
//   - The service does not get Idempotency-Attempt and Idempotency-Fence. Those of a client are
//     removed, also from trailers.
//   - A safe method in methods, such as GET: if a kept connection breaks, reverse_proxy sends a
//     request without a body once more, also if it has a key.
//   - A time limit after which the client is answered with 504 and the upstream works on.
//   - Redis must answer and be fit for use when Caddy starts, and when a configuration with another
//     store is loaded. Otherwise the whole configuration is refused, with all its sites. A reload
//     that leaves the store as it is does not ask Redis. While Caddy runs, Redis may be away:
//     requests get 503, or pass with fail_open.
//
// Of the settings of a gateway, it has no secrets for fingerprints (fingerprint_key), no copies of
// answers in memory, and no console. TLS, CORS, tokens, trusted proxies and health checks are
// Caddy's own. A reload of Caddy does not refuse a change of key_from or key_prefix, under which a
// retry finds no record of the request before it, and it does not refuse to leave out an encryption
// key that stored values need. Those get 5xx.
//
// # Errors of handlers
//
// A handler that returns an error leaves the response to Caddy and its error routes. The response
// is not stored, and what error routes do is not protected. They can read the body again, unless it
// was in a file of spool_dir, which is gone by then. If reverse_proxy could not connect to any
// upstream, no work has begun, and a retry runs the handlers again. After any other error, and when
// an upstream breaks off, the work may have been done: the option interrupted decides about the
// retry. Without the option keep, a response of 401, 403, 408, 423, 425 or 429 is not stored
// either, and the retry runs.
//
// # Metrics
//
// With the global option metrics, Caddy's own endpoint has those of package promidem, and
//
//	redisidem_http_requests_total{result}  requests by result: see httpidem.Result
//
// All of them have the labels namespace and store, which differs between stores with one namespace.
package caddyidem
