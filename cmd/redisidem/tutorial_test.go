package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// tutorial is docs/gateway-tutorial.md, with free ports in place of its own.
type tutorial struct {
	*testing.T
	text  string
	ports map[string]net.Listener // that keep each of its addresses until a program is started there
}

func openTutorial(t *testing.T) *tutorial {
	t.Helper()
	page, err := os.ReadFile("../../docs/gateway-tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	p := &tutorial{t, string(page), make(map[string]net.Listener)}
	for _, port := range []string{"9000", "8080", "8081"} {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		address := listener.Addr().String()
		p.text, p.ports[address] = strings.ReplaceAll(p.text, "127.0.0.1:"+port, address), listener
	}
	return p
}

// block returns the code block of a language that contains some text.
func (p *tutorial) block(language, contains string) string {
	p.Helper()
	for _, m := range regexp.MustCompile("(?s)\n   ```"+language+"\n(.*?)\n   ```\n").FindAllStringSubmatch(p.text, -1) {
		if strings.Contains(m[1], contains) {
			return strings.ReplaceAll(m[1], "\n   ", "\n")[3:] + "\n"
		}
	}
	p.Fatalf("the page has no block of %s with %q", language, contains)
	return ""
}

// run starts a program of the page, which ends with the test. It serves at these addresses, the
// first of which must answer.
func (p *tutorial) run(cmd *exec.Cmd, addresses ...string) {
	p.Helper()
	for _, address := range addresses {
		_ = p.ports[address].Close()
	}
	url := "http://" + addresses[0]
	var log strings.Builder
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &log, &log, dieWithParent()
	if err := cmd.Start(); err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if p.Failed() {
			p.Log(log.String())
		}
	})
	for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(20 * time.Millisecond) {
		r, err := http.NewRequestWithContext(p.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			p.Fatal(err)
		}
		if answer, err := http.DefaultClient.Do(r); err == nil {
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
			return
		}
	}
	p.Fatalf("%v does not answer: %s", cmd.Args, log.String())
}

// TestGatewayTutorial does what docs/gateway-tutorial.md says, and compares what it gets.
func TestGatewayTutorial(t *testing.T) {
	t.Parallel()
	requireProgram(t, "curl")
	p := openTutorial(t)
	dir := t.TempDir()
	service := filepath.Join(dir, "service")
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(p.block("go", "package main")), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", service, "main.go")
	build.Dir, build.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	address := regexp.MustCompile(`ListenAndServe\("([^"]+)"`).FindStringSubmatch(p.text)[1]
	p.run(exec.CommandContext(t.Context(), service), address) //nolint:gosec // built above

	lines := strings.Split(strings.TrimSpace(p.block("sh", "redisidem gateway")), "\n")
	args := strings.Fields(lines[len(lines)-1])[1:]
	health := strings.Fields(p.block("sh", "redisidem health"))[1:]
	admin := strings.Split(health[1], "/")[2]
	gateway := exec.CommandContext(t.Context(), os.Args[0], append(args, "--admin-listen", admin)...) //nolint:gosec // this very binary
	gateway.Env = append(os.Environ(), program+"=1")
	p.run(gateway, args[len(args)-1], admin)

	var answers []string
	for line := range strings.SplitSeq(strings.TrimSpace(p.block("sh", "-d coffee")+p.block("sh", "-d tea")), "\n") {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(line, "curl", "curl -sS", 1)).CombinedOutput() //nolint:gosec // of the page
		if err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
		answers = append(answers, string(out))
	}
	for i, want := range [][]string{{" 201 ", "order 1\n"}, {" 201 ", "order 1\n", "\r\nIdempotency-Replayed: true\r\n"}, {" 422 ", "\r\nIdempotency-Problem: mismatch\r\n"}} {
		for _, w := range want {
			if !strings.Contains(answers[i], w) {
				t.Errorf("answer %d has no %q:\n%s", i, w, answers[i])
			}
		}
	}
	if strings.Contains(answers[0], "Idempotency-Replayed: true") {
		t.Errorf("the first answer is a replay:\n%s", answers[0])
	}
	if got, want := command(t, "", "", health...), p.block("text", "ready"); got != want {
		t.Errorf("the health is\n%s\nwant\n%s", got, want)
	}
}
