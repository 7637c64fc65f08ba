package contender_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/cmd/bench/internal/answer"
	"github.com/redisidem/redisidem/cmd/bench/internal/contender"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

// postgresVariable names the environment variable with the URL of a PostgreSQL in which the test
// may create schemas.
const postgresVariable = "REDISIDEM_BENCH_POSTGRES"

const callers = 64

func TestContendersDoTheSameWork(t *testing.T) {
	t.Parallel()
	addr := rediscase.Server(t).Addr()
	for _, kind := range contender.All() {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			conforms(t, kind, dial(addr), kind.Name != "http" && kind.Name != "gateway-bare" && kind.Name != "proxy") // these three do not protect requests
		})
	}
}

func TestOwnAreThisLibraryAndItsServers(t *testing.T) {
	t.Parallel()
	for _, kind := range contender.All() {
		if own := strings.Contains(kind.Name, "redisidem") || strings.HasPrefix(kind.Name, "gateway"); kind.Own != own {
			t.Errorf("%s is its own: %v", kind.Name, kind.Own)
		}
	}
}

func TestMedusaSQLDoesTheSameWork(t *testing.T) {
	t.Parallel()
	url := os.Getenv(postgresVariable)
	if url == "" {
		t.Skip(postgresVariable + " is not set")
	}
	// MedusaSQL does not exclude concurrent callers: see TestMedusaSQLRunsTheSameWorkTwice.
	conforms(t, contender.MedusaSQL(url), dial(""), false)
}

// conforms checks the properties that scenarios rely on. A contender that is not exclusive may run
// the work of one key several times at once.
func conforms(t *testing.T, kind contender.Kind, dial contender.Dial, exclusive bool) {
	g := open(t, kind, dial) // may build a program
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)

	t.Run("RunsAFreshKey", func(t *testing.T) {
		body := bytes.Repeat([]byte("a\x00\r\n\xff"), 40)
		got, replayed, err := g.Do(ctx, request("fresh"), returns(body))
		if err != nil || replayed || !bytes.Equal(got, body) {
			t.Fatalf("%q, replayed %t: %v", got, replayed, err)
		}
		if !kind.Replays {
			return
		}
		for range 2 {
			got, replayed, err := g.Do(ctx, request("fresh"), mustNotRun(t))
			if err != nil || !replayed || !bytes.Equal(got, body) {
				t.Fatalf("%q, replayed %t: %v", got, replayed, err)
			}
		}
	})

	t.Run("KeepsKeysApart", func(t *testing.T) {
		for _, key := range []string{"one", "two"} {
			got, replayed, err := g.Do(ctx, request(key), returns([]byte(key)))
			if err != nil || replayed || string(got) != key {
				t.Fatalf("%q, replayed %t: %v", got, replayed, err)
			}
		}
	})

	if kind.Replays {
		t.Run("RunsAgainWhatFailed", func(t *testing.T) {
			failure := errors.New("the work failed")
			if _, _, err := g.Do(ctx, request("failing"), func(context.Context) ([]byte, error) { return nil, failure }); !errors.Is(err, failure) {
				t.Fatal(err)
			}
			got, replayed, err := g.Do(ctx, request("failing"), returns([]byte("better")))
			if err != nil || replayed || string(got) != "better" {
				t.Fatalf("%q, replayed %t: %v", got, replayed, err)
			}
		})
	}

	if exclusive {
		t.Run("RefusesOrWaitsWhileInFlight", func(t *testing.T) { inFlight(ctx, t, kind, g) })
	}
	t.Run("GivesManyCallersOneResponse", func(t *testing.T) { crowd(ctx, t, kind, g, exclusive) })
}

// inFlight sends a second request while the first one is in flight.
func inFlight(ctx context.Context, t *testing.T, kind contender.Kind, g contender.Contender) {
	running, release := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		got, replayed, err := g.Do(ctx, request("held"), func(context.Context) ([]byte, error) {
			close(running)
			<-release
			return []byte("held"), nil
		})
		if err == nil && (replayed || string(got) != "held") {
			err = errors.New("not its own response: " + string(got))
		}
		first <- err
	}()
	select {
	case <-running:
	case err := <-first:
		t.Fatalf("the work did not run: %v", err)
	}
	if kind.Waits {
		second := make(chan error, 1)
		go func() {
			got, replayed, err := g.Do(ctx, request("held"), mustNotRun(t))
			if err == nil && (!replayed || string(got) != "held") {
				err = errors.New("not the first one's response: " + string(got))
			}
			second <- err
		}()
		select {
		case err := <-second:
			t.Errorf("the second caller did not wait: %v", err)
			second <- err
		case <-time.After(50 * time.Millisecond):
		}
		close(release)
		if err := <-second; err != nil {
			t.Error(err)
		}
	} else {
		if _, _, err := g.Do(ctx, request("held"), mustNotRun(t)); !errors.Is(err, contender.ErrInFlight) {
			t.Errorf("the second caller was not refused: %v", err)
		}
		close(release)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// crowd sends one key from many callers at once.
func crowd(ctx context.Context, t *testing.T, kind contender.Kind, g contender.Contender, exclusive bool) {
	const keys = 5
	for i := range keys {
		r := request("crowd" + string(rune('a'+i)))
		var ran, executed, refused atomic.Int64
		var answers sync.Map
		var all sync.WaitGroup
		gun := make(chan struct{})
		for range callers {
			all.Go(func() {
				<-gun
				for {
					got, replayed, err := g.Do(ctx, r, func(context.Context) ([]byte, error) {
						n := ran.Add(1)
						time.Sleep(5 * time.Millisecond)
						return []byte{'r', byte(n)}, nil
					})
					if errors.Is(err, contender.ErrInFlight) {
						refused.Add(1)
						if !kind.Replays {
							return
						}
						time.Sleep(time.Millisecond)
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					if !replayed {
						executed.Add(1)
					}
					answers.Store(string(got), true)
					return
				}
			})
		}
		close(gun)
		all.Wait()
		if !exclusive && !kind.Replays {
			continue // it does not exclude callers
		}
		if n := executed.Load(); n != 1 {
			t.Errorf("%d callers got the result of an execution", n)
		}
		if n := ran.Load(); exclusive && n != 1 {
			t.Errorf("the work ran %d times", n)
		}
		if n := refused.Load(); kind.Waits && n != 0 {
			t.Errorf("%d callers were refused", n)
		}
		different := 0
		for range answers.Range {
			different++
		}
		if different != 1 {
			t.Errorf("%d different responses", different)
		}
	}
}

// TestLocksAreHeldForAsLongAsARunTakes advances the server's clock by an hour. No lock is renewed
// meanwhile.
func TestLocksAreHeldForAsLongAsARunTakes(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"redislock", "redislock-auto", "redsync", "floor"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := miniredis.RunT(t)
			kind, _ := contender.ByName(name)
			g := open(t, kind, dial(server.Addr()))
			ctx := context.Background()
			if _, _, err := g.Do(ctx, request("held"), func(context.Context) ([]byte, error) {
				server.FastForward(time.Hour)
				if _, _, err := g.Do(ctx, request("held"), mustNotRun(t)); !errors.Is(err, contender.ErrInFlight) {
					t.Errorf("the duplicate was not refused: %v", err)
				}
				return []byte("held"), nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

// These tests pin the weaknesses that the contenders' descriptions name, so that a change is
// noticed.

func TestFiberExecutesTheSameRequestInEachProcess(t *testing.T) {
	t.Parallel()
	kind, _ := contender.ByName("gofiber")
	if ran := together(t, kind, dial(rediscase.Server(t).Addr())); ran != 2 {
		t.Errorf("two replicas ran the work %d times", ran)
	}
}

func TestMedusaSQLRunsTheSameWorkTwice(t *testing.T) {
	t.Parallel()
	url := os.Getenv(postgresVariable)
	if url == "" {
		t.Skip(postgresVariable + " is not set")
	}
	ctx := context.Background()
	g := open(t, contender.MedusaSQL(url), dial(""))
	var both sync.WaitGroup
	both.Add(2)
	var ran, executed atomic.Int64
	var callers sync.WaitGroup
	for range 2 {
		callers.Go(func() {
			_, replayed, err := g.Do(ctx, request("twice"), func(context.Context) ([]byte, error) {
				ran.Add(1)
				both.Done()
				both.Wait()
				return []byte("once"), nil
			})
			if err != nil {
				t.Error(err)
			}
			if !replayed {
				executed.Add(1)
			}
		})
	}
	callers.Wait()
	if ran.Load() != 2 || executed.Load() != 1 {
		t.Errorf("the work ran %d times, and %d results were kept", ran.Load(), executed.Load())
	}
}

// together opens two contenders on one server, as two replicas of a service would, and sends both
// the same request at the same time. It returns how often the work ran.
func together(t *testing.T, kind contender.Kind, dial contender.Dial) int64 {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var ran atomic.Int64
	running := make(chan struct{}, 2)
	var replicas sync.WaitGroup
	for range 2 {
		g := open(t, kind, dial)
		replicas.Go(func() {
			_, _, err := g.Do(ctx, request("together"), func(ctx context.Context) ([]byte, error) {
				ran.Add(1)
				running <- struct{}{}
				for len(running) < 2 && ctx.Err() == nil {
					time.Sleep(time.Millisecond)
				}
				return []byte("done"), nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	replicas.Wait()
	return ran.Load()
}

// TestServerWithoutTrackingLeavesRueidislockOut opens rueidislock on the embedded server.
func TestServerWithoutTrackingLeavesRueidislockOut(t *testing.T) {
	t.Parallel()
	kind, _ := contender.ByName("rueidislock")
	if _, err := kind.Open(context.Background(), dial(miniredis.RunT(t).Addr()), "test"); !errors.Is(err, contender.ErrUnable) {
		t.Errorf("the error is %v", err)
	}
}

func TestGatewayIsLeftOutOutsideOfItsRepository(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"proxy", "gateway", "gateway-bare"} {
		kind, _ := contender.ByName(name)
		if _, err := kind.Open(context.Background(), dial("127.0.0.1:1"), "test"); !errors.Is(err, contender.ErrUnable) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

// TestGatewayLeavesNoFiles opens two contenders and closes the first while the second still runs
// the same program.
func TestGatewayLeavesNoFiles(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	addr := dial(rediscase.Server(t).Addr())
	kind, _ := contender.ByName("proxy") // builds faster than the gateway
	for range 2 {
		one, err := kind.Open(context.Background(), addr, "one")
		if err != nil {
			t.Fatal(err)
		}
		two, err := kind.Open(context.Background(), addr, "two")
		if err != nil {
			t.Fatal(err)
		}
		if err := one.Close(); err != nil {
			t.Error(err)
		}
		if _, _, err := two.Do(context.Background(), request("k"), returns([]byte("done"))); err != nil {
			t.Error(err)
		}
		if err := two.Close(); err != nil {
			t.Error(err)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "redisidem-bench*")); err != nil || len(left) > 0 {
			t.Errorf("%v is left, %v", left, err)
		}
	}
}

// TestForwardersReachAnUpstreamApart sends a request through each of them, and again through the
// gateway that protects.
func TestForwardersReachAnUpstreamApart(t *testing.T) {
	addr := dial(rediscase.Server(t).Addr())
	for _, kind := range contender.Forwarders(200) {
		g, err := kind.Open(context.Background(), addr, "apart")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			got, replayed, err := g.Do(context.Background(), request("k"), nil)
			if err != nil || !bytes.Equal(got, answer.Of("k", 200)) || replayed != (kind.Replays && i > 0) {
				t.Errorf("%s: %q, replayed %v, %v", kind.Name, got, replayed, err)
			}
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestNamesAreUnique(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, kind := range contender.All() {
		if seen[kind.Name] || kind.Title == "" || !strings.HasSuffix(kind.About, ".") {
			t.Errorf("%+v", kind)
		}
		seen[kind.Name] = true
		if got, ok := contender.ByName(kind.Name); !ok || got.Title != kind.Title {
			t.Errorf("%q is not found", kind.Name)
		}
	}
	if _, ok := contender.ByName("missing"); ok {
		t.Error("a contender that does not exist was found")
	}
}

func TestMedusaSQLSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, url := range []string{"postgres://u:secret@127.0.0.1:1/none?connect_timeout=1", "postgres://u:secret@[::1/none"} {
		_, err := contender.MedusaSQL(url).Open(ctx, dial(""), "test")
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// dial is the address of a server. It implements contender.Dial.
type dial string

func (d dial) Client(context.Context) (redis.UniversalClient, error) { return d.SharedClient() }

func (d dial) SharedClient() (redis.UniversalClient, error) {
	return redis.NewClient(&redis.Options{Addr: string(d), ContextTimeoutEnabled: true, PoolSize: callers + 8}), nil
}

func (d dial) Addr() (string, error) { return string(d), nil }

func (d dial) Callers() int { return callers }

func open(t *testing.T, kind contender.Kind, dial contender.Dial) contender.Contender {
	t.Helper()
	g, err := kind.Open(context.Background(), dial, "test-"+kind.Name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func request(key string) contender.Request {
	return contender.Request{Key: key, Method: "POST", Path: "/orders", Params: []byte(`{"cart":"8f14e45f","amount":4200}`)}
}

func returns(body []byte) contender.Work {
	return func(context.Context) ([]byte, error) { return body, nil }
}

func mustNotRun(t *testing.T) contender.Work {
	return func(context.Context) ([]byte, error) {
		t.Error("the work runs again")
		return nil, errors.New("the work runs again")
	}
}
