package grpcidem

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// The names of metadata.
const (
	// Key carries a call's key.
	Key = "idempotency-key"
	// Replayed is "true" in the header of answers that come from the store, and nowhere else.
	Replayed = "idempotency-replayed"
)

// ScopeFunc tells whose key a call's key is: the name of the authenticated caller, and nothing that it can choose. Its error, or an
// empty name, is answered with PERMISSION_DENIED. It is called concurrently.
type ScopeFunc func(ctx context.Context) (string, error)

// Config tunes a [Server]. The zero value of each field means its default, and a nil *Config means all defaults.
type Config struct {
	// Covers tells whether a method, as in /shop.Orders/Create, is covered; others go straight to the handler. Nil: all are.
	Covers func(fullMethod string) bool
	// Optional lets calls without a key through, unprotected, which are refused otherwise.
	Optional bool
	// Keep tells whether the answer with a code is stored, and given again to each retry. Default: [KeepFinal].
	Keep func(codes.Code) bool
	// Metadata are the names of the header and trailer metadata that are stored with an answer. Default: none.
	Metadata []string
	// Wait is how long a call waits for an earlier one with its key. Default: the service's. Negative: not at all.
	Wait time.Duration
	// MaxRetryAfter bounds the delay in RetryInfo. Default: 5 s.
	MaxRetryAfter time.Duration
}

// DefaultMaxRetryAfter is the default of [Config].
const DefaultMaxRetryAfter = 5 * time.Second

// KeepFinal is the default of Config.Keep: OK and the codes that say something about the request, and not about the moment.
func KeepFinal(code codes.Code) bool {
	switch code {
	case codes.OK, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.OutOfRange,
		codes.Unimplemented, codes.DataLoss:
		return true
	case codes.Canceled, codes.Unknown, codes.DeadlineExceeded, codes.PermissionDenied, codes.ResourceExhausted, codes.Aborted,
		codes.Internal, codes.Unavailable, codes.Unauthenticated:
	}
	return false
}

// Server makes the interceptors of a server. It is safe for concurrent use.
type Server struct {
	service *redisidem.Service
	scope   ScopeFunc
	cfg     Config
}

// NewServer makes a Server that keeps its keys with a service. The scope function is required. A field that breaks its bound is a
// [*redisidem.InvalidError].
func NewServer(service *redisidem.Service, scope ScopeFunc, cfg *Config) (*Server, error) {
	s := &Server{service: service, scope: scope}
	if cfg != nil {
		s.cfg = *cfg
	}
	switch {
	case service == nil:
		return nil, &redisidem.InvalidError{Field: "service", Reason: "must not be nil"}
	case scope == nil:
		return nil, &redisidem.InvalidError{Field: "scope", Reason: "must not be nil"}
	case s.cfg.MaxRetryAfter < 0:
		return nil, &redisidem.InvalidError{Field: "Config.MaxRetryAfter", Reason: fmt.Sprintf("must not be negative: %v", s.cfg.MaxRetryAfter)}
	}
	if s.cfg.Covers == nil {
		s.cfg.Covers = func(string) bool { return true }
	}
	if s.cfg.Keep == nil {
		s.cfg.Keep = KeepFinal
	}
	if s.cfg.Wait == 0 {
		s.cfg.Wait = service.Config().Wait
	}
	if s.cfg.MaxRetryAfter == 0 {
		s.cfg.MaxRetryAfter = DefaultMaxRetryAfter
	}
	s.cfg.Metadata = slices.Clone(s.cfg.Metadata)
	for i, name := range s.cfg.Metadata {
		name = strings.ToLower(name)
		if name == "" || name == Replayed || strings.HasPrefix(name, "grpc-") || strings.HasPrefix(name, ":") || strings.ContainsAny(name, " :\r\n") {
			return nil, &redisidem.InvalidError{Field: "Config.Metadata", Reason: fmt.Sprintf("has a name that cannot be stored: %q", name)}
		}
		s.cfg.Metadata[i] = name
	}
	return s, nil
}

// Unary returns the interceptor for unary calls. It belongs inside of those that authenticate and limit.
//
// The handler's context is not cancelled when the caller goes away, but when the lease is lost, after the service's MaxHold, and at
// the call's deadline.
func (s *Server) Unary() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if !s.cfg.Covers(info.FullMethod) {
			return handler(ctx, req)
		}
		key, err := s.key(ctx)
		switch {
		case err != nil:
			return nil, err
		case key == "":
			return handler(ctx, req)
		}
		return s.call(ctx, key, req, info.FullMethod, handler)
	}
}

// Stream returns the interceptor that refuses streaming calls of covered methods that bring a key: what went through a stream cannot
// be given again.
func (s *Server) Stream() grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if md, _ := metadata.FromIncomingContext(stream.Context()); len(md.Get(Key)) > 0 && s.cfg.Covers(info.FullMethod) {
			return status.Error(codes.Unimplemented, "streaming calls cannot have an "+Key)
		}
		return handler(srv, stream)
	}
}

// key returns a call's key; empty if it has none and needs none.
func (s *Server) key(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get(Key)
	if len(values) == 0 {
		if s.cfg.Optional {
			return "", nil
		}
		return "", status.Error(codes.InvalidArgument, "the metadata "+Key+" is missing")
	}
	key, err := httpidem.ParseKey(values, false)
	if err != nil || len(key) > s.service.Config().MaxKeyBytes {
		return "", status.Error(codes.InvalidArgument, "the metadata "+Key+" holds no key")
	}
	return key, nil
}

type stageContext struct{}

// Stage returns what the handler may ask about the lease it runs under; nil when the call is not protected.
func Stage(ctx context.Context) *redisidem.Stage {
	st, _ := ctx.Value(stageContext{}).(*redisidem.Stage)
	return st
}

// releasedError makes the core give the lease back: the answer is not stored.
type releasedError struct{ err error }

func (e *releasedError) Error() string { return "grpcidem: the answer is not kept" }

// call runs the handler once, or gives its answer again.
func (s *Server) call(ctx context.Context, key string, req any, method string, handler grpc.UnaryHandler) (any, error) {
	scope, err := s.scope(ctx)
	if err != nil || scope == "" {
		return nil, status.Error(codes.PermissionDenied, "it cannot be told whose "+Key+" this is")
	}
	sum, err := fingerprint(method, req)
	if err != nil {
		return nil, status.Error(codes.Internal, "the request cannot be compared with others")
	}
	// Whoever waits for the lease leaves with the caller. Once the handler has begun, what it does is finished and stored.
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stay := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	defer stay()
	caller := ctx
	var answer any
	var failure error
	ran := false
	found, err := s.service.Scope(scope).Wait(s.cfg.Wait).Do(work, key,
		redisidem.Request{Method: "GRPC", Path: method, Params: []byte{fingerprintVersion}, Fingerprint: sum},
		func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			if st.Key().RecoveryPoint != redisidem.Started {
				return redisidem.Outcome{}, redisidem.ErrUnknownRecoveryPoint
			}
			if !stay() {
				return redisidem.Idle(), nil
			}
			if deadline, ok := caller.Deadline(); ok {
				bounded, cancel := context.WithDeadline(ctx, deadline)
				defer cancel()
				ctx = bounded
			}
			ran = true
			tap := newTap(ctx)
			answer, failure = handler(tap.context(context.WithValue(ctx, stageContext{}, st)), req)
			if !s.cfg.Keep(status.Code(failure)) {
				return redisidem.Outcome{}, &releasedError{failure}
			}
			return redisidem.Finish(s.encode(answer, failure, tap)), nil
		})
	released := (*releasedError)(nil)
	switch {
	case errors.As(err, &released):
		return nil, released.err
	case err != nil:
		return nil, s.refusal(err, ran)
	case ran:
		return answer, failure
	case !found.Finished():
		return nil, status.FromContextError(ctx.Err()).Err() // the caller has left
	}
	return s.replay(ctx, found.Response)
}

// fingerprintVersion stands in each record, so that another way of computing it can be told apart later.
const fingerprintVersion = 1

func fingerprint(method string, req any) ([]byte, error) {
	m, ok := req.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("grpcidem: the request is a %T and no protobuf message", req)
	}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	for _, part := range [][]byte{[]byte("redisidem/grpc"), {fingerprintVersion}, []byte(method), body} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		_, _ = h.Write(length[:]) // a hash returns no error
		_, _ = h.Write(part)
	}
	return h.Sum(nil), nil
}

// The Codes of stored answers: one that is kept, and one of a call of which is only known that it was executed.
const (
	kept = 200
	gone = 410
)

// encode makes an answer ready to be stored. One that cannot be kept, since it is too large or no protobuf message, leaves a mark that
// the call was executed: a retry must not execute it again.
func (s *Server) encode(answer any, failure error, tap *tap) redisidem.Response {
	limit := s.service.Config().MaxValueBytes
	body, err := encodeStatus(answer, failure)
	header := tap.kept(s.cfg.Metadata)
	size := 0
	for name, values := range header {
		for _, v := range values {
			size += len(name) + len(v) + len(": \r\n")
		}
	}
	if err != nil || len(body) > limit || size > limit {
		return redisidem.Response{Code: gone}
	}
	return redisidem.Response{Code: kept, Header: header, Body: body}
}

// encodeStatus makes a status of an answer: the failure's, or OK with the message as the only detail.
func encodeStatus(answer any, failure error) ([]byte, error) {
	if failure != nil {
		return proto.Marshal(status.Convert(failure).Proto())
	}
	m, ok := answer.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("grpcidem: the answer is a %T and no protobuf message", answer)
	}
	detail, err := anypb.New(m)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&spb.Status{Details: []*anypb.Any{detail}})
}

// replay gives a stored answer again.
func (s *Server) replay(ctx context.Context, stored *redisidem.Response) (any, error) {
	if stored != nil && stored.Code == gone {
		return nil, status.Error(codes.DataLoss, "the call was executed, and its answer was not kept")
	}
	var answer spb.Status
	if stored == nil || proto.Unmarshal(stored.Body, &answer) != nil {
		return nil, status.Error(codes.Internal, "the stored answer cannot be read")
	}
	header, trailer := split(stored.Header)
	header.Set(Replayed, "true")
	if err := errors.Join(grpc.SetHeader(ctx, header), grpc.SetTrailer(ctx, trailer)); err != nil {
		return nil, status.Error(codes.Internal, "the stored answer cannot be sent")
	}
	if codes.Code(answer.GetCode()) != codes.OK { //nolint:gosec // a negative code is not OK either
		return nil, status.ErrorProto(&answer)
	}
	if len(answer.GetDetails()) != 1 {
		return nil, status.Error(codes.Internal, "the stored answer cannot be read")
	}
	m, err := answer.GetDetails()[0].UnmarshalNew()
	if err != nil {
		return nil, status.Error(codes.Internal, "the stored answer cannot be read")
	}
	return m, nil
}
