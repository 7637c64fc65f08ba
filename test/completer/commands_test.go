//go:build unix

package completer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/rung"
)

// TestCommandsOfPlainFlows counts all commands of a server, including those in scripts, for a flow
// of four stages that uses nothing but them, and for sweeps. Snoozes, deadlines, cancels, pauses,
// limits and versions must cost such a flow nothing, so a number that grows needs a reason.
func TestCommandsOfPlainFlows(t *testing.T) {
	const due = 100
	client := redis.NewClient(&redis.Options{Addr: rediscase.Server(t).Addr(), ContextTimeoutEnabled: true})
	defer func() { _ = client.Close() }()
	svc, err := redisidem.New(client, &redisidem.Config{Timeout: 10 * time.Second})
	must(t, err)
	broken := false
	flow := func(name string, recoverAfter time.Duration) *redisidem.Flow {
		cfg := redisidem.FlowConfig{Name: name, Version: 1, RecoverAfter: recoverAfter}
		for i, point := range []string{redisidem.Started, "two", "three", "four"} {
			o := redisidem.Next().WithState(point)
			if i == 3 {
				o = redisidem.Finish(redisidem.JSON(200, "done"))
			}
			cfg.Stages = append(cfg.Stages, redisidem.FlowStage{Point: point, Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if broken && i == 1 {
					return redisidem.Outcome{}, errBroken
				}
				return o, nil
			}})
		}
		f, err := redisidem.NewFlow(cfg)
		must(t, err)
		return f
	}
	plain, recoverable := flow("plain", 0), flow("recoverable", time.Millisecond)
	sc := svc.Scope("counted")
	run := func(f *redisidem.Flow, value string) {
		if _, err := sc.DoFlow(context.Background(), value, request, f); err != nil && !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
	}
	answer := func(value string, r redisidem.Response) {
		_, err := sc.Do(context.Background(), value, request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Finish(r), nil
		})
		must(t, err)
	}
	json, bare := redisidem.JSON(200, "done"), redisidem.Response{Code: 200, Body: []byte("done")}
	answer("json", json)
	answer("bare", bare)
	completer, err := redisidem.NewCompleter(svc, []*redisidem.Flow{recoverable}, &redisidem.CompleterConfig{Concurrency: 1})
	must(t, err)
	sweep := func(want int) {
		swept, err := completer.Sweep(context.Background())
		must(t, err)
		if int(swept.Finished) != want {
			t.Fatalf("the sweep did %+v", swept)
		}
	}
	abandon := func(from string, n int) {
		broken = true
		for i := range n {
			run(recoverable, fmt.Sprint(from, i))
		}
		broken = false
		time.Sleep(10 * time.Millisecond) // RecoverAfter is 1 ms
	}
	// The server has all scripts after this.
	run(plain, "first")
	abandon("early", 2)
	sweep(2)

	// The last bound is half a command for each key above what was counted: the number differs by
	// some expiries that are set or are long enough already.
	for _, c := range []struct {
		what string
		most int
		run  func()
	}{
		{"a flow of four stages", 33, func() { run(plain, "key") }},
		{"its replay", 5, func() { run(plain, "key") }},
		// One more means that the scripts do not take it for the answer of a single commit.
		{"the replay of a single commit", 5, func() { answer("json", json) }},
		{"the replay of a single commit without headers", 5, func() { answer("bare", bare) }},
		{"a recoverable flow of four stages", 46, func() { run(recoverable, "other") }},
		{"a sweep with nothing due", 2, func() { sweep(0) }},
		{fmt.Sprintf("a sweep with %d keys due, each with three stages to go", due), 50*due + due/2, func() { sweep(due) }},
	} {
		if strings.Contains(c.what, "due, each") {
			abandon("due", due)
		}
		before := commandsByName(t, client)
		c.run()
		n, names := 0, []string(nil)
		for name, after := range commandsByName(t, client) {
			if d := after - before[name]; d > 0 {
				n += d
				names = append(names, fmt.Sprint(name, " ", d))
			}
		}
		slices.Sort(names)
		rung.Figure(t, "completer", "%s costs the server %d commands: %s", c.what, n, strings.Join(names, ", "))
		if n > c.most {
			t.Errorf("that is more than %d", c.most)
		}
	}
	must(t, svc.Close(context.Background()))
}

var commandCalls = regexp.MustCompile(`(?m)^cmdstat_([^:]+):calls=(\d+)`)

// commandsByName returns how often a server has run each command, without those of the client's
// connections and of the count itself.
func commandsByName(t *testing.T, client *redis.Client) map[string]int {
	t.Helper()
	text, err := client.Info(context.Background(), "commandstats").Result()
	must(t, err)
	all := make(map[string]int)
	for _, m := range commandCalls.FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(m[2])
		must(t, err)
		all[m[1]] = n
	}
	maps.DeleteFunc(all, func(name string, _ int) bool {
		return name == "info" || name == "hello" || name == "auth" || strings.HasPrefix(name, "client") || strings.HasPrefix(name, "ping")
	})
	return all
}
