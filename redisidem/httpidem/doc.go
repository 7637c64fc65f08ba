// Package httpidem makes retries of HTTP requests safe, with the idempotency keys of package redisidem: a middleware for servers
// and a RoundTripper for clients. It is modelled on draft-ietf-httpapi-idempotency-key-header-07 (expired).
package httpidem
