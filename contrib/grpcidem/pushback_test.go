package grpcidem_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/redisidem/redisidem/contrib/grpcidem"
	"github.com/redisidem/redisidem/redisidem"
)

// retrying is a client as gRPC makes it, whose service config retries those codes.
func (s *shop) retrying(backoff, codes string, opts ...grpc.DialOption) {
	s.Helper()
	s.conn = s.dial(append(opts, grpc.WithDefaultServiceConfig(fmt.Sprintf(`{"methodConfig": [{"name": [{}], "retryPolicy": {
		"maxAttempts": 5, "initialBackoff": "%[1]s", "maxBackoff": "%[1]s", "backoffMultiplier": 1, "retryableStatusCodes": [%[2]s]}}]}`,
		backoff, codes)))...)
}

// TestStockClientsFollowThePushback is about a call that another one with its key is in front of.
// The client's own back-off is too long for the test.
func TestStockClientsFollowThePushback(t *testing.T) {
	t.Parallel()
	s := open(t, &grpcidem.Config{MaxRetryAfter: 200 * time.Millisecond})
	s.retrying("600s", `"ABORTED"`)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	began, hold := make(chan struct{}), make(chan struct{})
	s.answer(func(context.Context, string) (string, error) {
		close(began)
		<-hold
		return "done", nil
	})
	first, second := make(chan reply, 1), make(chan reply, 1)
	go func() { first <- s.order(ctx, "book", grpcidem.Key, "k", "caller", "a") }()
	<-began
	go func() { second <- s.order(ctx, "book", grpcidem.Key, "k", "caller", "a") }()
	time.Sleep(50 * time.Millisecond) // it has been refused by now, or is going to get a replay at once
	close(hold)
	s.want(<-first, codes.OK, "done", false)
	s.want(<-second, codes.OK, "done", true)
	if n := s.runs.Load(); n != 1 {
		t.Errorf("the handler ran %d times", n)
	}
}

func TestRefusalsHaveAPushback(t *testing.T) {
	t.Parallel()
	pushback := func(r reply) int {
		values := r.trailer.Get("grpc-retry-pushback-ms")
		if len(values) != 1 {
			t.Errorf("%v has the pushback %v", r.err, values)
			return 0
		}
		ms, err := strconv.Atoi(values[0])
		if err != nil {
			t.Error(err)
		}
		return ms
	}
	s := open(t, &grpcidem.Config{MaxRetryAfter: 300 * time.Millisecond}, func(c *redisidem.Config) { c.Timeout = 2 * time.Second; c.MaxValueBytes = 100 })
	ctx := t.Context()
	s.want(s.order(ctx, "book", grpcidem.Key, "k", "caller", "a"), codes.OK, "book 1", false)
	s.answer(func(context.Context, string) (string, error) { return strings.Repeat("x", 200), nil })
	s.want(s.order(ctx, "book", grpcidem.Key, "large", "caller", "a"), codes.OK, strings.Repeat("x", 200), false)
	for code, r := range map[codes.Code]reply{
		codes.FailedPrecondition: s.order(ctx, "lamp", grpcidem.Key, "k", "caller", "a"),
		codes.InvalidArgument:    s.order(ctx, "book", "caller", "a"),
		codes.PermissionDenied:   s.order(ctx, "book", grpcidem.Key, "k"),
		codes.DataLoss:           s.order(ctx, "book", grpcidem.Key, "large", "caller", "a"),
	} {
		if ms := pushback(r); r.code != code || ms >= 0 {
			t.Errorf("%v: %v with the pushback %d", code, r.err, ms)
		}
	}
	s.answer(func(context.Context, string) (string, error) {
		r := s.order(ctx, "book", grpcidem.Key, "k2", "caller", "a")
		if ms := pushback(r); r.code != codes.Aborted || ms <= 0 || ms > 300 {
			t.Errorf("in flight: %v with the pushback %d", r.err, ms)
		}
		return "done", nil
	})
	s.want(s.order(ctx, "book", grpcidem.Key, "k2", "caller", "a"), codes.OK, "done", false)
	s.redis.Close()
	r := s.order(ctx, "book", grpcidem.Key, "k", "caller", "a")
	if ms := pushback(r); r.code != codes.Unavailable || ms != 300 {
		t.Errorf("without a store: %v with the pushback %d", r.err, ms)
	}
}

// TestStockClientsDoNotRetryFinalRefusals is about a service config that retries more than it
// should.
func TestStockClientsDoNotRetryFinalRefusals(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	s := openWith(t, nil, func(idem grpc.UnaryServerInterceptor) []grpc.UnaryServerInterceptor {
		return []grpc.UnaryServerInterceptor{func(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			calls.Add(1)
			return idem(ctx, req, info, h)
		}}
	})
	s.retrying("0.001s", `"FAILED_PRECONDITION", "INVALID_ARGUMENT", "PERMISSION_DENIED"`)
	s.order(t.Context(), "book", grpcidem.Key, "k", "caller", "a")
	s.want(s.order(t.Context(), "lamp", grpcidem.Key, "k", "caller", "a"), codes.FailedPrecondition, "", false)
	s.want(s.order(t.Context(), "book", "caller", "a"), codes.InvalidArgument, "", false)
	s.want(s.order(t.Context(), "book", grpcidem.Key, "k"), codes.PermissionDenied, "", false)
	if n := calls.Load(); n != 4 {
		t.Errorf("4 calls were sent %d times", n)
	}
}

// TestInterceptorAndServiceConfigDoNotMultiply is about a client that has both.
func TestInterceptorAndServiceConfigDoNotMultiply(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	intercept, err := grpcidem.UnaryClient(&grpcidem.ClientConfig{MinBackoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	s.retrying("0.001s", `"UNAVAILABLE", "ABORTED"`, grpc.WithUnaryInterceptor(intercept))
	s.answer(func(context.Context, string) (string, error) { return "", status.Error(codes.Unavailable, "not now") })
	for _, text := range []string{"book", ""} { // an empty message, too
		before := s.runs.Load()
		s.want(s.order(t.Context(), text, "caller", "a"), codes.Unavailable, "", false)
		if n := s.runs.Load() - before; n != 5 {
			t.Errorf("the handler ran %d times", n)
		}
	}
}

func TestClientFollowsThePushback(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	intercept, err := grpcidem.UnaryClient(&grpcidem.ClientConfig{MinBackoff: time.Millisecond, Patience: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	s.conn = s.dial(grpc.WithUnaryInterceptor(intercept))
	for name, c := range map[string]struct {
		code  codes.Code
		delay []string
		runs  int64
	}{
		"never": {codes.Unavailable, []string{"-1"}, 1}, "no number": {codes.Unavailable, []string{"soon"}, 1},
		"several": {codes.Unavailable, []string{"1", "1"}, 1}, "soon": {codes.Aborted, []string{"1"}, 5}, "too long": {codes.Aborted, []string{"60000"}, 1},
	} {
		s.answer(func(ctx context.Context, _ string) (string, error) {
			for _, delay := range c.delay {
				if err := grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", delay)); err != nil {
					t.Error(err)
				}
			}
			return "", status.Error(c.code, "no")
		})
		before := s.runs.Load()
		var trailer metadata.MD // the caller's own options stay
		err := s.conn.Invoke(metadata.AppendToOutgoingContext(t.Context(), "caller", "a"), method, wrapperspb.String(name), new(wrapperspb.StringValue),
			grpc.Trailer(&trailer))
		if n := s.runs.Load() - before; status.Code(err) != c.code || n != c.runs || len(trailer.Get("grpc-retry-pushback-ms")) != len(c.delay) {
			t.Errorf("%s: %v after %d runs, with %v", name, err, n, trailer)
		}
	}
}
