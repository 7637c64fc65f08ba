// Package grpcidem makes retries of unary gRPC calls safe, with the idempotency keys of package
// redisidem. It has an interceptor for servers and one for clients.
//
// A call carries its key in the metadata idempotency-key. Clients that retry UNAVAILABLE and
// ABORTED, as gRPC's own retry policies do, retry exactly the calls that may be retried:
//
//	another call with the key is running, or took over      ABORTED, with a delay
//	the store gives no answer, before or after the work     UNAVAILABLE, with a delay
//	the key was first used with another request             FAILED_PRECONDITION
//	the key is missing or malformed                         INVALID_ARGUMENT
//	the caller is not known                                 PERMISSION_DENIED
//	the key's record cannot be used, the request is not a   INTERNAL
//	protobuf message, or two interceptors are in one chain
//	the call is a stream                                    UNIMPLEMENTED
//	the call was executed, and its response is too large    DATA_LOSS
//	to be stored, or not a protobuf message
//
// The delay is in a RetryInfo, and in milliseconds in the trailer grpc-retry-pushback-ms. gRPC's
// own retries follow the trailer if the retryPolicy of the service config lists the code. Every
// other refusal has -1 there, which ends such retries. An interceptor in front that sets a header
// disables this, since gRPC's clients retry only responses without a header.
//
// # Replays
//
// A retry gets the result of the first call: the response, or the status with its details. The
// program need not have registered the type of the response. A retry also gets the metadata that
// Config.Metadata names.
//
// Two changes apply to the first call as well, so that both results are equal. In a status message
// that is not UTF-8, each wrong byte becomes U+FFFD, as gRPC sends it. An error whose code is OK
// becomes INTERNAL. A response that is too large is sent the first time, and retries get DATA_LOSS.
//
// Metadata that a handler sets is held back until its response is stored. A refusal does not
// contain it, and neither does the response of an interceptor that recovers from a panic.
//
// # Unimplemented methods
//
// UNIMPLEMENTED is not stored by default, so that a key that came too early runs once the method is
// deployed. A method that the server does not know does not reach the interceptor.
//
// # Requests
//
// Requests are compared by their bytes, marshalled deterministically. The bytes are the same for
// all programs with the same version of the protobuf library, and usually for other versions. After
// an update of the library, a mismatch is possible for as long as keys are kept.
package grpcidem
