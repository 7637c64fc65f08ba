package scenario_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/cmd/bench/internal/contender"
	"github.com/redisidem/redisidem/cmd/bench/internal/scenario"
	"github.com/redisidem/redisidem/cmd/bench/internal/target"
	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

// TestEveryContenderInEveryScenario runs all of them briefly. Each operation checks its result.
func TestEveryContenderInEveryScenario(t *testing.T) {
	t.Parallel()
	rediscase.Need(t)
	ctx := context.Background()
	server, err := target.Start(ctx, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	if !server.Measured {
		t.Fatal("the server is the embedded one")
	}
	steps := 0
	plan := scenario.Plan{Callers: 8, Body: 200, Duration: 30 * time.Millisecond, Repetitions: 2, Step: func(string) { steps++ }}
	for _, s := range scenario.All() {
		before := steps
		points, err := scenario.Run(ctx, server, s, plan)
		if err != nil {
			t.Fatal(err)
		}
		if got := steps - before; got != plan.Steps(s) {
			t.Errorf("%s took %d steps, and announced %d", s.Name, got, plan.Steps(s))
		}
		for i, p := range points {
			if p.Error != "" || len(p.Samples) != plan.Repetitions || p.Samples[0].Operations == 0 {
				t.Errorf("%s: %s: %q, %+v", s.Name, p.Contender, p.Error, p.Samples)
				continue
			}
			if kind, _ := contender.ByName(p.Contender); kind.Own != p.Own {
				t.Errorf("%s: %s: this library's own: %v", s.Name, p.Contender, p.Own)
			}
			if (i == 0) != p.Baseline || (p.Ratio == nil) != (p.Baseline || s.Timed) {
				t.Errorf("%s: %s: baseline %v, ratio %v", s.Name, p.Contender, p.Baseline, p.Ratio)
			}
			if (p.BodyBytes == 0) != s.Varied {
				t.Errorf("%s: %s: the size is %d", s.Name, p.Contender, p.BodyBytes)
			}
			if s.Leaves && p.Cost.RecordMemory <= 0 {
				t.Errorf("%s: %s: a record takes %v bytes", s.Name, p.Contender, p.Cost.RecordMemory)
			}
		}
		if left, err := server.Stats(ctx); err != nil || left.Keys != 0 {
			t.Errorf("%s leaves %d keys, %v", s.Name, left.Keys, err)
		}
	}
}

// TestRoundTripsAreCounted checks the round trips of a first execution and of a replay.
func TestRoundTripsAreCounted(t *testing.T) {
	t.Parallel()
	rediscase.Need(t)
	ctx := context.Background()
	server, err := target.Start(ctx, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	for name, want := range map[string]float64{"lifecycle": 2, "flow": 5, "replay": 1} {
		s, ok := scenario.ByName(name)
		if !ok {
			t.Fatalf("there is no scenario %s", name)
		}
		points, err := scenario.Run(ctx, server, s, scenario.Plan{
			Callers: 2, Body: 200, Duration: 20 * time.Millisecond, Repetitions: 1, Kinds: []string{"redisidem"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := points[0].Cost.RoundTrips; got != want {
			t.Errorf("%s takes %v round trips, want %v", name, got, want)
		}
	}
}

// TestNoDialDuringASample counts the server's connections at the beginning of each sample.
func TestNoDialDuringASample(t *testing.T) {
	t.Parallel()
	rediscase.Need(t)
	ctx := context.Background()
	server, err := target.Start(ctx, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	admin, err := server.Link(1).SharedClient()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	s, _ := scenario.ByName("lifecycle")
	for _, name := range []string{"redislock", "redisidem", "redsync"} {
		const callers = 128
		var dialled []int
		_, err := scenario.Run(ctx, server, s, scenario.Plan{
			Callers: callers, Body: 200, Duration: 40 * time.Millisecond, Repetitions: 3, Kinds: []string{name},
			Step: func(string) {
				n, err := strconv.Atoi(admin.(*redis.Client).InfoMap(ctx, "stats").Item("Stats", "total_connections_received"))
				if err != nil {
					t.Error(err)
				}
				dialled = append(dialled, n)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		// The first step is the warm-up. On a busy machine the library's background work may open
		// more connections.
		if samples := dialled[1:]; samples[0] < callers || samples[len(samples)-1]-samples[0] > callers/8 {
			t.Errorf("%s: connections before each sample: %v", name, samples)
		}
	}
}

// TestForeignServerIsLeftClean measures on a server that others use. One run completes and another
// is interrupted.
func TestForeignServerIsLeftClean(t *testing.T) {
	t.Parallel()
	running := rediscase.Server(t, redistest.Args("--requirepass", "secret"))
	server, err := target.Start(context.Background(), "redis://:secret@"+running.Addr(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	s, _ := scenario.ByName("lifecycle")
	plan := scenario.Plan{Callers: 4, Body: 200, Duration: 20 * time.Millisecond, Repetitions: 2}
	points, err := scenario.Run(context.Background(), server, s, plan)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range points {
		// A library with its own client needs the address.
		if needsAddr := p.Contender == "rueidislock"; p.Skipped != needsAddr || (p.Error != "") != needsAddr {
			t.Errorf("%s: skipped: %v, %q", p.Contender, p.Skipped, p.Error)
		}
	}
	if left, err := server.Stats(context.Background()); err != nil || left.Keys != 0 {
		t.Errorf("a run leaves %d keys, %v", left.Keys, err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	steps := 0
	plan.Step = func(string) {
		steps++
		if steps == plan.Steps(s)-1 { // during the last repetition
			cancel()
		}
	}
	if _, err := scenario.Run(ctx, server, s, plan); !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted run returns %v", err)
	}
	if left, err := server.Stats(context.Background()); err != nil || left.Keys != 0 {
		t.Errorf("an interrupted run leaves %d keys, %v", left.Keys, err)
	}
}

// TestClusterRunsContendersWithoutAnAddress measures on a cluster, which does not have a single
// address.
func TestClusterRunsContendersWithoutAnAddress(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server, err := target.Start(ctx, "redis+cluster://"+rediscase.Cluster(t).Addrs()[0], 0)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	for _, name := range []string{"lifecycle", "replay"} {
		s, _ := scenario.ByName(name)
		points, err := scenario.Run(ctx, server, s, scenario.Plan{
			Callers: 4, Body: 200, Duration: 30 * time.Millisecond, Repetitions: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range points {
			if p.Error != "" && !p.Skipped {
				t.Errorf("%s: %s: %s", name, p.Contender, p.Error)
			}
		}
	}
	if left, err := server.Stats(ctx); err != nil || left.Keys != 0 {
		t.Errorf("the runs leave %d keys, %v", left.Keys, err)
	}
}

func TestEmbeddedServerIsNoMeasurement(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // hides redis-server
	t.Setenv("REDISIDEM_SERVER", "")
	ctx := context.Background()
	server, err := target.Start(ctx, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	if server.Measured || server.Topology != "embedded" {
		t.Errorf("the server is %+v", server)
	}
	s, _ := scenario.ByName("lifecycle")
	points, err := scenario.Run(ctx, server, s, scenario.Plan{
		Callers: 2, Body: 200, Duration: 20 * time.Millisecond, Repetitions: 1, Kinds: []string{"redisidem", "redislock"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range points {
		if p.Error != "" || p.Cost.ServerCPU != 0 {
			t.Errorf("%s: %q, %+v", p.Contender, p.Error, p.Cost)
		}
	}
}

func TestScenariosNameContenders(t *testing.T) {
	t.Parallel()
	for _, s := range scenario.All() {
		// A baseline from this library would hide its own losses in a comparison.
		if base, _ := contender.ByName(s.Kinds[0]); base.Own {
			t.Errorf("the baseline of %s is %s", s.Name, base.Name)
		}
		for _, name := range s.Kinds {
			if _, ok := contender.ByName(name); !ok && name != "medusa-sql" && name != "redisidem-sql" { // needs a URL
				t.Errorf("%s names %q", s.Name, name)
			}
		}
	}
}
