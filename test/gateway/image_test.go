//go:build linux

package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/test/internal/child"
)

// rootVariable makes a test that needs root fail for other users.
const rootVariable = "REDISIDEM_REQUIRE_ROOT"

// imageUser is the user of the image.
const imageUser = 65532

// image is the root file system of the image in a folder.
type image struct{ root string }

// newImage makes the root file system as the Dockerfile does.
func newImage(t *testing.T, version, config string) image {
	t.Helper()
	i := image{root: filepath.Join(t.TempDir(), "root")}
	if out, err := exec.CommandContext(t.Context(), "../../deploy/image/rootfs.sh", i.root, version).CombinedOutput(); err != nil { //nolint:gosec // our own
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(i.root+"/etc/redisidem/gateway.yaml", []byte(config), 0o444); err != nil { //nolint:gosec // another user reads it
		t.Fatal(err)
	}
	return i
}

// command returns a command that runs the program of the image as the image's user, with nothing
// but its files.
func (i image) command(args ...string) *exec.Cmd {
	cmd := exec.Command("/redisidem", args...) //nolint:gosec // of the image
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.SysProcAttr = child.DieWithParent()
	cmd.SysProcAttr.Chroot = i.root
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: imageUser, Gid: imageUser}
	return cmd
}

// start starts a gateway, and blocks until its own health check finds it well.
func (i image) start(t *testing.T, redis string) *process {
	t.Helper()
	cmd := i.command("gateway", "--config", "/etc/redisidem/gateway.yaml")
	cmd.Env = []string{"REDIS_URL=redis://" + redis}
	p := launch(t, cmd)
	if out, err := i.command("health", p.admin+"/livez").CombinedOutput(); err != nil {
		t.Fatalf("health: %v: %s", err, out)
	}
	return p
}

// clients send requests with keys, one after the other, and repeat each until it is answered.
type clients struct {
	tasks             sync.WaitGroup
	end               context.CancelFunc
	answered, retries atomic.Int64
	reused            atomic.Int64 // requests on a connection that had one before
	dropped           atomic.Int64 // connections that ended without Connection: close before
	repeating         atomic.Int64 // clients that repeat a request now
	failed            atomic.Int64
}

// clientConn is a connection that counts if the other side ends it without notice.
type clientConn struct {
	net.Conn
	noticed atomic.Bool
	dropped *atomic.Int64
}

func (c *clientConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && !errors.Is(err, net.ErrClosed) && !c.noticed.Swap(true) {
		c.dropped.Add(1)
	}
	return n, err
}

// dial connects a client.
func (c *clients) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &clientConn{Conn: conn, dropped: &c.dropped}, nil
}

// imageDrain is the drain_delay of the gateways.
const imageDrain = time.Second

// startClients starts clients of a URL. Half of them keep their connections, as usual, and pause
// between their requests. They do not reuse a connection that was idle for about the drain_delay,
// because it may be about to end.
func startClients(t *testing.T, url string) *clients {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &clients{end: cancel}
	t.Cleanup(c.stop)
	for worker := range 8 {
		keeps := worker%2 == 1
		transport := &http.Transport{DialContext: c.dial, DisableKeepAlives: !keeps, IdleConnTimeout: imageDrain / 2}
		client := &http.Client{Timeout: patience, Transport: transport}
		c.tasks.Go(func() {
			defer transport.CloseIdleConnections()
			for n := 0; ctx.Err() == nil; n++ {
				c.send(client, url, fmt.Sprintf("image-%d-%d", worker, n))
				if keeps {
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	return c
}

// stop ends the clients after the requests under way.
func (c *clients) stop() {
	c.end()
	c.tasks.Wait()
}

// send sends a request until it is answered with 201, for a minute at most.
func (c *clients) send(client *http.Client, url, key string) {
	var conn *clientConn
	trace := &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		conn, _ = got.Conn.(*clientConn)
		if got.Reused {
			c.reused.Add(1)
		}
	}}
	ctx := httptrace.WithClientTrace(context.Background(), trace)
	var repeats int64 // 1 once the request is repeated
	defer func() { c.repeating.Add(-repeats) }()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/orders", strings.NewReader(`{"cents":1200}`))
		if err != nil {
			break
		}
		r.GetBody = nil // or the transport itself repeats a request with a key, which nothing would count
		r.Header.Set("Idempotency-Key", `"`+key+`"`)
		r.Header.Set("X-Tenant", "acme")
		res, err := client.Do(r)
		if err == nil {
			conn.noticed.Store(res.Close)
			_, err = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if err == nil && res.StatusCode == http.StatusCreated {
				c.answered.Add(1)
				return
			}
		}
		c.retries.Add(1)
		if repeats == 0 {
			repeats = 1
			c.repeating.Add(1)
		}
	}
	c.failed.Add(1)
}

// more blocks until the clients have got this many further answers.
func (c *clients) more(t *testing.T, answers int64) {
	t.Helper()
	enough := c.answered.Load() + answers
	until(t, "the clients get answers", func() bool { return c.answered.Load() >= enough })
}

// TestImageIsUpgradedUnderLoad runs the image's root file system. Two gateways of a version serve
// behind a load balancer. One is killed, and its clients get their answers from the other one. Then
// both are replaced by the next version, and no client even has to repeat a request, whether it
// keeps its connections or not.
func TestImageIsUpgradedUnderLoad(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		if os.Getenv(rootVariable) == "1" {
			t.Fatal("chroot needs root")
		}
		t.Skip("chroot needs root")
	}
	redis, up, b := rediscase.Server(t).Addr(), newUpstream(t), newBalancer(t)
	config := fmt.Sprintf(`
upstream: %s
listen: 127.0.0.1:0
admin_listen: 127.0.0.1:0
scope: header:X-Tenant
lease: 1s
max_hold: 3s
drain_delay: %s
routes: [{match: POST /orders, key: required, interrupted: run}]
`, up.URL, imageDrain)
	versions := []image{newImage(t, "v0.1.0", config), newImage(t, "v0.1.1", config)}
	for i, want := range []string{"redisidem  v0.1.0\n", "redisidem  v0.1.1\n"} {
		if out, err := versions[i].command("version").Output(); err != nil || !strings.HasPrefix(string(out), want) {
			t.Fatalf("the image has %v:\n%s", err, out)
		}
	}
	versions[0].checkFiles(t)
	gateways := make([]*process, 2)
	for i := range gateways {
		gateways[i] = versions[0].start(t, redis)
		b.add(t, gateways[i])
	}
	load := startClients(t, b.url("http"))
	const turn = 300
	load.more(t, turn)

	gateways[0].kill()
	load.more(t, turn)
	gateways[0] = versions[0].start(t, redis)
	b.add(t, gateways[0])
	load.more(t, turn)
	until(t, "no request waits for the killed gateway", func() bool { return load.repeating.Load() == 0 })
	afterKill, reused, dropped := load.retries.Load(), load.reused.Load(), load.dropped.Load()

	for i, old := range gateways {
		gateways[i] = versions[1].start(t, redis)
		b.add(t, gateways[i])
		old.signal(t, syscall.SIGTERM)
		old.wait(t)
		load.more(t, turn)
	}
	load.stop()
	if n := load.failed.Load(); n > 0 {
		t.Errorf("%d requests failed", n)
	}
	if n := load.retries.Load() - afterKill; n > 0 {
		t.Errorf("%d requests had to be repeated during the upgrade", n)
	}
	if n := load.dropped.Load() - dropped; n > 0 {
		t.Errorf("%d connections ended during the upgrade without Connection: close", n)
	}
	if load.reused.Load() == reused {
		t.Error("no connection was used twice during the upgrade")
	}
	t.Logf("%d requests, 0 failed; %d were repeated because a gateway was killed, 0 because of the upgrade", load.answered.Load(), afterKill)
}

// checkFiles checks that the image has the files that it should, and that none can be written.
func (i image) checkFiles(t *testing.T) {
	t.Helper()
	var names []string
	err := filepath.WalkDir(i.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o222 != 0 {
			t.Errorf("%s can be written: %v", path, info.Mode())
		}
		if !entry.IsDir() {
			names = append(names, strings.TrimPrefix(path, i.root))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "/etc/group /etc/passwd /etc/redisidem/gateway.yaml /etc/ssl/certs/ca-certificates.crt /redisidem"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("the image has %s, want %s", got, want)
	}
}
