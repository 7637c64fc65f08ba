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
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// The names of metadata.
const (
	// Key carries the key of a call.
	Key = "idempotency-key"
	// Replayed is "true" in the header of each response from the store, and absent from every other
	// response.
	Replayed = "idempotency-replayed"
)

// ScopeFunc returns the scope of a call's key: the name of the authenticated caller, and never a
// value that the caller can choose. An error or an empty name is answered with PERMISSION_DENIED.
// It is called concurrently.
type ScopeFunc func(ctx context.Context) (string, error)

// Config configures a [Server]. The zero value of each field means its default, and a nil *Config
// means all defaults.
type Config struct {
	// Covers reports whether a method, such as /shop.Orders/Create, is protected. Calls of other
	// methods go straight to the handler. It is called concurrently. Default: all methods are
	// covered.
	Covers func(fullMethod string) bool
	// Optional lets calls without a key go to the handler without protection. By default they are
	// refused.
	Optional bool
	// Keep reports whether a response with this code is stored. A status with a RetryInfo detail
	// asks for a retry and is never stored. It is called concurrently. Default: [KeepFinal].
	Keep func(codes.Code) bool
	// Metadata are the names of the header and trailer metadata that are stored with a response.
	// Default: none.
	Metadata []string
	// Wait is how long a call waits for an earlier one with its key. Default: the service's Wait. A
	// negative value does not wait.
	Wait time.Duration
	// MaxRetryAfter limits the delay in RetryInfo and grpc-retry-pushback-ms. Default: 5 s.
	MaxRetryAfter time.Duration
}

// DefaultMaxRetryAfter is the default of [Config].
const DefaultMaxRetryAfter = 5 * time.Second

// KeepFinal is the default of Config.Keep. It keeps OK and the codes that depend on the request and
// not on the moment. It does not keep UNIMPLEMENTED, which depends on the program. An attempt with
// that code does not count, so that a method that is deployed later runs.
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

// Server holds the interceptors of a server. It is safe for concurrent use.
type Server struct {
	service *redisidem.Service
	scope   ScopeFunc
	cfg     Config
}

// NewServer returns a Server that keeps its keys in a service. The scope function is required. A
// nil cfg means all defaults. A field that is out of its bounds is a [*redisidem.InvalidError].
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

// Unary returns the interceptor for unary calls. Place it behind interceptors that authenticate
// callers or limit rates. It blocks for one round trip to the store before the handler runs, and
// for another one afterwards. A call that waits for an earlier one blocks for up to Config.Wait.
//
// The handler's context does not end when the caller disconnects. It ends when the lease is lost,
// after the service's MaxHold, and at the call's deadline. Metadata that the handler sets is sent
// when its response is stored, or at once with SendHeader.
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

// Stream returns the interceptor that refuses streaming calls with a key to covered methods,
// because a stream cannot be replayed.
func (s *Server) Stream() grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if md, _ := metadata.FromIncomingContext(stream.Context()); len(md.Get(Key)) > 0 && s.cfg.Covers(info.FullMethod) {
			return refuse(stream.Context(), codes.Unimplemented, "streaming calls cannot have an "+Key, never)
		}
		return handler(srv, stream)
	}
}

// key returns the key of a call, or an empty string if it has none and needs none.
func (s *Server) key(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get(Key)
	if len(values) == 0 {
		if s.cfg.Optional {
			return "", nil
		}
		return "", refuse(ctx, codes.InvalidArgument, "the metadata "+Key+" is missing", never)
	}
	key, err := idemheader.Parse(values, false)
	if err != nil || len(key) > s.service.Config().MaxKeyBytes {
		return "", refuse(ctx, codes.InvalidArgument, "the metadata "+Key+" must be one non-empty key", never)
	}
	return key, nil
}

type stageContext struct{}

// Stage returns the stage that the handler runs in, or nil if the call is not protected. ctx is the
// handler's context, or is derived from it.
func Stage(ctx context.Context) *redisidem.Stage {
	st, _ := ctx.Value(stageContext{}).(*redisidem.Stage)
	return st
}

// releasedError makes the service release the key without storing the response.
type releasedError struct{ err error }

func (e *releasedError) Error() string { return "grpcidem: the answer is not kept" }

// call runs the handler once, or replays its response.
func (s *Server) call(ctx context.Context, key string, req any, method string, handler grpc.UnaryHandler) (any, error) {
	scope, err := s.scope(ctx)
	if err != nil || scope == "" {
		return nil, refuse(ctx, codes.PermissionDenied, "the caller could not be identified", never)
	}
	sum, err := fingerprint(method, req)
	if err != nil {
		return nil, refuse(ctx, codes.Internal, "the request is not a protobuf message, so it has no fingerprint", never)
	}
	// A call that waits for the lease ends with its caller. Once the handler has started, its work
	// is finished and stored.
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stay := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	defer stay()
	caller := ctx
	var answer any
	var failure error
	var tap *tap // nil until the handler starts
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
	released, wasReleased := errors.AsType[*releasedError](err)
	switch {
	case wasReleased:
		tap.send()
		return nil, released.err
	case err != nil:
		return nil, s.refusal(ctx, err, tap != nil)
	case tap != nil:
		tap.send()
		return answer, failure
	case !found.Answered():
		return nil, status.FromContextError(ctx.Err()).Err() // the caller has disconnected
	}
	return s.replay(ctx, found.Response)
}

// sendable returns an error with the status that gRPC sends for a handler's error, so that it can
// be stored as it is. gRPC gives errors of contexts a code, and replaces a message that is not
// UTF-8.
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

// fingerprintVersion is stored in each record, so that a later version can recognise fingerprints
// that were computed differently.
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

// The Codes of stored responses: one that is complete, and one that records only that the call was
// executed.
const (
	kept = 200
	gone = 410
)

// encode returns the record of a response. A response that is too large, or is not a protobuf
// message, is recorded only as executed, since a retry must not execute it again.
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

// encodeStatus returns the status of a failure, or OK with the response as its only detail.
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
		answer = new(emptypb.Empty) // gRPC sends this for nil
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

// message returns a value as a protobuf message if gRPC's own codec accepts it as one, or nil.
func message(v any) proto.Message {
	switch v := v.(type) {
	case proto.Message:
		return v
	case protoadapt.MessageV1:
		return protoadapt.MessageV2Of(v)
	}
	return nil
}

// replay returns a stored response.
func (s *Server) replay(ctx context.Context, stored *redisidem.Response) (any, error) {
	if stored.IsZero() || stored.Code == gone {
		return nil, refuse(ctx, codes.DataLoss, "the call was executed, and its answer was not kept", never)
	}
	var answer spb.Status
	if proto.Unmarshal(stored.Body, &answer) != nil {
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
// a message with only unknown fields, which has the same bytes on the wire.
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
