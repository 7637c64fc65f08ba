package target

import (
	"context"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Stats is what the server says of itself, summed over the masters.
type Stats struct {
	CPU    float64 // seconds that the thread which executes commands has used
	Memory float64 // bytes
	Keys   int64
}

// Stats asks the server. On the embedded server there are none.
func (s *Server) Stats(ctx context.Context) (Stats, error) {
	var sum Stats
	if !s.Measured {
		return sum, nil
	}
	var mu sync.Mutex
	err := s.each(ctx, func(ctx context.Context, node *redis.Client) error {
		info, err := node.Info(ctx, "everything").Result()
		if err != nil {
			return err
		}
		keys, err := node.DBSize(ctx).Result()
		if err != nil {
			return err
		}
		v := parseInfo(info)
		cpu := number(v["used_cpu_user_main_thread"]) + number(v["used_cpu_sys_main_thread"])
		if cpu == 0 {
			cpu = number(v["used_cpu_user"]) + number(v["used_cpu_sys"])
		}
		mu.Lock()
		defer mu.Unlock()
		sum.CPU += cpu
		sum.Memory += number(v["used_memory"])
		sum.Keys += keys
		return nil
	})
	return sum, err
}

func parseInfo(info string) map[string]string {
	values := make(map[string]string)
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			values[name] = value
		}
	}
	return values
}

// number reads a number of INFO's; what is none counts as zero.
func number(s string) float64 {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0
	}
	return f
}
