package grpcidem_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/redisidem/redisidem/contrib/grpcidem"
)

// unregistered makes a message of a type that no program knows by its name, which is like a
// StringValue.
func unregistered(t *testing.T, text string) proto.Message {
	t.Helper()
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("unregistered.proto"), Package: proto.String("unregistered"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("Text"), Field: []*descriptorpb.FieldDescriptorProto{{
			Name: proto.String("value"), Number: proto.Int32(1), Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := dynamicpb.NewMessage(file.Messages().Get(0))
	m.Set(m.Descriptor().Fields().ByNumber(1), protoreflect.ValueOfString(text))
	return m
}

// oldMessage is what generators made before protobuf's second API.
type oldMessage struct {
	Value string `protobuf:"bytes,1,opt,name=value,proto3"`
}

func (m *oldMessage) Reset()         { *m = oldMessage{} }
func (m *oldMessage) String() string { return m.Value }
func (*oldMessage) ProtoMessage()    {}

// oddError has a status that says that there was no error.
type oddError struct{}

func (oddError) Error() string              { return "odd" }
func (oddError) GRPCStatus() *status.Status { return status.New(codes.OK, "") }

// TestRetryGetsWhatTheFirstCallGot is about answers that are unusual, and that gRPC sends all the
// same.
func TestRetryGetsWhatTheFirstCallGot(t *testing.T) {
	t.Parallel()
	everything := func(codes.Code) bool { return true }
	for name, c := range map[string]struct {
		handler func(ctx context.Context) (any, error)
		code    codes.Code
		text    string // of the answer, or of the error
		details int
		runs    int64
	}{
		"Unregistered": {func(context.Context) (any, error) { return unregistered(t, "new"), nil }, codes.OK, "new", 0, 1},
		"Old":          {func(context.Context) (any, error) { return &oldMessage{"old"}, nil }, codes.OK, "old", 0, 1},
		"Nothing":      {func(context.Context) (any, error) { return nil, nil }, codes.OK, "", 0, 1}, //nolint:nilnil // that is what it is about
		"NilMessage":   {func(context.Context) (any, error) { return (*wrapperspb.StringValue)(nil), nil }, codes.OK, "", 0, 1},
		"BothOfThem": {
			func(context.Context) (any, error) { return wrapperspb.String("x"), status.Error(codes.NotFound, "no") }, codes.NotFound, "no", 0, 1,
		},
		"NoText": {
			func(context.Context) (any, error) { return nil, status.Error(codes.NotFound, "a\xffb\xfe\xfd%zz\nü") },
			codes.NotFound, "a\ufffdb\ufffd\ufffd%zz\nü", 0, 1,
		},
		"NoTextWithDetails": {func(context.Context) (any, error) {
			return nil, detailed(t, "a\xff", &errdetails.ErrorInfo{Reason: "because"})
		}, codes.NotFound, "a\ufffd", 1, 1},
		"UnregisteredDetails": {
			func(context.Context) (any, error) { return nil, detailed(t, "no", unregistered(t, "why")) }, codes.NotFound, "no", 1, 1,
		},
		"DetailsThatCannotBeSent": {func(context.Context) (any, error) {
			return nil, status.ErrorProto(&spb.Status{Code: int32(codes.NotFound), Message: "no", Details: []*anypb.Any{{TypeUrl: "\xff"}}})
		}, codes.NotFound, "no", 0, 1},
		"Wrapped": {
			func(context.Context) (any, error) {
				return nil, fmt.Errorf("outer: %w", status.Error(codes.NotFound, "no"))
			},
			codes.NotFound, "outer: rpc error: code = NotFound desc = no", 0, 1,
		},
		"Plain":     {func(context.Context) (any, error) { return nil, errors.New("plain") }, codes.Unknown, "plain", 0, 1},
		"Deadline":  {func(context.Context) (any, error) { return nil, context.DeadlineExceeded }, codes.DeadlineExceeded, "context deadline exceeded", 0, 1},
		"OddError":  {func(context.Context) (any, error) { return nil, oddError{} }, codes.Internal, "the handler returned an error with the code OK", 0, 1},
		"OtherCode": {func(context.Context) (any, error) { return nil, status.Error(77, "new") }, 77, "new", 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, &grpcidem.Config{Keep: everything})
			s.answerAny(func(ctx context.Context, _ string) (any, error) { return c.handler(ctx) })
			for i := range 3 {
				r := s.order(t.Context(), "book", grpcidem.Key, "k", "caller", "a")
				text := r.text
				if r.err != nil {
					text = status.Convert(r.err).Message()
				}
				if r.code != c.code || text != c.text || len(status.Convert(r.err).Details()) != c.details || r.replayed() != (i > 0) {
					t.Errorf("%d: %q, %v with %v, replayed %v", i, r.text, r.err, status.Convert(r.err).Details(), r.replayed())
				}
			}
			if n := s.runs.Load(); n != c.runs {
				t.Errorf("the handler ran %d times", n)
			}
		})
	}
}

func detailed(t *testing.T, message string, detail proto.Message) error {
	t.Helper()
	d, err := anypb.New(detail)
	if err != nil {
		t.Fatal(err)
	}
	return status.ErrorProto(&spb.Status{Code: int32(codes.NotFound), Message: message, Details: []*anypb.Any{d}})
}

// TestMethodThatIsDeployedLaterRuns is about servers that have embedded a generated
// UnimplementedServer so far.
func TestMethodThatIsDeployedLaterRuns(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.answer(func(context.Context, string) (string, error) {
		return "", status.Error(codes.Unimplemented, "method Order not implemented")
	})
	for range 2 {
		s.want(s.order(t.Context(), "book", grpcidem.Key, "k", "caller", "a"), codes.Unimplemented, "", false)
	}
	s.answer(func(ctx context.Context, _ string) (string, error) {
		return fmt.Sprint(grpcidem.Stage(ctx).Attempt()), nil
	})
	s.want(s.order(t.Context(), "book", grpcidem.Key, "k", "caller", "a"), codes.OK, "1", false)
	s.want(s.order(t.Context(), "book", grpcidem.Key, "k", "caller", "a"), codes.OK, "1", true)
	// A method that the server does not know does not reach the interceptor.
	err := s.conn.Invoke(metadata.AppendToOutgoingContext(t.Context(), grpcidem.Key, "k", "caller", "a"), "/test.Shop/Unknown", wrapperspb.String("x"), new(wrapperspb.StringValue))
	if status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
}

// TestMetadataThatDidNotLeaveIsNotReplayed is about a header that comes too late, which gRPC
// refuses.
func TestMetadataThatDidNotLeaveIsNotReplayed(t *testing.T) {
	t.Parallel()
	s := open(t, &grpcidem.Config{Metadata: []string{"early", "late", "end"}})
	s.answer(func(ctx context.Context, _ string) (string, error) {
		if err := errors.Join(grpc.SetHeader(ctx, metadata.Pairs("early", "1")), grpc.SendHeader(ctx, metadata.Pairs("early", "2"))); err != nil {
			return "", err
		}
		if grpc.SetHeader(ctx, metadata.Pairs("late", "3")) == nil || grpc.SendHeader(ctx, metadata.Pairs("late", "4")) == nil {
			t.Error("a header was set after it was sent")
		}
		return "done", grpc.SetTrailer(ctx, metadata.Pairs("end", "5"))
	})
	for i := range 2 {
		r := s.order(t.Context(), "book", grpcidem.Key, "k", "caller", "a")
		s.want(r, codes.OK, "done", i > 0)
		if strings.Join(r.header.Get("early"), ",") != "1,2" || len(r.header.Get("late")) != 0 || strings.Join(r.trailer.Get("end"), ",") != "5" {
			t.Errorf("%v, %v", r.header, r.trailer)
		}
	}
}

// TestRefusalsHaveNothingOfTheHandlers is about handlers whose answer is not sent.
func TestRefusalsHaveNothingOfTheHandlers(t *testing.T) {
	t.Parallel()
	recovering := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (answer any, err error) {
		defer func() {
			if recover() != nil {
				err = status.Error(codes.Internal, "broken")
			}
		}()
		return h(ctx, req)
	}
	s := openWith(t, nil, func(idem grpc.UnaryServerInterceptor) []grpc.UnaryServerInterceptor {
		return []grpc.UnaryServerInterceptor{recovering, idem}
	})
	set := func(ctx context.Context) {
		if err := errors.Join(grpc.SetHeader(ctx, metadata.Pairs("half", "1")), grpc.SetTrailer(ctx, metadata.Pairs("half", "1"))); err != nil {
			t.Error(err)
		}
	}
	for name, end := range map[string]func(){"panic": func() { panic("broken") }, "fenced": func() { s.redis.FlushAll() }} {
		s.answer(func(ctx context.Context, _ string) (string, error) {
			set(ctx)
			end()
			return "done", nil
		})
		r := s.order(t.Context(), "book", grpcidem.Key, name, "caller", "a")
		if r.code == codes.OK && name == "panic" || r.code != codes.OK && len(r.header.Get("half"))+len(r.trailer.Get("half")) > 0 {
			t.Errorf("%s: %v with %v and %v", name, r.err, r.header, r.trailer)
		}
	}
	s.answer(func(ctx context.Context, _ string) (string, error) { set(ctx); return "done", nil })
	r := s.order(t.Context(), "book", grpcidem.Key, "panic", "caller", "a")
	s.want(r, codes.OK, "done", false)
	if len(r.header.Get("half")) != 1 || len(r.trailer.Get("half")) != 1 {
		t.Errorf("%v, %v", r.header, r.trailer)
	}
}

// TestTwoInterceptorsAreNamed is about a chain with the interceptor twice, which waits for itself.
func TestTwoInterceptorsAreNamed(t *testing.T) {
	t.Parallel()
	s := openWith(t, &grpcidem.Config{Keep: func(codes.Code) bool { return true }}, func(idem grpc.UnaryServerInterceptor) []grpc.UnaryServerInterceptor {
		return slices.Repeat([]grpc.UnaryServerInterceptor{idem}, 2)
	})
	for range 2 { // it is not stored either
		r := s.order(t.Context(), "book", grpcidem.Key, "k", "caller", "a")
		if r.code != codes.Internal || !strings.Contains(r.err.Error(), "interceptors") || r.replayed() || s.runs.Load() != 0 {
			t.Errorf("%v, %d runs, replayed %t", r.err, s.runs.Load(), r.replayed())
		}
	}
}
