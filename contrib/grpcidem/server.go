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
	"unicode/utf8"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

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

// ScopeFunc returns the owner of a call's key: the name of the authenticated caller, and never a
// value that the caller can choose. An error or an empty name is answered with PERMISSION_DENIED.
// It is called concurrently.
type ScopeFunc func(ctx context.Context) (string, error)

// Config tunes a [Server]. The zero value of each field means its default, and a nil *Config means
// all defaults.
type Config struct {
	// Covers reports whether a method, such as /shop.Orders/Create, is covered. Others go straight
	// to the handler. Nil: all methods are covered.
	Covers func(fullMethod string) bool
	// Optional lets calls without a key through, unprotected. By default they are refused.
	Optional bool
	// Keep reports whether an answer with this code is stored and replayed to each retry. Default:
	// [KeepFinal]. A status with a RetryInfo detail asks for a retry and is never stored.
	Keep func(codes.Code) bool
	// Metadata are the names of the header and trailer metadata that are stored with an answer.
	// Default: none.
	Metadata []string
	// Wait is how long a call waits for an earlier one with its key. Default: the service's.
	// Negative: not at all.
	Wait time.Duration
	// MaxRetryAfter bounds the delay in RetryInfo and grpc-retry-pushback-ms. Default: 5 s.
	MaxRetryAfter time.Duration
}

// DefaultMaxRetryAfter is the default of [Config].
const DefaultMaxRetryAfter = 5 * time.Second

// KeepFinal is the default of Config.Keep: OK and the codes that say something about the request,
// and not about the moment. UNIMPLEMENTED is about the program: a method that is deployed later
// must run, and the attempt does not count.
func KeepFinal(code codes.Code) bool {
	switch code {
	case codes.OK, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.OutOfRange,
		codes.DataLoss:
		return true
	case codes.Canceled, codes.Unknown, codes.DeadlineExceeded, codes.PermissionDenied, codes.ResourceExhausted, codes.Aborted,
		codes.Unimplemented, codes.Internal, codes.Unavailable, codes.Unauthenticated:
	}
	return false
}

// Server has the interceptors of a server. It is safe for concurrent use.
type Server struct {
	service *redisidem.Service
	scope   ScopeFunc
	cfg     Config
}

// NewServer makes a Server that keeps its keys with a service. The scope function is required. A
// field that breaks its bound is a [*redisidem.InvalidError].
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

// Unary returns the interceptor for unary calls. Put it behind interceptors that authenticate or
// limit rates.
//
// The handler's context is not cancelled when the caller disconnects. It ends when the lease is
// lost, after the service's MaxHold, and at the call's deadline. Metadata that the handler sets is
// sent when its answer is stored, or at once with SendHeader.
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

// Stream returns the interceptor that refuses streaming calls of covered methods with a key,
// because a stream cannot be replayed.
func (s *Server) Stream() grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if md, _ := metadata.FromIncomingContext(stream.Context()); len(md.Get(Key)) > 0 && s.cfg.Covers(info.FullMethod) {
			return refuse(stream.Context(), codes.Unimplemented, "streaming calls cannot have an "+Key, never)
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
		return "", refuse(ctx, codes.InvalidArgument, "the metadata "+Key+" is missing", never)
	}
	key, err := httpidem.ParseKey(values, false)
	if err != nil || len(key) > s.service.Config().MaxKeyBytes {
		return "", refuse(ctx, codes.InvalidArgument, "the metadata "+Key+" must be one non-empty key", never)
	}
	return key, nil
}

type stageContext struct{}

// Stage returns the stage under whose lease the handler runs, or nil if the call is not protected.
func Stage(ctx context.Context) *redisidem.Stage {
	st, _ := ctx.Value(stageContext{}).(*redisidem.Stage)
	return st
}

// releasedError makes the core release the lease without storing the answer.
type releasedError struct{ err error }

func (e *releasedError) Error() string { return "grpcidem: the answer is not kept" }

// call runs the handler once, or replays its answer.
func (s *Server) call(ctx context.Context, key string, req any, method string, handler grpc.UnaryHandler) (any, error) {
	scope, err := s.scope(ctx)
	if err != nil || scope == "" {
		return nil, refuse(ctx, codes.PermissionDenied, "the caller could not be identified", never)
	}
	sum, err := fingerprint(method, req)
	if err != nil {
		return nil, refuse(ctx, codes.Internal, "the request is not a protobuf message, so it has no fingerprint", never)
	}
	// A call that waits for the lease ends with its caller. Once the handler has begun, its work is
	// finished and stored.
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stay := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	defer stay()
	caller := ctx
	var answer any
	var failure error
	var tap *tap // once the handler has begun
	found, err := s.service.Scope(scope).Wait(s.cfg.Wait).Do(work, key,
		redisidem.Request{Method: "GRPC", Path: method, Params: []byte{fingerprintVersion}, Fingerprint: sum},
		func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			if st.Key().RecoveryPoint != redisidem.Started {
				return redisidem.Outcome{}, redisidem.ErrUnknownRecoveryPoint
			}
			if !stay() {
				return redisidem.NothingDone(), nil
			}
			if deadline, ok := caller.Deadline(); ok {
				bounded, cancel := context.WithDeadline(ctx, deadline)
				defer cancel()
				ctx = bounded
			}
			tap = newTap(ctx)
			answer, failure = handler(tap.context(context.WithValue(ctx, stageContext{}, st)), req)
			sent := sendable(failure)
			switch code := status.Code(sent); {
			case !refused(failure) && !asksForRetry(sent) && s.cfg.Keep(code):
				failure = sent
				return redisidem.Finish(s.encode(answer, failure, tap)), nil
			case code == codes.Unimplemented:
				return redisidem.NothingDone(), nil
			}
			return redisidem.Outcome{}, &releasedError{failure}
		})
	released := (*releasedError)(nil)
	switch {
	case errors.As(err, &released):
		tap.send()
		return nil, released.err
	case err != nil:
		return nil, s.refusal(ctx, err, tap != nil)
	case tap != nil:
		tap.send()
		return answer, failure
	case !found.Answered():
		return nil, status.FromContextError(ctx.Err()).Err() // the caller has left
	}
	return s.replay(ctx, found.Response)
}

// sendable returns an error with the status that gRPC sends for a handler's error, which can be
// stored as it is. gRPC has codes for errors of contexts, and replaces a message that is not UTF-8.
func sendable(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	switch {
	case !ok:
		st = status.FromContextError(err)
	case st.Code() == codes.OK:
		st = status.New(codes.Internal, "the handler returned an error with the code OK")
	case utf8.ValidString(st.Message()):
		return err
	}
	p := st.Proto()
	p.Message = string([]rune(p.GetMessage()))
	return status.ErrorProto(p)
}

// fingerprintVersion is stored in each record, so that a later version can recognise another
// computation.
const fingerprintVersion = 1

func fingerprint(method string, req any) ([]byte, error) {
	m := message(req)
	if m == nil {
		return nil, fmt.Errorf("grpcidem: the request is a %T, not a protobuf message", req)
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

// The Codes of stored answers: an answer that was kept, and a mark that the call was executed.
const (
	kept = 200
	gone = 410
)

// encode encodes an answer to be stored. If it is too large or not a protobuf message, it is
// replaced by a mark that the call was executed: a retry must not execute it again.
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

// encodeStatus returns the status of a failure, or OK with the message as the only detail.
func encodeStatus(answer any, failure error) ([]byte, error) {
	if failure != nil {
		st := status.Convert(failure)
		body, err := proto.Marshal(st.Proto())
		if err != nil {
			body, err = proto.Marshal(status.New(st.Code(), st.Message()).Proto()) // gRPC also leaves out details that it cannot send
		}
		return body, err
	}
	if answer == nil {
		answer = new(emptypb.Empty) // which gRPC sends for it
	}
	m := message(answer)
	if m == nil {
		return nil, fmt.Errorf("grpcidem: the answer is a %T, not a protobuf message", answer)
	}
	detail, err := anypb.New(m)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&spb.Status{Details: []*anypb.Any{detail}})
}

// message returns a value as gRPC's own codec takes it for a protobuf message, or nil.
func message(v any) proto.Message {
	switch v := v.(type) {
	case proto.Message:
		return v
	case protoadapt.MessageV1:
		return protoadapt.MessageV2Of(v)
	}
	return nil
}

// replay returns a stored answer.
func (s *Server) replay(ctx context.Context, stored *redisidem.Response) (any, error) {
	if stored != nil && stored.Code == gone {
		return nil, refuse(ctx, codes.DataLoss, "the call was executed, and its answer was not kept", never)
	}
	var answer spb.Status
	if stored == nil || proto.Unmarshal(stored.Body, &answer) != nil {
		return nil, refuse(ctx, codes.Internal, "the stored answer cannot be read", never)
	}
	var m proto.Message
	if answer.GetCode() == int32(codes.OK) {
		if len(answer.GetDetails()) != 1 {
			return nil, refuse(ctx, codes.Internal, "the stored answer cannot be read", never)
		}
		var err error
		if m, err = decodeMessage(ctx, answer.GetDetails()[0]); err != nil {
			return nil, refuse(ctx, codes.Internal, "the stored answer cannot be read", never)
		}
	}
	header, trailer := split(stored.Header)
	header.Set(Replayed, "true")
	if grpc.ServerTransportStreamFromContext(ctx) != nil { // nil in a test that calls the interceptor directly
		if err := errors.Join(grpc.SetHeader(ctx, header), grpc.SetTrailer(ctx, trailer)); err != nil {
			return nil, status.Error(codes.Internal, "the stored answer cannot be sent")
		}
	}
	if m == nil {
		return nil, status.ErrorProto(&answer)
	}
	return m, nil
}

var errNotWire = errors.New("grpcidem: the answer's type is not registered, and the call's encoding is not protobuf")

// decodeMessage returns a stored message. If the program has not registered its type, the result is
// a message whose fields are all unknown, which has the same bytes on the wire.
func decodeMessage(ctx context.Context, stored *anypb.Any) (proto.Message, error) {
	m, err := stored.UnmarshalNew()
	if !errors.Is(err, protoregistry.NotFound) {
		return m, err
	}
	md, _ := metadata.FromIncomingContext(ctx)
	for _, kind := range md.Get("content-type") {
		if encoding, ok := strings.CutPrefix(kind, "application/grpc+"); ok && encoding != "proto" {
			return nil, errNotWire
		}
	}
	m = new(emptypb.Empty)
	return m, proto.Unmarshal(stored.GetValue(), m)
}
