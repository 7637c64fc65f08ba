package idemclient

// RetryAfterOf returns the delay that a response asks for.
var RetryAfterOf = retryAfter
