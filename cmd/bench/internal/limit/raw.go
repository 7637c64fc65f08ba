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
		claim := redis.NewStringCmd(ctx, names.args(t.Claim)...)
		if err := client.Process(ctx, claim); err != nil {
			return 0, err
		}
		got := strings.Fields(claim.Val()) // status, token, fence
		if len(got) < 3 || got[0] != "OWN" {
			return 0, fmt.Errorf("claim says %q", got)
		}
		names.fence = []byte(got[2])
		commit := redis.NewStringCmd(ctx, names.args(t.Commit)...)
		if err := client.Process(ctx, commit); err != nil {
			return 0, err
		}
		if !strings.HasPrefix(commit.Val(), "OK ") {
			return 0, errors.New("commit was refused")
		}
		return 0, nil
	}
}

func (n *names) args(command []word) []any {
	args := make([]any, len(command))
	for i, w := range command {
		if len(w) == 1 && w[0].hole == fixed {
			args[i] = w[0].text
		} else {
			args[i] = n.appendParts(nil, w)
		}
	}
	return args
}
