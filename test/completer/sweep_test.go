//go:build unix

package completer

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/rung"
)

var records = flag.Int("records", 0, "how many keys the larger server has on which the cost of a sweep is measured; 0 for what -size says")

const (
	few     = 10_000 // keys of the smaller server
	due     = 1000   // the number of them that are due
	rounds  = 7
	callers = 32
)

var errBroken = errors.New("broken")

// field is a server with many keys, some of them due.
type field struct {
	client *redis.Client
	svc    *redisidem.Service
	sc     *redisidem.Scope
	broken bool // whether stages fail; changed only while no stage runs
	flow   *redisidem.Flow

	// The CPU time of the server's main thread for each sweep: all of it, the part in scripts, and
	// the CPU time of a sweep that finds nothing.
	cpu, scripts, idle []time.Duration
}

// TestSweepCostsWhatIsDue measures the cost of one sweep of a completer on the server. It uses the
// server's statistics: CPU time of the main thread, and time spent in scripts. The two servers take
// turns, so that other load on the machine affects both.
func TestSweepCostsWhatIsDue(t *testing.T) {
	many := *records
	if many == 0 {
		many = rung.Size(t, 100_000, 1_000_000, 2_000_000)
	}
	small, large := newField(t, few), newField(t, many)
	for _, f := range []*field{small, large} {
		f.settle(t)
	}
	for n := range 1 + rounds {
		for _, f := range []*field{small, large} {
			f.round(t, n > 0) // the first round is a warm-up
		}
	}
	ratio := func(what string, small, large []time.Duration) {
		slices.Sort(small)
		slices.Sort(large)
		s, l := small[len(small)/2], large[len(large)/2]
		r := float64(l) / float64(s)
		text := func(d []time.Duration) string {
			const unit = 10 * time.Microsecond
			return fmt.Sprintf("%v (%v to %v)", d[len(d)/2].Round(unit), d[0].Round(unit), d[len(d)-1].Round(unit))
		}
		rung.Figure(t, "completer", "%s: %s among %d keys, %s among %d: ratio %.2f", what, text(small), few, text(large), many, r)
		// The bound is generous. A cost that grew with the number of keys would still exceed it.
		if r > 2 {
			t.Errorf("%s grows with the number of keys", what)
		}
	}
	ratio(fmt.Sprintf("server CPU of a sweep with %d due", due), small.cpu, large.cpu)
	ratio("of that in scripts", small.scripts, large.scripts)
	ratio("server CPU of a sweep with none due", small.idle, large.idle)
}

// newField starts a server and fills it with size keys, less the keys that each round makes due.
func newField(t *testing.T, size int) *field {
	t.Helper()
	f := &field{client: redis.NewClient(&redis.Options{
		Addr: rediscase.Server(t).Addr(), ContextTimeoutEnabled: true, ReadTimeout: patience, PoolSize: 2 * callers,
	})}
	t.Cleanup(func() { _ = f.client.Close() })
	var err error
	f.svc, err = redisidem.New(f.client, &redisidem.Config{Timeout: 10 * time.Second})
	must(t, err)
	f.sc = f.svc.Scope("field")
	f.flow, err = redisidem.NewFlow(redisidem.FlowConfig{
		Name: "field", Version: 1, RecoverAfter: time.Millisecond,
		Stages: []redisidem.FlowStage{{
			Point: redisidem.Started,
			Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if f.broken {
					return redisidem.Outcome{}, errBroken
				}
				return redisidem.Finish(redisidem.JSON(200, "carried on")), nil
			},
		}},
	})
	must(t, err)
	f.fill(t, size-due)
	return f
}

// fill creates keys that are not due. Nine of ten are in the due index for a later time. The tenth
// belongs to no recoverable flow. The keys are copies of a record that the library wrote, which is
// the fastest way to a million.
func (f *field) fill(t *testing.T, size int) {
	t.Helper()
	ctx := context.Background()
	f.abandon(t, 1)
	records, indexes := scan(t, f.client, "*:"+strings.Repeat("?", 32)), scan(t, f.client, "*}:due:field")
	if len(records) != 1 || len(indexes) != 1 {
		t.Fatalf("an abandoned key leaves the records %q and the indexes %q", records, indexes)
	}
	template, err := f.client.HGetAll(ctx, records[0]).Result()
	must(t, err)
	must(t, f.client.Del(ctx, records[0], indexes[0]).Err())
	namespace, _, _ := strings.Cut(records[0], ":{")
	pairs := make([]any, 0, 2*len(template))
	for name, value := range template {
		pairs = append(pairs, name, value)
	}

	const batch = 500
	later := float64(time.Now().Add(time.Hour).UnixMilli())
	f.parallel(t, (size+batch-1)/batch, func(n int) error {
		pipe := f.client.Pipeline()
		for i := n * batch; i < min((n+1)*batch, size); i++ {
			var digest [24]byte
			_, _ = rand.Read(digest[:])
			member := base64.RawURLEncoding.EncodeToString(digest[:])
			shard := fmt.Sprintf("%s:{%03x}:", namespace, i%1024)
			pipe.HSet(ctx, shard+member, pairs...)
			pipe.PExpire(ctx, shard+member, 24*time.Hour)
			if i%10 != 0 {
				pipe.ZAdd(ctx, shard+"due:field", redis.Z{Score: later + float64(i), Member: member})
			}
		}
		_, err := pipe.Exec(ctx)
		return err
	})
	if n := f.client.DBSize(ctx).Val(); n < int64(size) || n > int64(size+1024) {
		t.Fatalf("the server has %d keys, not %d", n, size)
	}
	t.Logf("%d keys are %s", size, f.info(t, "memory", "used_memory_human"))
}

// parallel calls work with each number below n.
func (f *field) parallel(t *testing.T, n int, work func(i int) error) {
	t.Helper()
	numbers := make(chan int)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := range numbers {
				if err := work(i); err != nil {
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
	if t.Failed() {
		t.FailNow()
	}
}

// abandon creates keys that are due at once.
func (f *field) abandon(t *testing.T, n int) {
	t.Helper()
	f.broken = true
	f.parallel(t, n, func(i int) error {
		if _, err := f.sc.DoFlow(context.Background(), value(i), request, f.flow); !errors.Is(err, errBroken) {
			return fmt.Errorf("key %d was not abandoned: %w", i, errors.Join(err))
		}
		return nil
	})
	f.broken = false
	time.Sleep(10 * time.Millisecond) // RecoverAfter is 1 ms
}

// round makes keys due, lets a completer finish them, and removes them.
func (f *field) round(t *testing.T, counts bool) {
	t.Helper()
	f.abandon(t, due)
	c, err := redisidem.NewCompleter(f.svc, []*redisidem.Flow{f.flow}, nil)
	must(t, err)
	cpu, scripts := f.cpuTime(t), f.scriptTime(t)
	swept, err := c.Sweep(context.Background())
	must(t, err)
	cpu, scripts = f.cpuTime(t)-cpu, f.scriptTime(t)-scripts
	if swept.Due != due || swept.Finished != due {
		t.Fatalf("the sweep did %+v", swept)
	}
	idle := f.cpuTime(t)
	swept, err = c.Sweep(context.Background())
	must(t, err)
	idle = f.cpuTime(t) - idle
	if swept.Due != 0 {
		t.Fatalf("the second sweep did %+v", swept)
	}
	if counts {
		f.cpu, f.scripts, f.idle = append(f.cpu, cpu), append(f.scripts, scripts), append(f.idle, idle)
	}
	f.parallel(t, due, func(i int) error {
		key, err := f.sc.Retrieve(context.Background(), value(i))
		if err != nil {
			return err
		}
		return f.sc.Delete(context.Background(), key)
	})
}

// settle waits until the server has finished the work that the filling left, such as moving keys to
// larger tables in the background.
func (f *field) settle(t *testing.T) {
	t.Helper()
	const span = 200 * time.Millisecond
	until(t, "the server rests", func() bool {
		before := f.cpuTime(t)
		time.Sleep(span)
		return f.cpuTime(t)-before < span/20
	})
}

// cpuTime returns the CPU time that the server's main thread has used.
func (f *field) cpuTime(t *testing.T) (d time.Duration) {
	t.Helper()
	for _, name := range []string{"used_cpu_user_main_thread", "used_cpu_sys_main_thread"} {
		seconds, err := strconv.ParseFloat(f.info(t, "cpu", name), 64)
		must(t, err)
		d += time.Duration(seconds * float64(time.Second))
	}
	return d
}

// scriptTime returns the time that the server has spent in scripts.
func (f *field) scriptTime(t *testing.T) (d time.Duration) {
	t.Helper()
	for pair := range strings.SplitSeq(f.info(t, "commandstats", "cmdstat_evalsha"), ",") {
		if usec, ok := strings.CutPrefix(pair, "usec="); ok {
			n, err := strconv.Atoi(usec)
			must(t, err)
			d = time.Duration(n) * time.Microsecond
		}
	}
	return d
}

// info returns a field of the server's INFO.
func (f *field) info(t *testing.T, section, name string) string {
	t.Helper()
	text, err := f.client.Info(context.Background(), section).Result()
	must(t, err)
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("INFO %s has no %s", section, name)
	return ""
}
