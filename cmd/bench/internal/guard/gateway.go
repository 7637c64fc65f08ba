package guard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

var (
	gatewayBare = Kind{
		Name: "gateway-bare", Title: "gateway, nothing protected",
		About: "The bare handler behind a process of cmd/redisidem whose routes protect nothing: a reverse proxy.",
		Own:   true,
		Open:  behindGateway("defaults: {protect: false}\n"),
	}
	gatewayKind = Kind{
		Name: "gateway", Title: "gateway",
		About: "The bare handler behind a process of cmd/redisidem: key, fingerprint and answer are kept, repetitions are replayed.",
		Own:   true, Replays: true,
		Open: behindGateway("defaults: {key: required}\n"),
	}
)

// gatewayProgram builds the gateway once for this process.
var gatewayProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "redisidem-bench")
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "redisidem")
	out, err := exec.Command("go", "build", "-o", program, "github.com/redisidem/redisidem/cmd/redisidem").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building the gateway, inside of the repository: %w: %s", err, out)
	}
	return program, nil
})

// gateway is a gateway process in front of a server.
type gateway struct {
	*httpGuard
	command *exec.Cmd
	dir     string
}

// behindGateway makes a guard whose requests go through a gateway with those routes.
func behindGateway(routes string) func(context.Context, Dial, string) (Guard, error) {
	return func(ctx context.Context, dial Dial, prefix string) (_ Guard, err error) {
		addr, err := dial.Addr()
		if err != nil {
			return nil, err
		}
		program, err := gatewayProgram()
		if err != nil {
			return nil, err
		}
		inner, err := serve(ctx, dial, nil, func(h http.Handler) (http.Handler, error) { return h, nil })
		if err != nil {
			return nil, err
		}
		server, ok := inner.(*httpGuard)
		if !ok {
			return nil, fmt.Errorf("the server is a %T", inner)
		}
		g := &gateway{httpGuard: server}
		defer func() {
			if err != nil {
				err = errors.Join(err, g.Close())
			}
		}()
		if g.dir, err = os.MkdirTemp("", "redisidem-bench"); err != nil {
			return nil, err
		}
		file := filepath.Join(g.dir, "routes.yaml")
		if err := os.WriteFile(file, []byte(routes), 0o600); err != nil {
			return nil, err
		}
		url, err := g.start(program, "gateway", "--upstream", server.url, "--listen", "127.0.0.1:0", "--admin-listen=", "--scope", "unscoped",
			"--routes", file, "--redis", "redis://"+addr, "--namespace", prefix, "--redis-timeout", patience.String())
		g.url = url
		return g, err
	}
}

// start starts the process and returns where it serves.
func (g *gateway) start(program string, args ...string) (string, error) {
	g.command = exec.Command(program, args...) //nolint:gosec,noctx // what was just built, and is ended by Close
	log, err := g.command.StderrPipe()
	if err != nil {
		return "", err
	}
	if err := g.command.Start(); err != nil {
		return "", err
	}
	lines := bufio.NewScanner(log)
	var last string
	for lines.Scan() {
		var entry struct{ Msg, URL string }
		if err := json.Unmarshal(lines.Bytes(), &entry); err == nil && entry.Msg == "serving" {
			go func() {
				for lines.Scan() { // nobody reads on, and the process must not wait for a reader
				}
			}()
			return entry.URL, nil
		}
		last = lines.Text()
	}
	return "", fmt.Errorf("the gateway does not serve: %s", last)
}

// Close implements [Guard].
func (g *gateway) Close() error {
	var err error
	if g.command != nil && g.command.Process != nil {
		err = g.command.Process.Signal(os.Interrupt)
		ended := time.AfterFunc(patience, func() { _ = g.command.Process.Kill() })
		_ = g.command.Wait() // how it ends does not matter any more
		ended.Stop()
	}
	if g.dir != "" {
		err = errors.Join(err, os.RemoveAll(g.dir))
	}
	return errors.Join(err, g.httpGuard.Close())
}
