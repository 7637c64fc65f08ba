//go:build unix

package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redisidem/redisidem/test/internal/child"
)

// patience is how long anything may take that takes a second on a machine with nothing else to do.
const patience = time.Minute

// folder has the command redisidem once that is built.
var folder string

// program returns the path of the command redisidem, which is built once.
var program = sync.OnceValues(func() (file string, err error) {
	if folder, err = os.MkdirTemp("", "redisidem-gateway-"); err != nil {
		return "", err
	}
	file = filepath.Join(folder, "redisidem")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-o", file, "github.com/redisidem/redisidem/cmd/redisidem") //nolint:gosec // a path of the test's own
	if out, err := build.CombinedOutput(); err != nil {
		return file, fmt.Errorf("go build: %w: %s", err, out)
	}
	return file, nil
})

// removeProgram removes the command if it was built.
func removeProgram() {
	if folder != "" {
		_ = os.RemoveAll(folder)
	}
}

// process is a gateway process.
type process struct {
	cmd   *exec.Cmd
	url   string // for clients
	admin string // for operators
	ended chan struct{}
	err   error // how it ended; may be read once ended is closed

	mu  sync.Mutex
	log []string // the last lines
}

// start starts a gateway with a configuration file, and blocks until it serves. The process ends
// with the test at the latest.
func start(t testing.TB, redis, config string, args ...string) *process {
	t.Helper()
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{"gateway", "--config", config, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}, args...)
	cmd := exec.Command(file, args...) //nolint:gosec // built by this test
	cmd.Env = append(os.Environ(), "REDIS_URL=redis://"+redis)
	cmd.SysProcAttr = child.DieWithParent()
	return launch(t, cmd)
}

// launch starts the command of a gateway, and blocks until it serves.
func launch(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, ended: make(chan struct{})}
	out, err := p.cmd.StderrPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	urls := make(chan [2]string, 2)
	go func() {
		defer close(p.ended)
		p.read(out, urls)
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the end of the log of gateway %d:\n%s", p.cmd.Process.Pid, p.text())
		}
	})
	for p.url == "" || p.admin == "" {
		select {
		case got := <-urls:
			if got[0] == "serving" {
				p.url = got[1]
			} else {
				p.admin = got[1]
			}
		case <-p.ended:
			t.Fatalf("the gateway ended: %v\n%s", p.err, p.text())
		case <-time.After(patience):
			t.Fatalf("the gateway does not serve:\n%s", p.text())
		}
	}
	return p
}

// read reads the log until its end, and sends the messages with which the gateway begins to serve.
func (p *process) read(log io.Reader, urls chan<- [2]string) {
	const last = 40
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var entry struct{ Msg, URL string }
		_ = json.Unmarshal(lines.Bytes(), &entry) // another line, such as the trace of a panic, is kept as it is
		if entry.Msg == "serving" || entry.Msg == "serving operators" {
			urls <- [2]string{entry.Msg, entry.URL}
		}
		if entry.Msg == "request" {
			continue
		}
		p.mu.Lock()
		p.log = append(p.log[max(0, len(p.log)-last):], lines.Text())
		p.mu.Unlock()
	}
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.log, "\n")
}

// kill sends SIGKILL, and blocks until the process is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// signal sends a signal.
func (p *process) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// wait blocks until the process has ended by itself, and fails the test if it reports an error.
func (p *process) wait(t testing.TB) {
	t.Helper()
	select {
	case <-p.ended:
		if p.err != nil {
			t.Errorf("the gateway ended with %v:\n%s", p.err, p.text())
		}
	case <-time.After(patience):
		t.Fatalf("the gateway does not end:\n%s", p.text())
	}
}

// operators is the client of the admin listeners. A probe takes up to 2 s while Redis hangs.
var operators = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// page returns a page of the admin listener.
func (p *process) page(path string) (status int, text string, err error) {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, p.admin+path, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	res, err := operators.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}

// metric returns the value of a metric without labels, as /metrics prints it.
func (p *process) metric(name string) string {
	_, text, _ := p.page("/metrics") // a gateway that is gone has no metrics
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// until blocks until a condition holds, and fails the test if that takes too long.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}
