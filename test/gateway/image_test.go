//go:build linux

package gateway

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
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
	failed            atomic.Int64
}

// startClients starts clients of a URL.
func startClients(t *testing.T, url string) *clients {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &clients{end: cancel}
	t.Cleanup(c.stop)
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	for worker := range 8 {
		c.tasks.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				c.send(client, url, fmt.Sprintf("image-%d-%d", worker, n))
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
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url+"/orders", strings.NewReader(`{"cents":1200}`))
		if err != nil {
			break
		}
		r.Header.Set("Idempotency-Key", `"`+key+`"`)
		r.Header.Set("X-Tenant", "acme")
		res, err := client.Do(r)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if err == nil && res.StatusCode == http.StatusCreated {
				c.answered.Add(1)
				return
			}
		}
		c.retries.Add(1)
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
// both are replaced by the next version, and no client even has to repeat a request.
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
drain_delay: 500ms
routes: [{match: POST /orders, key: required, interrupted: run}]
`, up.URL)
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
	afterKill := load.retries.Load()

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
