package grpcidem

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/idemclient"
)

// ClientConfig configures the interceptor of a client. The zero value of each field means its
// default, and a nil *ClientConfig means all defaults.
type ClientConfig struct {
	// Covers reports whether a method gets keys and retries. It is called concurrently. Default:
	// all unary methods do.
	Covers func(fullMethod string) bool
	// NewKey returns a key for each new call. It is called concurrently. Default: a version 4 UUID.
	NewKey func() string
	// Attempts is how often a call is sent at most. With 1 it is sent once. Default: 5.
	Attempts int
	// MinBackoff and MaxBackoff bound the pause between two attempts. The pause doubles from
	// MinBackoff to MaxBackoff, and each pause is a random time between half of it and all of it. A
	// longer delay of the server replaces it. Defaults: 100 ms and 5 s.
	MinBackoff, MaxBackoff time.Duration
	// Patience is the longest delay of a server that the client waits for. An error with a longer
	// delay is returned. Default: 1 min.
	Patience time.Duration
}

// UnaryClient returns an interceptor that gives each call a key, unless its outgoing metadata has
// one. It repeats the call with the same key after UNAVAILABLE, and after ABORTED with a delay from
// the server. It stops when the call's context ends. It follows the trailer grpc-retry-pushback-ms
// as gRPC's own clients do: the trailer is the delay, and a negative one ends the retries. The
// interceptor may be used concurrently.
//
// The retryPolicy of a service config does not apply to these calls, since its attempts would
// multiply with those of the interceptor. For that, the interceptor sets
// [grpc.MaxRetryRPCBufferSize] to 0. It does not see other interceptors that retry: use only one of
// them.
//
// A field that is out of its bounds is a [*redisidem.InvalidError].
func UnaryClient(cfg *ClientConfig) (grpc.UnaryClientInterceptor, error) {
	var c ClientConfig
	if cfg != nil {
		c = *cfg
	}
	if c.Covers == nil {
		c.Covers = func(string) bool { return true }
	}
	if c.NewKey == nil {
		c.NewKey = idemclient.NewKey
	}
	if c.Attempts == 0 {
		c.Attempts = 5
	}
	if c.MinBackoff == 0 {
		c.MinBackoff = 100 * time.Millisecond
	}
	if c.MaxBackoff == 0 {
		c.MaxBackoff = max(5*time.Second, c.MinBackoff)
	}
	if c.Patience == 0 {
		c.Patience = time.Minute
	}
	if c.Attempts < 1 || c.Patience < 0 || c.MinBackoff < 0 || c.MaxBackoff < c.MinBackoff {
		return nil, &redisidem.InvalidError{Field: "ClientConfig", Reason: fmt.Sprintf(
			"needs Attempts of at least 1 (%d), a MinBackoff (%v) between 0 and MaxBackoff (%v), and a Patience (%v) that is not negative",
			c.Attempts, c.MinBackoff, c.MaxBackoff, c.Patience)}
	}
	return c.intercept, nil
}

func (c *ClientConfig) intercept(
	ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	if !c.Covers(method) {
		return invoke(ctx, method, req, reply, conn, opts...)
	}
	if md, _ := metadata.FromOutgoingContext(ctx); len(md.Get(Key)) == 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, Key, c.NewKey())
	}
	var trailer metadata.MD
	// gRPC does not retry a message that exceeds the buffer.
	opts = append(slices.Clip(opts), grpc.Trailer(&trailer), grpc.MaxRetryRPCBufferSize(0))
	pause := c.MinBackoff
	for attempt := 1; ; attempt++ {
		trailer = nil
		err := invoke(ctx, method, req, reply, conn, opts...)
		after, again := retryAfter(err, trailer)
		if !again || attempt >= c.Attempts || after > c.Patience {
			return err
		}
		timer := time.NewTimer(max(after, pause/2+rand.N(pause/2+1)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
		pause = min(2*pause, c.MaxBackoff)
	}
}

// retryAfter reports whether a call may be sent again, and the delay that the server asks for.
func retryAfter(err error, trailer metadata.MD) (time.Duration, bool) {
	st := status.Convert(err)
	var after time.Duration
	asked := false
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			after, asked = info.GetRetryDelay().AsDuration(), true
		}
	}
	if delays := trailer.Get(pushback); len(delays) > 0 {
		ms, err := strconv.ParseInt(delays[0], 10, 32)
		if err != nil || ms < 0 || len(delays) > 1 {
			return 0, false
		}
		after, asked = max(after, time.Duration(ms)*time.Millisecond), true
	}
	return after, st.Code() == codes.Unavailable || st.Code() == codes.Aborted && asked
}
