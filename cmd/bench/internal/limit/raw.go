package limit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Raw returns an operation that runs a lifecycle's two commands with a go-redis client.
// This is the minimum cost of one caller's lifecycle through that client.
func Raw(client *redis.Client, t *Template, run string) func(ctx context.Context, caller int, n uint64) (time.Duration, error) {
	return func(ctx context.Context, caller int, n uint64) (time.Duration, error) {
		var names names
		t.fill(&names, fmt.Sprint(run, caller, "y"), n)
		claim := redis.NewStringSliceCmd(ctx, names.args(t.Claim)...)
		if err := client.Process(ctx, claim); err != nil {
			return 0, err
		}
		got := strings.Fields(strings.Join(claim.Val(), " ")) // status, token, fence
		if len(got) < 3 || got[0] != "OWN" {
			return 0, fmt.Errorf("claim says %q", got)
		}
		names.fence = []byte(got[2])
		commit := redis.NewStringSliceCmd(ctx, names.args(t.Commit)...)
		if err := client.Process(ctx, commit); err != nil {
			return 0, err
		}
		if got := commit.Val(); len(got) == 0 || !strings.HasPrefix(got[0], "OK ") {
			return 0, errors.New("commit was refused")
		}
		return 0, nil
	}
}

func (n *names) args(command []word) []any {
	args := make([]any, len(command))
	for i, w := range command {
		switch w.hole {
		case key:
			args[i] = n.key
		case record:
			args[i] = string(n.record)
		case lock:
			args[i] = string(n.lock)
		case token:
			args[i] = n.token
		case fence:
			args[i] = n.fence
		default:
			args[i] = w.text
		}
	}
	return args
}
