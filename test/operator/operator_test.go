//go:build unix

// Package operator asks an operator's questions about many keys with the program redisidem, and
// measures what the answers cost.
//
//	go test -count=1 -v ./test/operator -run Question -size change # 110,000 keys
//	go test -count=1 -v ./test/operator -run View -size nightly    # a million keys
package operator

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/child"
	"github.com/redisidem/redisidem/test/internal/rung"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	flag.Parse()
	child.Main(m, map[string]func(){"worker": work})
}

// quiet discards the log of go-redis, which writes about a server that is starting.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

var errStage = errors.New("the provider is away")

// fill makes keys of 100 scopes: of each hundred, 90 are finished, 6 idle, 3 interrupted, and one
// belongs to a recoverable flow and is due.
func fill(t *testing.T, svc *redisidem.Service, n int) {
	t.Helper()
	ctx := t.Context()
	ends := func(o redisidem.Outcome, err error) redisidem.StageFunc {
		return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return o, err }
	}
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "order", Version: 1, RecoverAfter: time.Hour,
		Stages: []redisidem.FlowStage{{Point: redisidem.Started, Work: ends(redisidem.Outcome{}, errStage)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	request := redisidem.Request{Method: "POST", Path: "/orders", Params: []byte(`{"cart":"8f14e45f","amount":4200}`)}
	numbers := make(chan int)
	var wg sync.WaitGroup
	for range 256 {
		wg.Go(func() {
			for i := range numbers {
				sc, value := svc.Scope(fmt.Sprintf("shop-%d", i/100%100)), fmt.Sprint(i)
				var err error
				switch kind := i % 100; {
				case kind < 90:
					_, err = sc.Do(ctx, value, request, ends(redisidem.Finish(redisidem.JSON(201, "done")), nil))
				case kind < 96:
					_, err = sc.InitializeRequest(ctx, value, request)
				case kind < 99:
					_, err = sc.Do(ctx, value, request, ends(redisidem.Outcome{}, errStage))
				default:
					_, err = sc.DoFlow(ctx, value, request, flow)
				}
				if err != nil && !errors.Is(err, errStage) {
					t.Error(err)
				}
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	wg.Wait()
}

// TestOperatorsViewOfManyKeys logs how long each question takes, and which commands occupied the
// server for longer than a millisecond.
func TestOperatorsViewOfManyKeys(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t, redistest.Args("--slowlog-log-slower-than", "1000", "--slowlog-max-len", "1000"))
	svc, err := redisidem.OpenUnchecked("redis://"+server.Addr(), &redisidem.Config{Timeout: 20 * time.Second, AutoPipeline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = svc.Close(context.Background()) })
	ctx := t.Context()
	keys := rung.Size(t, 20_000, 1_000_000, 1_000_000)
	fill(t, svc, keys)
	admin := server.Client()
	t.Cleanup(func() { _ = admin.Close() })
	if err := admin.SlowLogReset(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	in := redisidem.NewInspector(svc)
	took := func(what string, do func() (string, error)) {
		t.Helper()
		began := time.Now()
		result, err := do()
		t.Logf("%-12s %8v  %s", what, time.Since(began).Round(time.Millisecond), result)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	per := func(percent int) int64 { return int64(keys * percent / 100) }
	took("stats", func() (string, error) {
		s, err := in.Stats(ctx, "order")
		if err != nil {
			return "", err
		}
		for state, want := range map[redisidem.KeyState]int64{
			redisidem.KeyFinished: per(90), redisidem.KeyIdle: per(7), redisidem.KeyInterrupted: per(3),
		} {
			// Five times as far off as one in twenty estimates is.
			if e := s.States[state]; e.Count < want-5*e.Error || e.Count > want+5*e.Error {
				t.Errorf("%s keys: %+v, want about %d", state, e, want)
			}
		}
		if len(s.Flows) != 1 || s.Flows[0].Due != per(1) {
			t.Errorf("flows: %+v", s.Flows)
		}
		return fmt.Sprintf("%+v", s.States), nil
	})
	took("find", func() (string, error) {
		k, err := in.Find(ctx, svc.Scope("shop-0").ID("99"))
		return fmt.Sprintf("%+v", k.State), err
	})
	took("first page", func() (string, error) {
		for page, err := range in.List(ctx, redisidem.Filter{States: []redisidem.KeyState{redisidem.KeyInterrupted}}, "") {
			return fmt.Sprintf("%d keys", len(page.Keys)), err
		}
		return "", nil
	})
	took("open flows", func() (string, error) {
		flows, err := in.OpenFlows(ctx)
		if len(flows) != 2 || int64(flows[0].Open) != per(9) || int64(flows[1].Open) != per(1) {
			t.Errorf("open flows: %+v", flows)
		}
		return fmt.Sprintf("%+v", flows), err
	})
	took("purge", func() (string, error) {
		var p redisidem.Purged
		for progress, err := range in.Purge(ctx, "shop-7", "", redisidem.Act{Actor: "test", Reason: "measure"}) {
			if p = progress; err != nil {
				return "", err
			}
		}
		return fmt.Sprintf("%+v", p), nil
	})
	slow, err := admin.SlowLogGet(ctx, 1000).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range slow {
		t.Logf("slow: %v %.100q", entry.Duration, entry.Args)
	}
}
