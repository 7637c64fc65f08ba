// Package grpcidem makes retries of unary gRPC calls safe, with the idempotency keys of package
// redisidem: an interceptor for servers and one for clients.
//
// A call carries its key in the metadata idempotency-key. The codes of refusals fit clients that
// retry UNAVAILABLE and ABORTED, as gRPC's own retry policies do. Such clients retry exactly the
// calls that may be retried:
//
//	another call with the key is running, or took over      ABORTED, with a delay
//	the store gives no answer, before or after the work     UNAVAILABLE, with a delay
//	the key was first used with another request             FAILED_PRECONDITION
//	the key is missing or malformed                         INVALID_ARGUMENT
//	the caller is not known                                 PERMISSION_DENIED
//	the key's record cannot be used, the request is not a   INTERNAL
//	protobuf message, or two interceptors are in one chain
//	the call is a stream                                    UNIMPLEMENTED
//	the call was executed, and its answer is too large      DATA_LOSS
//	to be stored, or not a protobuf message
//
// The delay is in a RetryInfo, and in milliseconds in the trailer grpc-retry-pushback-ms. gRPC's
// own retries follow the trailer when the retryPolicy of the service config lists the code. All
// other refusals have -1 there, which ends such retries. An interceptor in front that sets a header
// disables this: gRPC's clients retry only answers without a header.
//
// # What a retry gets
//
// A retry gets the same as the first call: the answer, even of a type that the program has not
// registered, or the status with its details, and the metadata that Config.Metadata names. Two
// changes also apply to the first call, so that both are equal. A status message that is not UTF-8
// has U+FFFD in place of each wrong byte, as gRPC sends it. An error whose code is OK becomes
// INTERNAL. An answer that is too large is sent the first time, and retries get DATA_LOSS.
//
// Metadata that a handler sets is held back until its answer is stored. A refusal, or the answer of
// a recovery from a panic, does not contain it.
//
// # Methods that do not exist yet
//
// UNIMPLEMENTED is not stored by default, so that a method that is deployed later runs for a key
// that came too early. A method that the server does not know does not reach the interceptor.
//
// # Requests
//
// Requests are compared by their bytes, marshalled deterministically. The bytes are the same for
// all programs with the same version of the protobuf library, and usually for other versions. After
// an update of that library, a mismatch is possible for as long as keys are kept.
package grpcidem
