// Package caddyidem is a module of Caddy 2 that makes retries of HTTP requests safe: a request with
// an idempotency key reaches the handlers behind it once, and its retries get the same response.
//
// Build a Caddy with it and use the directive idempotency in a Caddyfile:
//
//	xcaddy build --with github.com/redisidem/redisidem/contrib/caddyidem
//
//	{
//		order idempotency before reverse_proxy
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
// Place it behind authentication, since the scope must name the authenticated caller. [Handler] has
// every option, with the names of the JSON configuration. The subdirectives of the Caddyfile have
// the same names.
//
// # Errors of handlers
//
// A handler that returns an error leaves the response to Caddy. It is not stored. If it is an error
// with a status of 400 to 498, or if reverse_proxy could not connect to its upstream, no work has
// begun, and a retry runs the handlers again. After any other error the work may have been done, as
// when an upstream breaks off. The option interrupted then decides about the retry.
//
// # Metrics
//
// With the global option metrics, Caddy's own endpoint has those of package promidem, and
//
//	redisidem_http_requests_total{result}  requests by result: see httpidem.Result
//
// All of them have the label namespace.
package caddyidem
