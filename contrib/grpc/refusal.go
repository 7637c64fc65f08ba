package grpcidem

import (
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/redisidem/redisidem/redisidem"
)

// refusal is the answer to a call for which the core returned an error. ran tells whether work was done for it. No text of an error is
// in it.
func (s *Server) refusal(err error, ran bool) error {
	switch {
	case errors.Is(err, redisidem.ErrFenced):
		return retryable(codes.Aborted, "another server took this call over", time.Second)
	case ran:
		return retryable(codes.Unavailable, "it is not known yet whether the answer is stored", min(time.Second, s.cfg.MaxRetryAfter))
	case errors.Is(err, redisidem.ErrLocked), errors.Is(err, redisidem.ErrNested):
		after := time.Second
		if locked := (*redisidem.LockedError)(nil); errors.As(err, &locked) {
			after = max(min(locked.RetryAfter, s.cfg.MaxRetryAfter), time.Millisecond)
		}
		return retryable(codes.Aborted, "a call with this "+Key+" is worked on", after)
	case errors.Is(err, redisidem.ErrFingerprintMismatch):
		return status.Error(codes.FailedPrecondition, "this "+Key+" was first used with another request")
	case errors.Is(err, redisidem.ErrInvalid), errors.Is(err, redisidem.ErrDamaged):
		return status.Error(codes.Internal, "the key's record cannot be used")
	}
	return retryable(codes.Unavailable, "the call was not executed", time.Second)
}

// retryable is an error that tells when to try again.
func retryable(code codes.Code, text string, after time.Duration) error {
	st := status.New(code, text)
	if with, err := st.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)}); err == nil {
		st = with
	}
	return st.Err()
}
