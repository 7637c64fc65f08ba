package protocol

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/redis/go-redis/v9"
)

// refusal is an error reply of the server's.
type refusal string

func (r refusal) Error() string { return string(r) }
func (refusal) RedisError()     {}

func TestTransient(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want bool
	}{
		{io.EOF, true},
		{context.DeadlineExceeded, true},
		{errors.New("connection refused"), true},
		{errForeignReply, true},
		{errAgain, true},
		{refusal("LOADING Redis is loading the dataset in memory"), true},
		{refusal("READONLY You can't write against a read only replica."), true},
		{refusal("CLUSTERDOWN The cluster is down"), true},
		{refusal("TRYAGAIN Multiple keys request during rehashing of slot"), true},
		{refusal("MASTERDOWN Link with MASTER is down"), true},
		{refusal("BUSY Redis is busy running a script."), true},
		{refusal("MOVED 42 10.0.0.1:6379"), true},
		{refusal("NOREPLICAS Not enough good replicas to write."), true},
		{refusal("ERR max number of clients reached"), true},
		{redis.ErrClosed, false},
		{&DamagedError{"x"}, false},
		{fmt.Errorf("wrapped: %w", &DamagedError{"x"}), false},
		{refusal("NOPERM this user has no permissions"), false},
		{refusal("NOAUTH Authentication required."), false},
		{refusal("WRONGTYPE Operation against a key holding the wrong kind of value"), false},
		{refusal("OOM command not allowed when used memory > 'maxmemory'."), false},
		{refusal("ERR unknown command 'evalsha'"), false},
	} {
		if got := transient(c.err); got != c.want {
			t.Errorf("transient(%v) is %v", c.err, got)
		}
	}
}

// TestRefusalIsReturnedWhenTheLastTryIsCutShort has a server that refuses until the time is over in
// the middle of a try.
func TestRefusalIsReturnedWhenTheLastTryIsCutShort(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	tries := 0
	err := Repeat(ctx, func(ctx context.Context) error {
		tries++
		if tries < 3 {
			return refusal("READONLY You can't write against a read only replica.")
		}
		cancel()
		return ctx.Err()
	})
	if !redis.IsReadOnlyError(err) || tries != 3 {
		t.Errorf("error is %v after %d tries", err, tries)
	}
}
