package idemheader

// The names of the header fields.
const (
	// Key carries the idempotency key of a request, and is echoed in its response. Servers and
	// clients can be configured to use another field.
	Key = "Idempotency-Key"
	// Replayed is true on each response that an earlier request with the same key received, and is
	// absent from every other response.
	Replayed = "Idempotency-Replayed"
	// Problem is set on each error response of the idempotency layer itself, with the kind of
	// problem as its value, such as in-flight. A middleware in front that finds it on a response
	// does not store that response.
	Problem = "Idempotency-Problem"
	// Retention is how long responses are stored, in whole seconds, if the server publishes it.
	Retention = "Idempotency-Retention"
	// Attempt and Fence are set by a gateway on the requests with a key that it sends to a service:
	// the number of the attempt, counted from 1, and the number of the lease, which grows with each
	// lease of a key, so that the service can refuse older ones. A service that trusts them must be
	// behind a gateway that removes those of clients.
	Attempt = "Idempotency-Attempt"
	Fence   = "Idempotency-Fence"
)
