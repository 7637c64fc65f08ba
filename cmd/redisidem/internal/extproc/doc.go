// Package extproc serves Envoy as an external processor (ext_proc), so that an Envoy makes the
// retries of its clients safe without another hop for the requests themselves.
//
// For each request, Envoy opens a stream and sends the headers, the body, and later the response.
// [NewHandler] runs an HTTP handler, the gateway's, for each stream. [Transport] takes the place of
// the connection to the upstream: a round trip lets Envoy continue, and returns the response that
// Envoy reports. So the policies, scopes and metrics are those of the gateway.
//
// Bodies of requests with keys, and of their responses, must be buffered by Envoy. See
// docs/gateway.md for the configuration of Envoy.
package extproc
