//go:build linux

package topology

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/rung"
)

// clock is the wall clock of a server.
type clock struct {
	file   string
	offset time.Duration
}

// startOnClock starts a server with its own clock.
func startOnClock(t *testing.T) (*redistest.Server, *clock) {
	t.Helper()
	needCompiler(t)
	dir := t.TempDir()
	library := filepath.Join(dir, "clock.so")
	compile := exec.CommandContext(t.Context(), "gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library,
		filepath.Join("testdata", "clock.c"))
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c := &clock{file: filepath.Join(dir, "offset")}
	c.set(t, 0)
	return rediscase.Server(t, redistest.Env("LD_PRELOAD="+library, "CLOCK_OFFSET="+c.file)), c
}

// set writes the offset of the clock from the true time. The server maps the file, so it must be
// written in place.
func (c *clock) set(t testing.TB, offset time.Duration) {
	t.Helper()
	f, err := os.OpenFile(c.file, os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(offset)), 0)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	c.offset = offset
}

// check checks that the server uses this clock.
func (c *clock) check(t testing.TB, client *redis.Client) {
	t.Helper()
	now, err := client.Time(context.Background()).Result()
	if off := now.Sub(time.Now().Add(c.offset)).Abs(); err != nil || off > 5*time.Second {
		t.Fatalf("the server's clock is off by %v, %v", off, err)
	}
}

func to(s *redistest.Server) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: s.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
}

func TestClockStepsDoNoHarm(t *testing.T) {
	const (
		short = 300 * time.Millisecond // the lease
		grace = 100 * time.Millisecond
	)
	many := or(*steps, rung.Size(t, 20, 200, 200))
	seed := rung.Seed(t)
	r := rand.New(rand.NewPCG(seed, 1000))
	server, c := startOnClock(t)
	client := to(server)
	t.Cleanup(func() { _ = client.Close() })

	l := newLoad(t, client, 0, short)
	l.begin(seed)
	config := &redisidem.Config{Lease: short, Timeout: timeout}
	svc, err := redisidem.New(client, config)
	if err != nil {
		t.Fatal(err)
	}
	sc := svc.Scope("probe")
	const value = "probe"
	if _, err := sc.InitializeRequest(context.Background(), value, request); err != nil {
		t.Fatal(err)
	}
	var fence int64
	var worst time.Duration
	kinds := []time.Duration{time.Hour, -time.Hour, time.Minute, -time.Minute}
	for i := range many {
		fence = die(t, server, value, config, fence)
		step := kinds[i%len(kinds)]
		if i%len(kinds) == 0 {
			r.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
			step = kinds[0]
		}
		time.Sleep(time.Duration(r.Int64N(int64(short))))
		c.set(t, c.offset+step)
		c.check(t, client)

		next, stuck, err := takeOver(sc, value)
		if err != nil {
			t.Fatalf("step %d, by %v: %v", i, step, err)
		}
		worst = max(worst, stuck)
		if stuck > short+grace {
			t.Errorf("step %d, by %v: the lease of a dead worker was stuck for %v", i, step, stuck)
		}
		if next.Fence() <= fence {
			t.Errorf("step %d, by %v: the fence %d follows %d", i, step, next.Fence(), fence)
		}
		fence = next.Fence()
		if err := next.Abandon(context.Background()); err != nil {
			t.Error(err)
		}
	}
	report(t, l.finish(t, client))
	rung.Figure(t, "R10", "%d steps of 1 h and 60 s, back and forth: 0 of %d commits double, no fence decreased, no lease of %v stuck "+
		"for more than %v", many, 2*len(l.known), short, worst.Round(time.Millisecond))
}

// takeOver tries to take the lease until it succeeds. It returns how long another worker certainly
// had the lease. This time starts at the first refusal, when the server has seen the lease after
// the clock's step. It ends when the last refused try was sent, so a delay of the machine does not
// count. A try that timed out may itself have taken the lease.
func takeOver(sc *redisidem.Scope, value string) (l *redisidem.Lease, stuck time.Duration, err error) {
	began := time.Now()
	var first time.Time
	for {
		sent := time.Now()
		l, err = sc.Lock(context.Background(), value)
		if errors.Is(err, redisidem.ErrUnavailable) && time.Since(began) < patience {
			first, stuck = time.Time{}, 0
			continue
		}
		if !errors.Is(err, redisidem.ErrLocked) || stuck > patience {
			return l, stuck, err
		}
		if first.IsZero() {
			first = time.Now()
		}
		stuck = max(stuck, sent.Sub(first))
		time.Sleep(2 * time.Millisecond)
	}
}

// die takes the lease on a key and never renews it. It returns the fence of the lease.
func die(t *testing.T, server *redistest.Server, value string, config *redisidem.Config, last int64) int64 {
	t.Helper()
	mortal := to(server)
	svc, err := redisidem.New(mortal, config)
	if err != nil {
		t.Fatal(err)
	}
	held, err := svc.Scope("probe").Lock(context.Background(), value)
	// On a busy machine a try may time out and still have taken the lease.
	for began := time.Now(); errors.Is(err, redisidem.ErrUnavailable) && time.Since(began) < patience; {
		held, _, err = takeOver(svc.Scope("probe"), value)
	}
	if err = errors.Join(err, mortal.Close()); err != nil {
		t.Fatal(fmt.Errorf("a free key: %w", err))
	}
	if held.Fence() <= last {
		t.Errorf("the fence %d follows %d", held.Fence(), last)
	}
	return held.Fence()
}
