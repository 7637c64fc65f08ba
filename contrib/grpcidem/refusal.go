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

// pushback is the trailer that gRPC's own retries follow. Its value is the delay in milliseconds. A
// negative value ends the retries.
const pushback = "grpc-retry-pushback-ms"

// never is the delay of a refusal that every retry would get again.
const never = time.Duration(-1)

// refusal returns the status of a call for which the service returned an error. ran is whether the
// handler ran. The status does not contain the text of the error.
func (s *Server) refusal(ctx context.Context, err error, ran bool) error {
	switch {
	case errors.Is(err, redisidem.ErrFenced):
		return refuse(ctx, codes.Aborted, "another server has taken this call over; send it again with the same "+Key, min(time.Second, s.cfg.MaxRetryAfter))
	case ran:
		return refuse(ctx, codes.Unavailable, "the outcome is unknown; send the call again with the same "+Key, min(time.Second, s.cfg.MaxRetryAfter))
	case errors.Is(err, redisidem.ErrNested):
		return refuse(ctx, codes.Internal, "the call is nested in itself: the chain has two interceptors, or the handler calls its own method with the same "+Key, never)
	case errors.Is(err, redisidem.ErrLocked):
		after := time.Second
		if locked, ok := errors.AsType[*redisidem.LockedError](err); ok {
			after = locked.RetryAfter
		}
		return refuse(ctx, codes.Aborted, "a call with this "+Key+" is in progress", max(min(after, s.cfg.MaxRetryAfter), time.Millisecond))
	case errors.Is(err, redisidem.ErrFingerprintMismatch):
		return refuse(ctx, codes.FailedPrecondition, "this "+Key+" was first used with another request", never)
	case errors.Is(err, redisidem.ErrInvalid), errors.Is(err, redisidem.ErrDamaged):
		return refuse(ctx, codes.Internal, "the key's record cannot be used", never)
	}
	return refuse(ctx, codes.Unavailable, "the call was not executed", min(time.Second, s.cfg.MaxRetryAfter))
}

// refusedError is a status of the interceptor itself. It is never stored, not even by another
// interceptor that it passes through.
type refusedError struct{ *status.Status }

func (e *refusedError) Error() string { return e.Err().Error() }

// GRPCStatus returns the status, for package status.
func (e *refusedError) GRPCStatus() *status.Status { return e.Status }

func refused(err error) bool {
	_, ok := errors.AsType[*refusedError](err)
	return ok
}

// asksForRetry reports whether a status asks its caller to retry. Such a status is not final,
// whatever its code. It may be the refusal of another service that a handler returned.
func asksForRetry(err error) bool {
	return slices.ContainsFunc(status.Convert(err).Details(), func(detail any) bool {
		_, ok := detail.(*errdetails.RetryInfo)
		return ok
	})
}

// refuse returns a status that says when the client should try again.
func refuse(ctx context.Context, code codes.Code, text string, after time.Duration) error {
	st := status.New(code, text)
	delay := "-1"
	if after != never {
		delay = strconv.FormatInt(int64((after+time.Millisecond-1)/time.Millisecond), 10)
		if with, err := st.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)}); err == nil {
			st = with
		}
	}
	_ = grpc.SetTrailer(ctx, metadata.Pairs(pushback, delay)) // fails only in a test that calls the interceptor directly
	return &refusedError{st}
}
