//go:build unix

package redistest_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

const (
	// patience is the time that a test waits before it fails.
	patience = time.Minute
	// soon is the time after which a test concludes that an event does not happen.
	soon = 100 * time.Millisecond
)

// actAsParent makes the test binary start a server and then wait, for a test that kills it.
const actAsParent = "REDISTEST_ACT_AS_PARENT"

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	if os.Getenv(actAsParent) != "" {
		s, err := redistest.Start()
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(s.PID())
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	leak.Main(m)
}

// quiet suppresses go-redis's log of connections that tests break on purpose.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// must fails the test when there is an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// alive reports whether a process runs. A zombie does not run.
func alive(pid int) bool {
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		return !strings.Contains(string(stat), ") Z ")
	}
	return syscall.Kill(pid, 0) == nil
}

// client returns a client of the server. It is closed at the end of the test.
func client(t *testing.T, s *redistest.Server) *redis.Client {
	t.Helper()
	c := s.Client()
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestNothingIsLeft does not run in parallel, so that all goroutines are its own.
func TestNothingIsLeft(t *testing.T) {
	rediscase.Need(t)
	before := runtime.NumGoroutine()

	var servers []*redistest.Server
	var stops []func()
	start := func(thing interface{ Stop() }, err error) {
		t.Helper()
		must(t, err)
		stops = append(stops, thing.Stop)
		switch thing := thing.(type) {
		case *redistest.Server:
			servers = append(servers, thing)
		case *redistest.Replicated:
			servers = append(append(servers, thing.Master), thing.Replicas...)
		case *redistest.Cluster:
			servers = append(servers, thing.Nodes...)
		case *redistest.Sentinel:
			servers = append(append(servers, thing.Data...), thing.Sentinels...)
		}
	}
	alone, err := redistest.Start()
	start(alone, err)
	start(redistest.StartReplicated(1))
	start(redistest.StartCluster())
	start(redistest.StartSentinel())
	start(redistest.StartBlackHole())
	proxy, err := redistest.StartProxy(alone.Addr())
	start(proxy, err)

	// These connections are in all states: idle, with a delayed reply, muted, and with a held
	// request.
	dial(t, proxy).ask("PING").expect("+PONG")
	for _, fault := range []redistest.Fault{redistest.MuteReply, redistest.HoldRequest} {
		struck := proxy.Once(fault, "")
		dial(t, proxy).ask("PING")
		await(t, struck)
	}
	proxy.StallReplies()
	dial(t, proxy).ask("PING")
	must(t, servers[1].Pause())
	servers[2].Kill()

	for _, stop := range stops {
		stop()
		stop() // does nothing
	}
	for _, s := range servers {
		if alive(s.PID()) {
			t.Errorf("process %d is left", s.PID())
		}
		if _, err := os.Stat(s.Dir()); err == nil {
			t.Errorf("folder %s is left", s.Dir())
		}
	}
	// The goroutines of closed clients and of ended processes may take a moment to end.
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("goroutines are left:\n%s", stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func TestServerDiesWithItsParent(t *testing.T) {
	t.Parallel()
	rediscase.Need(t)
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux")
	}
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), actAsParent+"=1", "TMPDIR="+t.TempDir()) // the killed process does not remove its folder
	stdin, err := parent.StdinPipe()                                           // held open, or the process would end
	must(t, err)
	defer func() { _ = stdin.Close() }()
	stdout, err := parent.StdoutPipe()
	must(t, err)
	must(t, parent.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(line)
	}
	if !alive(pid) {
		t.Fatal("the server does not run")
	}
	must(t, parent.Process.Kill())
	_ = parent.Wait()
	eventually(t, "the server has ended", func() bool { return !alive(pid) })
}

// conn is a connection that sends and receives exactly the bytes of the test.
type conn struct {
	net.Conn
	t      *testing.T
	reader *bufio.Reader
}

func dial(t *testing.T, to interface{ Addr() string }) *conn {
	t.Helper()
	c, err := net.Dial("tcp", to.Addr())
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return &conn{c, t, bufio.NewReader(c)}
}

// ask sends requests in one write.
func (c *conn) ask(requests ...string) *conn {
	c.t.Helper()
	c.send(wire(requests...))
	return c
}

func (c *conn) send(bytes string) {
	c.t.Helper()
	_, err := io.WriteString(c, bytes)
	must(c.t, err)
}

// wire returns the encoded requests.
func wire(requests ...string) string {
	var b strings.Builder
	for _, request := range requests {
		words := strings.Fields(request)
		fmt.Fprintf(&b, "*%d\r\n", len(words))
		for _, w := range words {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
		}
	}
	return b.String()
}

// expect checks the next lines that arrive.
func (c *conn) expect(lines ...string) *conn {
	c.t.Helper()
	must(c.t, c.SetReadDeadline(time.Now().Add(patience)))
	for _, want := range lines {
		line, err := c.reader.ReadString('\n')
		if got := strings.TrimSpace(line); got != want {
			c.t.Fatalf("got %q, %v; want %q", got, err, want)
		}
	}
	return c
}

// expectEnd checks that no more data arrives because the other side has closed.
func (c *conn) expectEnd() {
	c.t.Helper()
	must(c.t, c.SetReadDeadline(time.Now().Add(patience)))
	line, err := c.reader.ReadString('\n')
	if line != "" || err == nil || os.IsTimeout(err) {
		c.t.Fatalf("got %q, %v; want the end", line, err)
	}
}

// expectSilence checks that no data arrives on a connection that stays open.
func (c *conn) expectSilence() *conn {
	c.t.Helper()
	must(c.t, c.SetReadDeadline(time.Now().Add(soon)))
	line, err := c.reader.ReadString('\n')
	if line != "" || !os.IsTimeout(err) {
		c.t.Fatalf("got %q, %v; want silence", line, err)
	}
	return c
}

// await waits for a channel to be closed.
func await(t *testing.T, closed <-chan struct{}) {
	t.Helper()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("the fault has not struck")
	}
}

func second[T any](_ T, err error) error { return err }
