//go:build unix

package completer

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/rung"
)

// mostAtRest bounds the commands of a minute, including those in scripts.
const mostAtRest = 1000

// TestFlowsAtRestCostNextToNothing counts all commands of a server, including those in scripts,
// while a completer finds nothing due. It runs a minute with the default Interval in three seconds,
// with all times shortened alike. The keys of some flows are due so soon that the flows never rest,
// which is the worst case.
func TestFlowsAtRestCostNextToNothing(t *testing.T) {
	const (
		speed    = 20 // times faster than with the defaults
		interval = redisidem.DefaultInterval / speed
		minute   = time.Minute / speed
	)
	for _, c := range []struct {
		flows        int
		recoverAfter time.Duration
	}{{1, 30 * time.Second / speed}, {3, 30 * time.Second / speed}, {20, 30 * time.Second / speed}, {1, time.Millisecond}, {20, time.Millisecond}} {
		client := redis.NewClient(&redis.Options{Addr: rediscase.Server(t).Addr(), ContextTimeoutEnabled: true})
		svc, err := redisidem.New(client, &redisidem.Config{Timeout: 10 * time.Second})
		must(t, err)
		var flows []*redisidem.Flow
		for i := range c.flows {
			f, err := redisidem.NewFlow(redisidem.FlowConfig{
				Name: fmt.Sprint("idle", i), Version: 1, RecoverAfter: c.recoverAfter,
				Stages: []redisidem.FlowStage{{Point: redisidem.Started, Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					return redisidem.Finish(redisidem.JSON(200, "done")), nil
				}}},
			})
			must(t, err)
			flows = append(flows, f)
		}
		completer, err := redisidem.NewCompleter(svc, flows, &redisidem.CompleterConfig{Interval: interval})
		must(t, err)
		before := commands(t, client)
		ctx, cancel := context.WithTimeout(context.Background(), minute)
		_ = completer.Run(ctx)
		cancel()
		n := commands(t, client) - before
		rung.Figure(t, "completer", "%d idle flows with a RecoverAfter of %v cost %d commands a minute", c.flows, c.recoverAfter*speed, n)
		if n > mostAtRest {
			t.Errorf("that is more than %d", mostAtRest)
		}
		must(t, svc.Close(context.Background()))
		_ = client.Close()
	}
}

var calls = regexp.MustCompile(`calls=(\d+)`)

// commands returns how many commands a server has run.
func commands(t *testing.T, client *redis.Client) (n int) {
	t.Helper()
	text, err := client.Info(context.Background(), "commandstats").Result()
	must(t, err)
	for _, m := range calls.FindAllStringSubmatch(text, -1) {
		one, err := strconv.Atoi(m[1])
		must(t, err)
		n += one
	}
	return n
}
