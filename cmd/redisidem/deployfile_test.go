package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

// readDeployed returns a file of the folder deploy.
func readDeployed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestRedisConfiguration starts a server with the configuration and the users of deploy/redis. A
// gateway works as the user app, and an operator as the user operator.
func TestRedisConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	conf, users := filepath.Join(dir, "redis.conf"), filepath.Join(dir, "users.acl")
	const data = "\ndir /var/lib/redis\n"
	text := readDeployed(t, "redis/redis.conf")
	if strings.Count(text, data) != 1 {
		t.Errorf("the data is in whatever folder the server is started in:\n%s", text)
	}
	if env := readDeployed(t, "systemd/environment"); !strings.Contains(env, "\nREDIS_URL=redis://app:change-me-app@127.0.0.1:6379\n") {
		t.Errorf("the environment of the unit is not for this server:\n%s", env)
	}
	for file, text := range map[string]string{conf: strings.ReplaceAll(text, data, "\ndir "+dir+"\n"), users: readDeployed(t, "redis/users.acl")} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	addr := rediscase.Server(t, redistest.Args("--include", conf, "--aclfile", users)).Addr()
	report := command(t, "app:change-me-app@"+addr, "", "check", "--wait=1s", "--cache-bytes=1048576")
	for _, bad := range []string{"exit status", "warning", "failure", "error"} {
		if strings.Contains(report, bad) {
			t.Fatalf("the check prints\n%s", report)
		}
	}
	for _, good := range []string{"noeviction", "append"} {
		if !strings.Contains(report, good) {
			t.Errorf("the check does not mention %s:\n%s", good, report)
		}
	}
	if text := command(t, addr, "", "check"); !strings.Contains(text, "[exit status 1]") {
		t.Errorf("without a user the check prints\n%s", text)
	}

	p := start(t, "app:change-me-app@"+addr, "--upstream", newUpstream(t, nil).URL, "--scope", "unscoped")
	mustPost(t, p.url, "k")
	if list := command(t, "operator:change-me-operator@"+addr, "", "keys", "list"); !strings.Contains(list, "finished") {
		t.Errorf("the operator's list is\n%s", list)
	}
	if unlock := command(t, "app:change-me-app@"+addr, "", "keys", "list"); !strings.Contains(unlock, "exit status 1") {
		t.Errorf("the gateway's user can list keys:\n%s", unlock)
	}
}

// gatewayConfigurations returns the configurations of gateways in deploy, by their folder.
func gatewayConfigurations(t *testing.T) map[string]string {
	t.Helper()
	var secret struct {
		StringData map[string]string `yaml:"stringData"`
	}
	for manifest := range strings.SplitSeq(readDeployed(t, "kubernetes/gateway.yaml"), "\n---\n") {
		if strings.Contains(manifest, "kind: Secret") {
			if err := yaml.Unmarshal([]byte(manifest), &secret); err != nil {
				t.Fatal(err)
			}
		}
	}
	return map[string]string{
		"systemd": readDeployed(t, "systemd/gateway.yaml"), "compose": readDeployed(t, "compose/gateway.yaml"),
		"kubernetes": secret.StringData["gateway.yaml"],
	}
}

// TestGatewayConfigurations checks each configuration of a gateway in deploy as a gateway does.
func TestGatewayConfigurations(t *testing.T) {
	t.Parallel()
	for name, text := range gatewayConfigurations(t) {
		file := filepath.Join(t.TempDir(), name+".yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := command(t, "redis.example:6379", "", "gateway", "validate", file); text == "" || strings.Contains(out, "exit status") {
			t.Errorf("%s: %s", name, out)
		}
		if !strings.Contains(text, "upstream: ") {
			t.Errorf("%s has no upstream:\n%s", name, text)
		}
	}
}

// mostExposed is how exposed systemd may find the service, from 0 to 100.
const mostExposed = "15"

// TestUnitOfSystemd asks systemd about the unit.
func TestUnitOfSystemd(t *testing.T) {
	t.Parallel()
	analyze := requireProgram(t, "systemd-analyze")
	text := readDeployed(t, "systemd/redisidem-gateway.service")
	if !strings.Contains(text, "ExecStart=/usr/bin/redisidem gateway --config /etc/redisidem/gateway.yaml\n") {
		t.Fatal("the unit starts something else")
	}
	unit := filepath.Join(t.TempDir(), "redisidem-gateway.service")
	text = strings.ReplaceAll(text, "/usr/bin/redisidem", os.Args[0]) // it must be there
	if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"verify", "--man=no", unit}, {"security", "--offline=true", "--threshold=" + mostExposed, unit},
	} {
		cmd := exec.CommandContext(t.Context(), analyze, args...) //nolint:gosec // a program of the system
		cmd.WaitDelay = time.Minute
		out, err := cmd.CombinedOutput()
		if err != nil || args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %v: %v\n%s", args, err, out)
		}
	}
}
