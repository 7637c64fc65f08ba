package target

import (
	"context"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

const (
	// weighed is the maximum number of keys that are weighed on each server. It is low enough that
	// the server's tables do not shrink.
	weighed = 5000
	// portions is the number of portions of these keys. The median excludes other changes of the
	// server's memory, such as the end of a table's growth.
	portions = 5
)

// Weigh removes some of the keys that begin with prefix and returns the bytes of memory that each
// frees. It returns zero if there are no such keys or memory cannot be measured. Connections must
// not be busy or new, since their buffers take and free more memory than the keys.
//
// The result covers the whole key except its slots in the server's tables, which grow by doubling:
// 16 to 32 bytes with an expiry.
func (s *Server) Weigh(ctx context.Context, prefix string) (float64, error) {
	if !s.Measured {
		return 0, nil
	}
	var mu sync.Mutex
	var weights []float64
	err := each(ctx, s.admin, func(ctx context.Context, node *redis.Client) error {
		found, err := weigh(ctx, node, prefix)
		mu.Lock()
		defer mu.Unlock()
		weights = append(weights, found...)
		return err
	})
	return result.SpreadOf(weights).Median, err
}

// weigh returns the weight of a key in each portion on a server.
func weigh(ctx context.Context, node *redis.Client, prefix string) ([]float64, error) {
	var names []string
	if err := scan(ctx, node, prefix, func(more []string) (bool, error) {
		names = append(names, more...)
		return len(names) < weighed, nil
	}); err != nil {
		return nil, err
	}
	slices.Sort(names) // a scan may return a key twice
	names = slices.Compact(names)
	names = names[:min(len(names), weighed)]
	memory := func() (float64, error) {
		info, err := node.Info(ctx, "memory").Result()
		return number(parseInfo(info)["used_memory"]), err
	}
	var weights []float64
	for portion := range slices.Chunk(names, max(1, len(names)/portions)) {
		before, err := memory()
		if err != nil {
			return nil, err
		}
		// Delete a few keys at a time, because the connection's own buffers count, too. DEL frees
		// keys at once. UNLINK may free them later.
		for few := range slices.Chunk(portion, 100) {
			if err := remove(ctx, node, few, redis.Pipeliner.Del); err != nil {
				return nil, err
			}
		}
		after, err := memory()
		if err != nil {
			return nil, err
		}
		weights = append(weights, (before-after)/float64(len(portion)))
	}
	return weights, nil
}
