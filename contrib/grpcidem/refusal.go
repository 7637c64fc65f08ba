package grpcidem

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/redisidem/redisidem/redisidem"
)

// pushback is the trailer that gRPC's own retries heed: how many milliseconds to wait, or, if it is
// negative, not to retry.
const pushback = "grpc-retry-pushback-ms"

// never is the delay of a refusal that a retry does not change.
const never = time.Duration(-1)

// refusal is the answer to a call for which the core returned an error. ran tells whether work was
// done for it. No text of an error is in it.
func (s *Server) refusal(ctx context.Context, err error, ran bool) error {
	switch {
	case errors.Is(err, redisidem.ErrFenced):
		return refuse(ctx, codes.Aborted, "another server took this call over", min(time.Second, s.cfg.MaxRetryAfter))
	case ran:
		return refuse(ctx, codes.Unavailable, "it is not known yet whether the answer is stored", min(time.Second, s.cfg.MaxRetryAfter))
	case errors.Is(err, redisidem.ErrNested):
		return refuse(ctx, codes.Internal, "the call runs inside of itself: there are two interceptors, or its handler calls it again", never)
	case errors.Is(err, redisidem.ErrLocked):
		after := time.Second
		if locked := (*redisidem.LockedError)(nil); errors.As(err, &locked) {
			after = locked.RetryAfter
		}
		return refuse(ctx, codes.Aborted, "a call with this "+Key+" is worked on", max(min(after, s.cfg.MaxRetryAfter), time.Millisecond))
	case errors.Is(err, redisidem.ErrFingerprintMismatch):
		return refuse(ctx, codes.FailedPrecondition, "this "+Key+" was first used with another request", never)
	case errors.Is(err, redisidem.ErrInvalid), errors.Is(err, redisidem.ErrDamaged):
		return refuse(ctx, codes.Internal, "the key's record cannot be used", never)
	}
	return refuse(ctx, codes.Unavailable, "the call was not executed", min(time.Second, s.cfg.MaxRetryAfter))
}

// refusedError is an answer of the interceptor's own, which is never stored, not even by another
// one that it comes back through.
type refusedError struct{ *status.Status }

func (e *refusedError) Error() string { return e.Err().Error() }

// GRPCStatus is for package status.
func (e *refusedError) GRPCStatus() *status.Status { return e.Status }

func refused(err error) bool {
	e := (*refusedError)(nil)
	return errors.As(err, &e)
}

// asksForRetry reports whether a status asks its caller to retry, which makes it not final,
// whatever its code. The refusals of another process ask for a retry, too, and a handler may pass
// them on.
func asksForRetry(err error) bool {
	return slices.ContainsFunc(status.Convert(err).Details(), func(detail any) bool {
		_, ok := detail.(*errdetails.RetryInfo)
		return ok
	})
}

// refuse answers a call, and tells its client when to try again.
func refuse(ctx context.Context, code codes.Code, text string, after time.Duration) error {
	st := status.New(code, text)
	delay := "-1"
	if after != never {
		delay = strconv.FormatInt(int64((after+time.Millisecond-1)/time.Millisecond), 10)
		if with, err := st.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)}); err == nil {
			st = with
		}
	}
	_ = grpc.SetTrailer(ctx, metadata.Pairs(pushback, delay)) // in a test that calls the interceptor itself there is nobody to be told
	return &refusedError{st}
}
