// Package idemheader has the header fields of idempotency keys over HTTP: their names, and
// functions that read and write a key. Servers
// ([github.com/redisidem/redisidem/redisidem/httpidem]) and clients
// ([github.com/redisidem/redisidem/redisidem/idemclient]) share it. It links no Redis.
//
// The syntax is that of draft-ietf-httpapi-idempotency-key-header-07 (expired).
package idemheader
