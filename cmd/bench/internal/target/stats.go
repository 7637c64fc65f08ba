package target

import (
	"context"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Stats is the server's own statistics, summed over the masters.
type Stats struct {
	CPU  float64 // seconds of processor time of the thread that executes commands
	Keys int64
	// In and Out are the bytes that the server has received and sent, except its replies to Stats.
	In, Out float64
}

// Stats reads the statistics from the server. On the embedded server all numbers are zero.
func (s *Server) Stats(ctx context.Context) (Stats, error) {
	var sum Stats
	if !s.Measured {
		return sum, nil
	}
	var mu sync.Mutex
	answers := 0
	err := each(ctx, s.admin, func(ctx context.Context, node *redis.Client) error {
		info, err := node.Info(ctx).Result()
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
		sum.Keys += keys
		sum.In += number(v["total_net_input_bytes"])
		sum.Out += number(v["total_net_output_bytes"])
		answers += len(info)
		return nil
	})
	// The server has counted the earlier replies, but not this one, which was not written yet.
	sum.Out -= float64(s.answers.Add(int64(answers)) - int64(answers))
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

// number parses a number from INFO. A value that is not a number counts as zero.
func number(s string) float64 {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0
	}
	return f
}
