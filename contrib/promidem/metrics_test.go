package promidem_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/redisidem/redisidem/contrib/promidem"
	"github.com/redisidem/redisidem/redisidem"
)

var ctx = context.Background()

// turns is the Redis key of the flows that completers have scanned.
const turns = "redisidem:turn:/flows"

var request = redisidem.Request{Method: "POST", Path: "/orders"}

// world is a service with its metrics.
type world struct {
	*testing.T
	redis    *miniredis.Miniredis
	metrics  *promidem.Metrics
	registry *prometheus.Registry
	service  *redisidem.Service
}

func setUp(t *testing.T, cfg *promidem.Config) *world {
	t.Helper()
	t.Parallel()
	w := &world{T: t, redis: miniredis.RunT(t), metrics: promidem.New(cfg), registry: prometheus.NewPedanticRegistry()}
	w.registry.MustRegister(w.metrics)
	var err error
	w.service, err = redisidem.OpenUnchecked("redis://"+w.redis.Addr(), &redisidem.Config{
		Timeout: 5 * time.Second, Observer: w.metrics, CacheBytes: 1 << 20,
	})
	w.must(err)
	t.Cleanup(func() { w.must(w.service.Close(ctx)) })
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// scrape returns the lines of a scrape that begin with a prefix. Sums and buckets of histograms are
// left out.
func (w *world) scrape(prefix string) string {
	w.Helper()
	families, err := w.registry.Gather()
	w.must(err)
	var lines []string
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			value := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			line := fmt.Sprintf("%s{%s} %v", family.GetName(), strings.Join(labels, ","), value)
			if strings.HasPrefix(line, prefix) {
				lines = append(lines, line)
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (w *world) mustHave(prefix string, want ...string) {
	w.Helper()
	if got := w.scrape(prefix); got != strings.Join(want, "\n") {
		w.Errorf("the metrics are\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

var errWork = errors.New("work failed")

func fails(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
	return redisidem.Outcome{}, errWork
}

func finishes(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
	return redisidem.Finish(redisidem.JSON(201, "done")), nil
}

func TestEventsAreCounted(t *testing.T) {
	w := setUp(t, nil)
	scope := w.service.Scope("a")
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "order", Version: 1, Stages: []redisidem.FlowStage{{Point: redisidem.Started, Work: finishes}},
	})
	w.must(err)
	for range 2 {
		_, err = scope.DoFlow(ctx, "k", request, flow)
		w.must(err)
	}
	if _, err = scope.Do(ctx, "failing", request, fails); !errors.Is(err, errWork) {
		t.Fatal(err)
	}
	if _, err = scope.Do(ctx, "failing", redisidem.Request{Method: "PUT"}, fails); !errors.Is(err, redisidem.ErrFingerprintMismatch) {
		t.Fatal(err)
	}
	w.metrics.Observe(ctx, redisidem.Event{Kind: redisidem.EventRenewed, Stage: "compensate:17", Duration: time.Second})
	w.mustHave(
		"redisidem_events_total",
		"redisidem_events_total{flow=,kind=abandoned,stage=started} 1",
		"redisidem_events_total{flow=,kind=claimed,stage=started} 1",
		"redisidem_events_total{flow=,kind=refused,stage=} 1",
		"redisidem_events_total{flow=,kind=renewed,stage=compensate} 1",
		"redisidem_events_total{flow=,kind=replayed,stage=} 0",
		"redisidem_events_total{flow=order/1,kind=claimed,stage=started} 1",
		"redisidem_events_total{flow=order/1,kind=committed,stage=started} 1",
		"redisidem_events_total{flow=order/1,kind=replayed,stage=} 1",
	)
	w.mustHave("redisidem_errors_total{kind=abandoned", "redisidem_errors_total{kind=abandoned,reason=other} 1")
	w.mustHave("redisidem_errors_total{kind=refused,reason=mismatch", "redisidem_errors_total{kind=refused,reason=mismatch} 1")
	w.mustHave("redisidem_errors_total{kind=lease-lost,reason=fenced", "redisidem_errors_total{kind=lease-lost,reason=fenced} 0")
	w.mustHave("redisidem_claim_seconds", "redisidem_claim_seconds{flow=order/1} 1", "redisidem_claim_seconds{flow=} 1")
	w.mustHave("redisidem_stage_seconds", "redisidem_stage_seconds{flow=order/1,stage=started} 1")
	w.mustHave("redisidem_renewal_seconds", "redisidem_renewal_seconds{} 1")
	w.mustHave("redisidem_leases_held") // nothing is watched
}

// TestDroppedCommitsWereCountedFromZero compares the counters that dropped commits have raised with
// those that a scrape had before.
func TestDroppedCommitsWereCountedFromZero(t *testing.T) {
	const denied, away = "NOPERM this user has no permissions", "LOADING Redis is loading the dataset in memory"
	for name, c := range map[string]struct {
		refusal string
		retry   time.Duration
		then    func(*miniredis.Miniredis)
	}{
		"outcome-unknown": {away, -1, nil},
		"not-permitted":   {denied, -1, nil},
		"damaged": {away, time.Minute, func(redis *miniredis.Miniredis) {
			for _, key := range redis.Keys() {
				if redis.Type(key) == "hash" {
					redis.HSet(key, "control", "99 other")
				}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := setUp(t, nil)
			svc, err := redisidem.OpenUnchecked("redis://"+w.redis.Addr(), &redisidem.Config{
				Timeout: 2 * time.Second, CommitRetry: c.retry, Observer: w.metrics, Lease: time.Minute,
			})
			w.must(err)
			before := w.scrape("redisidem_errors_total")
			_, err = svc.Scope("a").Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				w.redis.SetError(c.refusal)
				return finishes(ctx, nil)
			})
			if !errors.Is(err, redisidem.ErrOutcomeUnknown) {
				t.Fatal(err)
			}
			w.redis.SetError("")
			if c.then != nil {
				c.then(w.redis)
			}
			dropped := "redisidem_errors_total{kind=commit-dropped,reason=" + name + "}"
			for deadline := time.Now().Add(20 * time.Second); w.scrape(dropped) != dropped+" 1"; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("the dropped commit is not counted: %s", w.scrape("redisidem_errors_total{kind=commit-dropped"))
				}
			}
			for line := range strings.Lines(w.scrape("redisidem_errors_total")) {
				series, n, _ := strings.Cut(line, " ")
				if !strings.HasPrefix(n, "0") && !strings.Contains(before, series+" 0") {
					t.Errorf("%s did not begin with 0", series)
				}
			}
			w.must(svc.Close(ctx))
		})
	}
}

func TestNumbersOfTheProcess(t *testing.T) {
	w := setUp(t, &promidem.Config{Interval: -1})
	w.metrics.Watch(w.service)
	_, err := w.service.Scope("a").Do(ctx, "k", request, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		w.mustHave("redisidem_leases_held", "redisidem_leases_held{} 1")
		return finishes(ctx, st)
	})
	w.must(err)
	w.mustHave("redisidem_leases_held", "redisidem_leases_held{} 0")
	w.mustHave("redisidem_commits_pending", "redisidem_commits_pending{} 0")
	w.mustHave("redisidem_give_backs_pending", "redisidem_give_backs_pending{} 0")
	w.mustHave("redisidem_copy_lookups_total", "redisidem_copy_lookups_total{hit=false} 1", "redisidem_copy_lookups_total{hit=true} 0")
	w.mustHave("redisidem_redis") // it is not asked
	for _, name := range []string{"redisidem_copies{} ", "redisidem_copy_bytes{} "} {
		if !strings.HasPrefix(w.scrape(name), name) {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestNumbersOfRedis(t *testing.T) {
	w := setUp(t, &promidem.Config{Flows: []string{"order", "other"}, Interval: time.Nanosecond})
	w.metrics.Watch(w.service)
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "order", Version: 1, RecoverAfter: time.Millisecond, MaxAttempts: 1,
		Stages: []redisidem.FlowStage{{Point: redisidem.Started, Work: fails}},
	})
	w.must(err)
	for _, value := range []string{"dead", "due"} {
		if _, err := w.service.Scope("a").DoFlow(ctx, value, request, flow); !errors.Is(err, errWork) {
			t.Fatal(err)
		}
		if value == "due" {
			break
		}
		completer, err := redisidem.NewCompleter(w.service, []*redisidem.Flow{flow}, nil)
		w.must(err)
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			result, err := completer.Sweep(ctx)
			w.must(err)
			if result.DeadLettered == 1 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the key does not become a dead letter")
			}
		}
	}
	w.mustHave("redisidem_dead_letters", "redisidem_dead_letters{flow=order} 1", "redisidem_dead_letters{flow=other} 0")
	w.mustHave("redisidem_due", "redisidem_due{flow=order} 1", "redisidem_due{flow=other} 0")
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(w.scrape("redisidem_overdue"), "flow=order} 1"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the key is not overdue")
		}
	}
	w.mustHave("redisidem_redis_up", "redisidem_redis_up{} 1")
	if got := w.scrape("redisidem_redis_check"); !regexp.MustCompile(`redisidem_redis_check\{subject=scripts\} 1`).MatchString(got) {
		t.Errorf("the check is %s", got)
	}
	w.redis.SetError("OOM command not allowed when used memory > 'maxmemory'.")
	w.mustHave("redisidem_redis_up", "redisidem_redis_up{} 0")
	w.mustHave("redisidem_dead_letters")
	w.redis.SetError("")
	w.mustHave("redisidem_redis_up", "redisidem_redis_up{} 1")
}

// TestFlowsAreCountedWhenNoCompleterIsLeft has a completer that ends, and a Redis that then loses
// its data. The flow has no unfinished keys until then.
func TestFlowsAreCountedWhenNoCompleterIsLeft(t *testing.T) {
	w := setUp(t, &promidem.Config{Interval: time.Nanosecond})
	w.metrics.Watch(w.service)
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "order", Version: 1, RecoverAfter: time.Millisecond, Stages: []redisidem.FlowStage{{Point: redisidem.Started, Work: fails}},
	})
	w.must(err)
	completer, err := redisidem.NewCompleter(w.service, []*redisidem.Flow{flow}, nil)
	w.must(err)
	run, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- completer.Run(run) }()
	for deadline := time.Now().Add(20 * time.Second); !w.redis.Exists(turns) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	end()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	w.mustHave("redisidem_due", "redisidem_due{flow=order} 0")
	w.redis.FlushAll() // and with it what completers write down of their flows
	for _, name := range []string{"redisidem_dead_letters", "redisidem_due", "redisidem_overdue"} {
		w.mustHave(name, name+"{flow=order} 0")
	}
	if _, err := w.service.Scope("a").DoFlow(ctx, "k", request, flow); !errors.Is(err, errWork) {
		t.Fatal(err)
	}
	w.mustHave("redisidem_due", "redisidem_due{flow=order} 1")
	w.redis.SetError("LOADING Redis is loading the dataset in memory")
	w.mustHave("redisidem_due")
	w.redis.SetError("")
	w.mustHave("redisidem_due", "redisidem_due{flow=order} 1")
}

// TestFlowsThatAreRememberedAreBounded has completers that scan more flows than a watch remembers.
func TestFlowsThatAreRememberedAreBounded(t *testing.T) {
	w := setUp(t, &promidem.Config{Flows: []string{"named"}, Interval: time.Nanosecond, Timeout: 20 * time.Second})
	w.metrics.Watch(w.service)
	for i := range promidem.MaxRemembered + 10 {
		w.redis.HSet(turns, fmt.Sprint("flow-", i), "0 - 0 -")
	}
	count := func(want int) {
		t.Helper()
		if got := strings.Count(w.scrape("redisidem_due"), "flow="); got != want {
			t.Errorf("%d flows are counted, want %d", got, want)
		}
		w.mustHave("redisidem_due{flow=named}", "redisidem_due{flow=named} 0")
	}
	count(promidem.MaxRemembered + 11)
	w.redis.Del(turns)
	count(promidem.MaxRemembered + 1)
}

// TestNumbersThatCannotBeReadAreReported damages what completers have scanned.
func TestNumbersThatCannotBeReadAreReported(t *testing.T) {
	w := setUp(t, &promidem.Config{Interval: time.Nanosecond})
	w.metrics.Watch(w.service)
	w.mustHave("redisidem_look_failed", "redisidem_look_failed{part=check} 0", "redisidem_look_failed{part=flows} 0")
	w.must(w.redis.Set(turns, "not a hash"))
	w.mustHave("redisidem_redis_up", "redisidem_redis_up{} 1")
	w.mustHave("redisidem_look_failed", "redisidem_look_failed{part=check} 0", "redisidem_look_failed{part=flows} 1")
	w.redis.Del(turns)
	w.mustHave("redisidem_look_failed", "redisidem_look_failed{part=check} 0", "redisidem_look_failed{part=flows} 0")
}

// TestScrapesReuseTheNumbersOfRedis counts the commands of the second scrape.
func TestScrapesReuseTheNumbersOfRedis(t *testing.T) {
	w := setUp(t, nil)
	w.metrics.Watch(w.service)
	w.mustHave("redisidem_redis_up", "redisidem_redis_up{} 1")
	before := w.redis.CommandCount()
	w.mustHave("redisidem_redis_up", "redisidem_redis_up{} 1")
	if after := w.redis.CommandCount(); after != before {
		t.Errorf("the second scrape sent %d commands", after-before)
	}
}

func TestMetricsFollowTheConventions(t *testing.T) {
	w := setUp(t, nil)
	w.metrics.Watch(w.service)
	_, err := w.service.Scope("a").Do(ctx, "k", request, finishes)
	w.must(err)
	problems, err := testutil.GatherAndLint(w.registry)
	w.must(err)
	if len(problems) > 0 {
		t.Errorf("%+v", problems)
	}
}
