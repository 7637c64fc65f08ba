//go:build unix

package redistest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

func TestServerPausesAndResumes(t *testing.T) {
	t.Parallel()
	s := rediscase.Server(t)
	c := dial(t, s).ask("PING").expect("+PONG")
	must(t, s.Pause())
	c.ask("INCR n").expectSilence()
	must(t, s.Resume())
	c.expect(":1")
}

func TestServerRestartsOnItsPort(t *testing.T) {
	t.Parallel()
	s := rediscase.Server(t)
	addr, pid := s.Addr(), s.PID()
	dial(t, s).ask("SET k v").expect("+OK")
	s.Kill()
	if alive(pid) {
		t.Fatal("killed, and it is still there")
	}
	if err := s.Pause(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("pause of a dead server: %v", err)
	}
	must(t, s.Restart())
	if s.Addr() != addr || s.PID() == pid {
		t.Errorf("%s with process %d was restarted as %s with %d", addr, pid, s.Addr(), s.PID())
	}
	dial(t, s).ask("EXISTS k").expect(":0")
	must(t, s.Pause())
	must(t, s.Restart()) // while it runs, and is even paused
	s.Stop()
	if err := s.Restart(); err == nil {
		t.Error("restarted after Stop")
	}
}

func TestServerKeepsDataWhenAskedTo(t *testing.T) {
	t.Parallel()
	s := rediscase.Server(t, redistest.Args("--appendonly", "yes", "--appendfsync", "always"))
	dial(t, s).ask("SET k v").expect("+OK")
	must(t, s.Restart())
	dial(t, s).ask("GET k").expect("$1", "v")
}

func TestServerWithPasswordStarts(t *testing.T) {
	t.Parallel()
	s := rediscase.Server(t, redistest.Args("--requirepass", "secret"))
	dial(t, s).ask("AUTH secret", "PING").expect("+OK", "+PONG")
}

func TestServerGetsEnvironment(t *testing.T) {
	t.Parallel()
	rediscase.Need(t)
	if runtime.GOOS != "linux" {
		t.Skip("needs the loader of Linux, which complains of the variable in the log")
	}
	_, err := redistest.Start(redistest.Env("LD_PRELOAD=/no/such/library"), redistest.Args("--maxmemory", "nonsense"))
	if err == nil || !strings.Contains(err.Error(), "/no/such/library") {
		t.Errorf("the variable had no effect: %v", err)
	}
}

func TestStartErrorHasTheLog(t *testing.T) {
	t.Parallel()
	rediscase.Need(t)
	_, err := redistest.Start(redistest.Args("--maxmemory", "nonsense"))
	if err == nil || !strings.Contains(err.Error(), "argument must be a memory value") {
		t.Errorf("the error gives no reason: %v", err)
	}
}

// TestServerOutlivesThreads ends the thread that called Start. The system must not end the server
// because of that.
func TestServerOutlivesThreads(t *testing.T) {
	t.Parallel()
	rediscase.Need(t)
	var s *redistest.Server
	var err error
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread() // without unlock, so that the thread ends with the goroutine
		s, err = redistest.Start()
	})
	wg.Wait()
	must(t, err)
	defer s.Stop()
	c := dial(t, s)
	for range 10 {
		wg.Go(runtime.LockOSThread)
		wg.Wait()
		c.ask("PING").expect("+PONG")
	}
}

func TestManyServersStartAtOnce(t *testing.T) {
	t.Parallel()
	rediscase.Need(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	addrs := make(map[string]bool)
	for range 20 {
		wg.Go(func() {
			s, err := redistest.Start()
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(s.Stop)
			mu.Lock()
			defer mu.Unlock()
			addrs[s.Addr()] = true
		})
	}
	wg.Wait()
	if len(addrs) != 20 {
		t.Errorf("20 servers have %d addresses", len(addrs))
	}
}

func TestVariableNamesTheServer(t *testing.T) {
	rediscase.Need(t)
	words, err := redistest.Executable()
	must(t, err)
	env, err := exec.LookPath("env")
	must(t, err)
	t.Setenv(redistest.Variable, "  env  "+strings.Join(words, " "))
	got, err := redistest.Executable()
	must(t, err)
	if got[0] != env || len(got) != len(words)+1 {
		t.Errorf("words %q", got)
	}
	dial(t, rediscase.Server(t)).ask("PING").expect("+PONG")

	t.Setenv(redistest.Variable, "/no/such/program")
	for _, err := range []error{redistest.Available(), second(redistest.Start()), second(redistest.StartCluster())} {
		if !errors.Is(err, redistest.ErrNoServer) || !strings.Contains(err.Error(), "apt-get install redis-server") {
			t.Errorf("without a program: %v", err)
		}
	}
}

func TestReplicasAreInStep(t *testing.T) {
	t.Parallel()
	r := rediscase.Replicated(t, 2)
	dial(t, r.Master).ask("SET k v", "WAIT 2 10000").expect("+OK", ":2")
	ctx := context.Background()
	for _, replica := range r.Replicas {
		if got, err := client(t, replica).Get(ctx, "k").Result(); got != "v" {
			t.Errorf("the replica has %q, %v", got, err)
		}
	}
	must(t, r.Replicas[0].Pause())
	dial(t, r.Master).ask("SET k w", "WAIT 2 10").expect("+OK", ":1")
}
