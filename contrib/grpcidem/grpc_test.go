package grpcidem_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/redisidem/redisidem/contrib/grpcidem"
	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/redisidem"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	leak.Main(m)
}

// quiet keeps go-redis from writing about servers that tests end on purpose.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// method is the only one of the test's service: it takes a text and returns one.
const method = "/test.Shop/Order"

// shop is a gRPC server whose handler is counted.
type shop struct {
	*testing.T
	redis  *miniredis.Miniredis
	addr   string
	conn   *grpc.ClientConn
	runs   atomic.Int64
	mu     sync.Mutex
	handle func(ctx context.Context, text string) (any, error)
}

func (s *shop) answer(h func(ctx context.Context, text string) (string, error)) {
	s.answerAny(func(ctx context.Context, text string) (any, error) {
		text, err := h(ctx, text)
		return wrapperspb.String(text), err
	})
}

// answerAny takes handlers whose answer may be anything.
func (s *shop) answerAny(h func(ctx context.Context, text string) (any, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handle = h
}

// caller returns the caller's name, like an interceptor that authenticates.
func caller(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if names := md.Get("caller"); len(names) == 1 {
		return names[0], nil
	}
	return "", errors.New("secret reason")
}

func open(t *testing.T, cfg *grpcidem.Config, change ...func(*redisidem.Config)) *shop {
	t.Helper()
	return openWith(t, cfg, nil, change...)
}

// openWith takes what makes the chain of interceptors of the one that is tested.
func openWith(
	t *testing.T, cfg *grpcidem.Config, around func(grpc.UnaryServerInterceptor) []grpc.UnaryServerInterceptor, change ...func(*redisidem.Config),
) *shop {
	t.Helper()
	s := &shop{T: t, redis: miniredis.RunT(t)}
	s.answer(func(_ context.Context, text string) (string, error) { return fmt.Sprint(text, " ", s.runs.Load()), nil })
	core := redisidem.Config{Timeout: 5 * time.Second}
	for _, f := range change {
		f(&core)
	}
	svc, err := redisidem.OpenUnchecked("redis://"+s.redis.Addr(), &core)
	if err != nil {
		t.Fatal(err)
	}
	idem, err := grpcidem.NewServer(svc, caller, cfg)
	if err != nil {
		t.Fatal(err)
	}
	unary := []grpc.UnaryServerInterceptor{idem.Unary()}
	if around != nil {
		unary = around(unary[0])
	}
	server := grpc.NewServer(grpc.ChainUnaryInterceptor(unary...), grpc.StreamInterceptor(idem.Stream()))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Shop", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: "Order",
			Handler: func(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
				in := new(wrapperspb.StringValue)
				if err := decode(in); err != nil {
					return nil, err
				}
				return intercept(ctx, in, &grpc.UnaryServerInfo{FullMethod: method}, func(ctx context.Context, req any) (any, error) {
					s.runs.Add(1)
					s.mu.Lock()
					h := s.handle
					s.mu.Unlock()
					return h(ctx, req.(*wrapperspb.StringValue).GetValue())
				})
			},
		}},
		Streams: []grpc.StreamDesc{{
			StreamName: "Watch", ServerStreams: true,
			Handler: func(any, grpc.ServerStream) error { return nil },
		}},
	}, s)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }() // ends with Stop
	s.addr = listener.Addr().String()
	t.Cleanup(func() {
		_ = s.conn.Close()
		server.Stop()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := svc.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	s.conn = s.dial()
	return s
}

// dial connects another client.
func (s *shop) dial(opts ...grpc.DialOption) *grpc.ClientConn {
	s.Helper()
	conn, err := grpc.NewClient(s.addr, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = conn.Close() })
	return conn
}

// reply is what came back.
type reply struct {
	text            string
	code            codes.Code
	err             error
	header, trailer metadata.MD
}

func (r reply) replayed() bool { return len(r.header.Get(grpcidem.Replayed)) > 0 }

// order calls the service with pairs of metadata.
func (s *shop) order(ctx context.Context, text string, pairs ...string) (r reply) {
	out := new(wrapperspb.StringValue)
	r.err = s.conn.Invoke(metadata.AppendToOutgoingContext(ctx, pairs...), method, wrapperspb.String(text), out, grpc.Header(&r.header),
		grpc.Trailer(&r.trailer))
	r.text, r.code = out.GetValue(), status.Code(r.err)
	return r
}

func (s *shop) want(r reply, code codes.Code, text string, replayed bool) {
	s.Helper()
	if r.code != code || r.text != text || r.replayed() != replayed {
		s.Errorf("the answer is %q, %v, replayed %v; want %q, %v, %v", r.text, r.err, r.replayed(), text, code, replayed)
	}
}

func TestCallIsExecutedOnce(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	ctx := t.Context()
	for i := range 3 {
		s.want(s.order(ctx, "book", grpcidem.Key, "k", "caller", "a"), codes.OK, "book 1", i > 0)
	}
	s.want(s.order(ctx, "lamp", grpcidem.Key, "k", "caller", "a"), codes.FailedPrecondition, "", false)
	s.want(s.order(ctx, "book", grpcidem.Key, "k", "caller", "b"), codes.OK, "book 2", false)
	s.want(s.order(ctx, "book", "caller", "a"), codes.InvalidArgument, "", false)
	s.want(s.order(ctx, "book", grpcidem.Key, "", "caller", "a"), codes.InvalidArgument, "", false)
	s.want(s.order(ctx, "book", grpcidem.Key, "a", grpcidem.Key, "b", "caller", "a"), codes.InvalidArgument, "", false)
	s.want(s.order(ctx, "book", grpcidem.Key, strings.Repeat("x", 300), "caller", "a"), codes.InvalidArgument, "", false)
	if r := s.order(ctx, "book", grpcidem.Key, "k"); r.code != codes.PermissionDenied || strings.Contains(r.err.Error(), "secret") {
		t.Errorf("a call without a caller: %v", r.err)
	}
	if n := s.runs.Load(); n != 2 {
		t.Errorf("the handler ran %d times", n)
	}
}

func TestErrorsAreKeptOrReleased(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	for code, kept := range map[codes.Code]bool{
		codes.InvalidArgument: true, codes.NotFound: true, codes.AlreadyExists: true, codes.FailedPrecondition: true, codes.OutOfRange: true,
		codes.Unimplemented: false, codes.DataLoss: true, codes.Canceled: false, codes.Unknown: false, codes.DeadlineExceeded: false,
		codes.PermissionDenied: false, codes.ResourceExhausted: false, codes.Aborted: false, codes.Internal: false, codes.Unavailable: false,
		codes.Unauthenticated: false,
	} {
		s.answer(func(context.Context, string) (string, error) {
			st, err := status.New(code, "no").WithDetails(&errdetails.ErrorInfo{Reason: "because"})
			if err != nil {
				return "", err
			}
			return "", st.Err()
		})
		before := s.runs.Load()
		for i := range 2 {
			r := s.order(t.Context(), "book", grpcidem.Key, "k-"+code.String(), "caller", "a")
			details := status.Convert(r.err).Details()
			if r.code != code || r.replayed() != (kept && i == 1) || len(details) != 1 || details[0].(*errdetails.ErrorInfo).GetReason() != "because" {
				t.Errorf("%v: %v with %v, replayed %v", code, r.err, details, r.replayed())
			}
		}
		if ran := s.runs.Load() - before; ran != map[bool]int64{true: 1, false: 2}[kept] {
			t.Errorf("%v: the handler ran %d times", code, ran)
		}
	}
}

// TestAnswersThatAskForARetryAreNotFinal has what the refusals of another server look like whose
// answer a handler hands on.
func TestAnswersThatAskForARetryAreNotFinal(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.answer(func(context.Context, string) (string, error) {
		if s.runs.Load() > 1 {
			return "done", nil
		}
		st, err := status.New(codes.FailedPrecondition, "not yet").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Millisecond)})
		if err != nil {
			return "", err
		}
		return "", st.Err()
	})
	s.want(s.order(t.Context(), "book", grpcidem.Key, "k", "caller", "a"), codes.FailedPrecondition, "", false)
	s.want(s.order(t.Context(), "book", grpcidem.Key, "k", "caller", "a"), codes.OK, "done", false)
	s.want(s.order(t.Context(), "book", grpcidem.Key, "k", "caller", "a"), codes.OK, "done", true)
}

// TestAnswersThatCannotBeKeptAreNotExecutedAgain is about work that was done, and whose answer the
// store does not take.
func TestAnswersThatCannotBeKeptAreNotExecutedAgain(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 2000)
	s := open(t, &grpcidem.Config{Metadata: []string{"order"}}, func(c *redisidem.Config) { c.MaxValueBytes = 1000 })
	for name, h := range map[string]func(context.Context, string) (string, error){
		"large": func(context.Context, string) (string, error) { return large, nil },
		"large-details": func(context.Context, string) (string, error) {
			return "", status.Error(codes.NotFound, large)
		},
		"large-metadata": func(ctx context.Context, _ string) (string, error) {
			return "done", grpc.SetHeader(ctx, metadata.Pairs("order", large))
		},
		"no-text": func(context.Context, string) (string, error) { return "\xff", nil },
	} {
		s.answer(h)
		before := s.runs.Load()
		first := s.order(t.Context(), "book", grpcidem.Key, name, "caller", "a")
		switch {
		case name == "large" && (first.code != codes.OK || first.text != large), name == "large-metadata" && first.code != codes.OK,
			name == "large-details" && first.code != codes.NotFound:
			t.Errorf("%s: %v", name, first.err)
		}
		for range 2 {
			again := s.order(t.Context(), "book", grpcidem.Key, name, "caller", "a")
			if again.code != codes.DataLoss || again.replayed() || len(status.Convert(again.err).Details()) != 0 {
				t.Errorf("%s: %v", name, again.err)
			}
		}
		if ran := s.runs.Load() - before; ran != 1 {
			t.Errorf("%s: the handler ran %d times", name, ran)
		}
	}
}

// TestCallSettledWithoutAnAnswerIsDataLoss has an operator who settles a call whose outcome was
// unknown, and has no answer to give.
func TestCallSettledWithoutAnAnswerIsDataLoss(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.answer(func(context.Context, string) (string, error) { return "", status.Error(codes.Unavailable, "away") })
	ask := func() reply { return s.order(t.Context(), "book", grpcidem.Key, "k", "caller", "a") }
	s.want(ask(), codes.Unavailable, "", false)
	svc, err := redisidem.OpenUnchecked("redis://"+s.redis.Addr(), &redisidem.Config{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = svc.Close(context.Background()) })
	in := redisidem.NewInspector(svc)
	settled := 0
	for page, err := range in.List(t.Context(), redisidem.Filter{}, "") {
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range page.Keys {
			settled++
			if err := in.Resolve(t.Context(), key, redisidem.Finish(redisidem.Response{}), redisidem.Act{Actor: "ann", Reason: "it was done"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if again := ask(); settled != 1 || again.code != codes.DataLoss || again.replayed() {
		t.Errorf("%d keys were settled, and the retry gets %v", settled, again.err)
	}
	if n := s.runs.Load(); n != 1 {
		t.Errorf("%d runs", n)
	}
}

// TestCallerThatLeavesWhileItWaitsHasRunNothing is about a call that is behind another one with its
// key.
func TestCallerThatLeavesWhileItWaitsHasRunNothing(t *testing.T) {
	t.Parallel()
	arrived, ended := make(chan struct{}, 3), make(chan struct{}, 3)
	s := openWith(t, &grpcidem.Config{Wait: time.Minute}, func(idem grpc.UnaryServerInterceptor) []grpc.UnaryServerInterceptor {
		return []grpc.UnaryServerInterceptor{func(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			arrived <- struct{}{}
			defer func() { ended <- struct{}{} }()
			return idem(ctx, req, info, h)
		}}
	})
	begun, release := make(chan struct{}), make(chan struct{})
	s.answer(func(context.Context, string) (string, error) {
		close(begun)
		<-release
		return "", status.Error(codes.Unavailable, "not now") // so that a waiter would run
	})
	first := make(chan reply)
	go func() { first <- s.order(t.Context(), "book", grpcidem.Key, "k", "caller", "a") }()
	<-begun
	<-arrived
	leaving, leave := context.WithCancel(t.Context())
	second := make(chan reply)
	go func() { second <- s.order(leaving, "book", grpcidem.Key, "k", "caller", "a") }()
	<-arrived
	time.Sleep(100 * time.Millisecond) // it waits by now, or leaves before it does
	leave()
	if r := <-second; r.code != codes.Canceled {
		t.Error(r.err)
	}
	<-ended // the server has seen that it has left
	close(release)
	if r := <-first; r.code != codes.Unavailable {
		t.Error(r.err)
	}
	s.answer(func(context.Context, string) (string, error) { return "done", nil })
	s.want(s.order(t.Context(), "book", grpcidem.Key, "k", "caller", "a"), codes.OK, "done", false)
	if n := s.runs.Load(); n != 2 {
		t.Errorf("the handler ran %d times", n)
	}
}

func TestOnlyReplaysAreMarked(t *testing.T) {
	t.Parallel()
	s := open(t, &grpcidem.Config{Metadata: []string{"order"}})
	s.answer(func(ctx context.Context, _ string) (string, error) {
		return "done", errors.Join(grpc.SetHeader(ctx, metadata.Pairs(grpcidem.Replayed, "true", "order", "1")), grpc.SendHeader(ctx, metadata.Pairs(grpcidem.Replayed, "true")))
	})
	for i := range 2 {
		r := s.order(t.Context(), "book", grpcidem.Key, "k", "caller", "a")
		s.want(r, codes.OK, "done", i == 1)
		if len(r.header.Get("order")) != 1 {
			t.Errorf("%v", r.header)
		}
	}
}

func TestMetadataOfTheAnswerIsKept(t *testing.T) {
	t.Parallel()
	s := open(t, &grpcidem.Config{Metadata: []string{"Order", "raw-bin"}})
	s.answer(func(ctx context.Context, _ string) (string, error) {
		if st := grpcidem.Stage(ctx); st == nil || st.Attempt() != 1 || st.Fence() == 0 {
			t.Errorf("the stage is %v", st)
		}
		return "done", errors.Join(
			grpc.SetHeader(ctx, metadata.Pairs("order", "1", "order", "2", "secret", "s")),
			grpc.SetTrailer(ctx, metadata.Pairs("raw-bin", "\x00\xff", "secret", "s")),
		)
	})
	for i := range 2 {
		r := s.order(t.Context(), "book", grpcidem.Key, "k", "caller", "a")
		s.want(r, codes.OK, "done", i == 1)
		if strings.Join(r.header.Get("order"), ",") != "1,2" || strings.Join(r.trailer.Get("raw-bin"), ",") != "\x00\xff" {
			t.Errorf("%d: %v, %v", i, r.header, r.trailer)
		}
		if leaked := len(r.header.Get("secret")) + len(r.trailer.Get("secret")); (i == 1) != (leaked == 0) {
			t.Errorf("%d: %v, %v", i, r.header, r.trailer)
		}
	}
}

func TestCallInFlight(t *testing.T) {
	t.Parallel()
	for _, wait := range []time.Duration{0, 10 * time.Second} {
		s := open(t, &grpcidem.Config{Wait: wait})
		began, hold := make(chan struct{}), make(chan struct{})
		s.answer(func(context.Context, string) (string, error) {
			close(began)
			<-hold
			return "done", nil
		})
		first := make(chan reply, 1)
		go func() { first <- s.order(t.Context(), "book", grpcidem.Key, "k", "caller", "a") }()
		<-began
		if wait == 0 {
			r := s.order(t.Context(), "book", grpcidem.Key, "k", "caller", "a")
			s.want(r, codes.Aborted, "", false)
			details := status.Convert(r.err).Details()
			if info, ok := details[0].(*errdetails.RetryInfo); !ok || info.GetRetryDelay().AsDuration() <= 0 {
				t.Errorf("the details are %v", details)
			}
			close(hold)
		} else {
			second := make(chan reply, 1)
			go func() { second <- s.order(t.Context(), "book", grpcidem.Key, "k", "caller", "a") }()
			close(hold)
			s.want(<-second, codes.OK, "done", true)
		}
		s.want(<-first, codes.OK, "done", false)
	}
}

func TestCallerThatLeavesGetsAReplayLater(t *testing.T) {
	t.Parallel()
	s := open(t, &grpcidem.Config{Wait: 10 * time.Second})
	began, hold := make(chan struct{}), make(chan struct{})
	s.answer(func(ctx context.Context, _ string) (string, error) {
		close(began)
		<-hold
		return "done", ctx.Err()
	})
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan reply, 1)
	go func() { left <- s.order(ctx, "book", grpcidem.Key, "k", "caller", "a") }()
	<-began
	leave()
	s.want(<-left, codes.Canceled, "", false)
	close(hold)
	s.want(s.order(t.Context(), "book", grpcidem.Key, "k", "caller", "a"), codes.OK, "done", true)
}

func TestStoreThatIsDown(t *testing.T) {
	t.Parallel()
	s := open(t, nil, func(c *redisidem.Config) { c.Timeout = 100 * time.Millisecond })
	s.redis.Close()
	r := s.order(t.Context(), "book", grpcidem.Key, "k", "caller", "a")
	s.want(r, codes.Unavailable, "", false)
	if s.runs.Load() != 0 || strings.Contains(r.err.Error(), "127.0.0.1") {
		t.Errorf("%d runs, %v", s.runs.Load(), r.err)
	}
}

func TestUncoveredCallsAndStreams(t *testing.T) {
	t.Parallel()
	s := open(t, &grpcidem.Config{Optional: true, Covers: func(m string) bool { return m != "/test.Shop/Other" }})
	for i := range 2 {
		s.want(s.order(t.Context(), "book", "caller", "a"), codes.OK, fmt.Sprint("book ", i+1), false)
	}
	for _, pairs := range [][]string{{grpcidem.Key, "k"}, nil} {
		stream, err := s.conn.NewStream(metadata.AppendToOutgoingContext(t.Context(), pairs...), &grpc.StreamDesc{ServerStreams: true}, "/test.Shop/Watch")
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join(stream.SendMsg(wrapperspb.String("")), stream.CloseSend())
		if err != nil {
			t.Fatal(err)
		}
		err = stream.RecvMsg(new(wrapperspb.StringValue))
		if refused := status.Code(err) == codes.Unimplemented; refused != (pairs != nil) {
			t.Errorf("%v: %v", pairs, err)
		}
	}
}

func TestConfigsThatAreRefused(t *testing.T) {
	t.Parallel()
	svc, err := redisidem.OpenUnchecked("redis://127.0.0.1:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = svc.Close(context.Background()) }()
	for _, make := range []func() error{
		func() error { _, err := grpcidem.NewServer(nil, caller, nil); return err },
		func() error { _, err := grpcidem.NewServer(svc, nil, nil); return err },
		func() error {
			_, err := grpcidem.NewServer(svc, caller, &grpcidem.Config{MaxRetryAfter: -1})
			return err
		},
		func() error {
			_, err := grpcidem.NewServer(svc, caller, &grpcidem.Config{Metadata: []string{"grpc-status"}})
			return err
		},
		func() error { _, err := grpcidem.UnaryClient(&grpcidem.ClientConfig{Attempts: -1}); return err },
		func() error { _, err := grpcidem.UnaryClient(&grpcidem.ClientConfig{Patience: -1}); return err },
		func() error {
			_, err := grpcidem.UnaryClient(&grpcidem.ClientConfig{MinBackoff: 2, MaxBackoff: 1})
			return err
		},
	} {
		if err := make(); !errors.Is(err, redisidem.ErrInvalid) {
			t.Errorf("error is %v", err)
		}
	}
}

func TestClientKeepsItsKeyOverRetries(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	intercept, err := grpcidem.UnaryClient(&grpcidem.ClientConfig{MinBackoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		failures []error
		sent     int
		code     codes.Code
	}{
		{"none", nil, 1, codes.OK},
		{"unavailable", []error{status.Error(codes.Unavailable, ""), status.Error(codes.Unavailable, "")}, 3, codes.OK},
		{"aborted without a word", []error{status.Error(codes.Aborted, "")}, 1, codes.Aborted},
		{"mismatch", []error{status.Error(codes.FailedPrecondition, "")}, 1, codes.FailedPrecondition},
		{"asked for a day", []error{asks(t, 24*time.Hour)}, 1, codes.Unavailable},
		{"asked for a moment", []error{asks(t, time.Millisecond)}, 2, codes.OK},
		{"too often", []error{
			status.Error(codes.Unavailable, ""), status.Error(codes.Unavailable, ""), status.Error(codes.Unavailable, ""),
			status.Error(codes.Unavailable, ""), status.Error(codes.Unavailable, ""),
		}, 5, codes.Unavailable},
	} {
		keys := make(map[string]int)
		sent := 0
		err := intercept(metadata.AppendToOutgoingContext(t.Context(), "caller", "a"), method, wrapperspb.String(c.name), new(wrapperspb.StringValue), s.conn,
			func(ctx context.Context, method string, req, out any, conn *grpc.ClientConn, opts ...grpc.CallOption) error {
				md, _ := metadata.FromOutgoingContext(ctx)
				keys[strings.Join(md.Get(grpcidem.Key), "|")]++
				err := conn.Invoke(ctx, method, req, out, opts...) // it is executed, and its answer gets lost
				sent++
				if sent <= len(c.failures) {
					return c.failures[sent-1]
				}
				return err
			})
		if status.Code(err) != c.code || sent != c.sent || len(keys) != 1 {
			t.Errorf("%s: %v after %d calls with %v", c.name, err, sent, keys)
		}
	}
	if n := s.runs.Load(); n != 7 {
		t.Errorf("seven calls ran %d times", n)
	}
}

// asks makes an error that asks for a delay.
func asks(t *testing.T, delay time.Duration) error {
	t.Helper()
	st, err := status.New(codes.Unavailable, "").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(delay)})
	if err != nil {
		t.Fatal(err)
	}
	return st.Err()
}
