// Package idemclient makes HTTP requests safe to retry for clients of APIs that accept an
// Idempotency-Key.
//
// A [Transport] gives each request a fresh key. It retries the request with the same key after
// network errors, while an earlier attempt is in flight, and while the server is unavailable.
// [NewKey] and [NewTimeKey] make keys for other clients.
//
// The package works with any server that follows
// draft-ietf-httpapi-idempotency-key-header-07 (expired). It links no Redis.
package idemclient
