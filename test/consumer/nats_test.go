//go:build unix

package consumer

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/redisidem/redisidem/test/internal/child"
)

// requireVariable is the environment variable that, set to 1, fails tests that would be skipped for
// lack of a program.
const requireVariable = "REDISIDEM_REQUIRE_PROGRAMS"

// startNATS starts a NATS server with JetStream for the test, on a loopback port that it chooses
// itself, and returns its URL.
func startNATS(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("nats-server")
	if err != nil {
		if os.Getenv(requireVariable) == "1" {
			t.Fatal(err)
		}
		t.Skip("nats-server is missing (Debian: apt-get install nats-server): ", err)
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "--addr", "127.0.0.1", "--port", "-1", "--jetstream", "--store_dir", dir,
		"--ports_file_dir", dir, "--log", filepath.Join(dir, "log"))
	cmd.SysProcAttr = child.DieWithParent()
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	file := filepath.Join(dir, "nats-server_"+strconv.Itoa(cmd.Process.Pid)+".ports")
	for began := time.Now(); time.Since(began) < patience; time.Sleep(10 * time.Millisecond) {
		var ports struct {
			NATS []string `json:"nats"`
		}
		text, err := os.ReadFile(file)
		if err == nil && json.Unmarshal(text, &ports) == nil && len(ports.NATS) > 0 {
			return ports.NATS[0]
		}
	}
	log, _ := os.ReadFile(filepath.Join(dir, "log"))
	t.Fatalf("nats-server does not answer: %s", log)
	return ""
}
