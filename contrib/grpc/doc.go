// Package grpcidem makes retries of unary gRPC calls safe, with the idempotency keys of package redisidem: an interceptor for servers
// and one for clients.
//
// A call carries its key in the metadata idempotency-key. What it is refused with is chosen so that a client that retries UNAVAILABLE
// and ABORTED, as gRPC's own retry policies do, retries what may be retried and nothing else:
//
//	another call with the key is worked on, or took over    ABORTED, with RetryInfo
//	the key was first used with another request             FAILED_PRECONDITION
//	the key is missing or malformed                         INVALID_ARGUMENT
//	the store gives no answer, before or after the work     UNAVAILABLE
//	the caller is not known                                 PERMISSION_DENIED
//	the call was executed, and its answer is too large      DATA_LOSS
//	to be stored, or no protobuf message
//
// Requests are compared by their bytes, marshalled deterministically, which is the same for all programs with the same version of
// the protobuf library, and mostly beyond: a mismatch after an update of it is possible, for as long as keys are kept.
package grpcidem
