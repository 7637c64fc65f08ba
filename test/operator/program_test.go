//go:build unix

package operator

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// program is the program redisidem, and a folder with the files that its commands read.
type program struct {
	t    *testing.T
	path string
	addr string // of the Redis
	dir  string
}

// build builds the program.
func build(t *testing.T, addr string) *program {
	t.Helper()
	p := &program{t: t, addr: addr, dir: t.TempDir()}
	p.path = filepath.Join(p.dir, "redisidem")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", p.path, "github.com/redisidem/redisidem/cmd/redisidem").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return p
}

func (p *program) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(p.t.Context(), p.path, args...)
	cmd.Env = append(os.Environ(), "REDIS_URL=redis://"+p.addr, "REDISIDEM_ACTOR=ann")
	cmd.Dir = p.dir
	return cmd
}

// run runs a command, which must succeed, and returns what it prints on standard output.
func (p *program) run(args ...string) string {
	p.t.Helper()
	var stderr bytes.Buffer
	cmd := p.command(args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

// gateway starts a gateway, with keys of a namespace of its own, and returns the URLs of its
// listeners. The test ends it.
func (p *program) gateway(upstream, config string) (url, admin string) {
	p.t.Helper()
	file := filepath.Join(p.dir, "gateway.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		p.t.Fatal(err)
	}
	cmd := p.command("gateway", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--namespace=gateway", "--scope=unscoped",
		"--upstream="+upstream, "--config="+file)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	urls, ended := make(chan string, 2), make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			var entry struct{ Msg, URL string }
			if json.Unmarshal(lines.Bytes(), &entry) == nil && strings.HasPrefix(entry.Msg, "serving") {
				urls <- entry.URL // of clients, then of operators
			}
		}
	}()
	p.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = cmd.Wait()
	})
	for _, to := range []*string{&url, &admin} {
		select {
		case *to = <-urls:
		case <-time.After(patience):
			p.t.Fatal("the gateway does not serve")
		}
	}
	return url, admin
}
