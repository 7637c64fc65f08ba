package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/redisidem"
)

// secretsFile writes a file of users.
func secretsFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte("operator ann ann-s-secret-1234\nviewer bob bob-s-secret-1234\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestConsoleRefusesToStart(t *testing.T) {
	t.Parallel()
	users := secretsFile(t)
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("operator ann hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"--listen :0":             "reachable at :0 without authentication",
		"--listen 0.0.0.0:0":      "reachable at 0.0.0.0:0 without authentication",
		"--listen [::]:0":         "without authentication",
		"--listen 192.0.2.1:0":    "without authentication",
		"--write":                 "--write needs --token-file, --basic-auth-file or --trusted-header",
		"--trusted-header X-User": "--trusted-header needs --trusted-proxy",
		"--trusted-header X-User --trusted-proxy 10.0.0.1":               "--trusted-proxy 10.0.0.1 must be a prefix",
		"--trusted-header X-User: --trusted-proxy 10.0.0.0/8":            "not the name of a header field",
		"--trusted-proxy 10.0.0.0/8":                                     "need --trusted-header",
		"--operator ann --token-file " + users:                           "need --trusted-header",
		"--token-file " + broken:                                         "--token-file: " + broken + ": line 1: the secret is 7 bytes long, less than 16",
		"--basic-auth-file /does/not/exist":                              "--basic-auth-file: open /does/not/exist",
		"--path-prefix console":                                          "--path-prefix \"console\" must begin with a slash",
		"--path-prefix /":                                                "--path-prefix \"/\" must begin",
		"--tls-cert x.pem":                                               "--tls-cert and --tls-key need each other",
		"--refresh 1ms":                                                  "Config.Refresh must be from 10ms to 1h",
		"--redis memory":                                                 "url has no scheme",
		"--listen 127.0.0.1:99999":                                       "99999",
		"--listen 127.0.0.1:0 --tls-cert /no.pem --tls-key /no-key.pem ": "/no.pem",
	} {
		got := command(t, "127.0.0.1:1", "", append([]string{"console"}, strings.Fields(line)...)...)
		if !strings.Contains(got, want) || !strings.HasSuffix(got, "[exit status 1]\n") {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
		if strings.Contains(got, "hunter2") {
			t.Errorf("%s: the error has the secret: %s", line, got)
		}
	}
}

// startConsole starts a console process and returns its URL. stop ends it with SIGTERM and returns
// its log.
func startConsole(t *testing.T, addr string, args ...string) (base string, stop func() string) {
	t.Helper()
	args = append([]string{"console", "--listen", "127.0.0.1:0"}, args...)
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...) //nolint:gosec // this very binary
	cmd.Env = append(os.Environ(), program+"=1", "REDIS_URL=redis://"+addr)
	cmd.SysProcAttr = dieWithParent()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stderr)
	var log strings.Builder
	for !strings.Contains(log.String(), "serving operators") {
		line, err := lines.ReadString('\n')
		log.WriteString(line)
		if err != nil {
			t.Fatalf("the console does not serve: %s", log.String())
		}
	}
	_, rest, _ := strings.Cut(log.String(), "url=")
	base, _, _ = strings.Cut(rest, " ")
	return base, func() string {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		left, _ := io.ReadAll(lines)
		log.Write(left)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the console ended with %v: %s", err, log.String())
		}
		return log.String()
	}
}

// fetch sends a request and returns the status and the body.
func fetch(t *testing.T, method, address, body string, change func(*http.Request)) (status int, page string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if change != nil {
		change(r)
	}
	client := &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}, //nolint:gosec // a certificate of the test
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// oneKey returns an embedded server with one key, and the key's ID.
func oneKey(t *testing.T) (addr, id string) {
	t.Helper()
	server := miniredis.RunT(t)
	svc, err := redisidem.OpenUnchecked("redis://"+server.Addr(), &redisidem.Config{Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = svc.Close(context.Background()) })
	if _, err := svc.Scope("acme").InitializeRequest(t.Context(), "k", redisidem.Request{Method: "POST", Path: "/"}); err != nil {
		t.Fatal(err)
	}
	return server.Addr(), svc.Scope("acme").ID("k")
}

func TestConsoleWithoutAuthenticationIsReadOnly(t *testing.T) {
	t.Parallel()
	addr, id := oneKey(t)
	base, stop := startConsole(t, addr, "--path-prefix", "/ops/console", "--refresh", "10ms")
	if !strings.HasSuffix(base, "/ops/console/") {
		t.Fatalf("the URL is %s", base)
	}
	if status, page := fetch(t, http.MethodGet, base+"keys", "", nil); status != 200 || !strings.Contains(page, id) || !strings.Contains(page, "read-only console") {
		t.Errorf("%d %s", status, page)
	}
	if status, page := fetch(t, http.MethodGet, base, "", nil); status != 200 || strings.Contains(page, "Checked at") {
		t.Errorf("%d %s", status, page)
	}
	if status, page := fetch(t, http.MethodPost, base+"acts/delete", "target=x", nil); status != http.StatusForbidden {
		t.Errorf("%d %s", status, page)
	}
	if status, _ := fetch(t, http.MethodGet, base+"keys", "", func(r *http.Request) { r.Host = "evil.example" }); status != http.StatusUnauthorized {
		t.Errorf("with another Host the status is %d", status)
	}
	if status, _ := fetch(t, http.MethodGet, strings.TrimSuffix(base, "ops/console/"), "", nil); status != http.StatusNotFound {
		t.Errorf("beside the prefix the status is %d", status)
	}
	// A live page does not hold up the end.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"live", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	began := time.Now()
	stop()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the end took %v", took)
	}
}

// TestConsoleAuthenticates acts with each way to authenticate.
func TestConsoleAuthenticates(t *testing.T) {
	t.Parallel()
	users := secretsFile(t)
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	basic := func(name, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(name, password) }
	}
	for name, c := range map[string]struct {
		args                   []string
		operator, viewer, none func(*http.Request)
	}{
		"token":  {[]string{"--token-file", users}, header("Authorization", "Bearer ann-s-secret-1234"), header("Authorization", "Bearer bob-s-secret-1234"), header("Authorization", "Bearer x")},
		"basic":  {[]string{"--basic-auth-file", users}, basic("ann", "ann-s-secret-1234"), basic("bob", "bob-s-secret-1234"), basic("ann", "bob-s-secret-1234")},
		"header": {[]string{"--trusted-header", "X-User", "--trusted-proxy", "10.0.0.0/8,127.0.0.1/32", "--operator", "ann"}, header("X-User", "ann"), header("X-User", "bob"), header("X-Other", "ann")},
		"both":   {[]string{"--token-file", users, "--basic-auth-file", users}, header("Authorization", "Bearer ann-s-secret-1234"), basic("bob", "bob-s-secret-1234"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, id := oneKey(t)
			base, stop := startConsole(t, addr, append(c.args, "--write")...)
			if status, page := fetch(t, http.MethodGet, base+"keys/"+id, "", c.none); status != http.StatusUnauthorized || strings.Contains(page, id) {
				t.Errorf("without credentials: %d %s", status, page)
			}
			status, page := fetch(t, http.MethodGet, base+"keys/"+id, "", c.operator)
			_, rest, ok := strings.Cut(page, `name="target" value="`)
			if status != 200 || !ok {
				t.Fatalf("%d %s", status, page)
			}
			target, _, _ := strings.Cut(rest, `"`)
			form := url.Values{"confirmed": {"yes"}, "reason": {"test"}, "target": {strings.NewReplacer("&amp;", "&", "&#43;", "+").Replace(target)}}
			for _, user := range []func(*http.Request){c.none, c.viewer} {
				if status, page := fetch(t, http.MethodPost, base+"acts/delete", form.Encode(), user); status != http.StatusUnauthorized && status != http.StatusForbidden {
					t.Errorf("%d %s", status, page)
				}
			}
			if status, page := fetch(t, http.MethodGet, base+"keys/"+id, "", c.viewer); status != 200 || strings.Contains(page, "acts/") {
				t.Errorf("the viewer's page: %d %s", status, page)
			}
			if status, page := fetch(t, http.MethodPost, base+"acts/delete", form.Encode(), c.operator); status != 200 || !strings.Contains(page, "1 key deleted") {
				t.Errorf("%d %s", status, page)
			}
			if _, page := fetch(t, http.MethodGet, base+"audit", "", c.viewer); !strings.Contains(page, `<td data-label="Actor">ann</td>`) || !strings.Contains(page, id) {
				t.Errorf("the audit is %s", page)
			}
			if log := stop(); strings.Contains(log, "secret-1234") {
				t.Errorf("the log has a secret: %s", log)
			}
		})
	}
}

func TestGatewayServesTheConsole(t *testing.T) {
	t.Parallel()
	up := newUpstream(t, nil)
	g := start(t, "", "--upstream", up.URL, "--scope", "unscoped", "--console", "--console-write", "--console-token-file", secretsFile(t))
	status, page := fetch(t, http.MethodPost, g.url+"/orders", "x", func(r *http.Request) { r.Header.Set("Idempotency-Key", `"k"`) })
	if status/100 != 2 {
		t.Fatalf("%d %s", status, page)
	}
	bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer ann-s-secret-1234") }
	if status, page := fetch(t, http.MethodGet, g.admin+"/console/", "", bearer); status != 200 || !strings.Contains(page, "Checked at") || !strings.Contains(page, "ann (operator)") {
		t.Errorf("%d %s", status, page)
	}
	if status, page := fetch(t, http.MethodGet, g.admin+"/console/keys?state=finished", "", bearer); status != 200 || !strings.Contains(page, "Delete chosen") {
		t.Errorf("%d %s", status, page)
	}
	activity := `<td data-label="Event">committed</td><td data-label="Count" class="n">1</td>`
	for end := time.Now().Add(time.Minute); !strings.Contains(page, activity); time.Sleep(50 * time.Millisecond) {
		if _, page = fetch(t, http.MethodGet, g.admin+"/console/", "", bearer); time.Now().After(end) {
			t.Fatalf("the overview does not show what the gateway does: %s", page)
		}
	}
	for path, want := range map[string]int{"/console/": http.StatusUnauthorized, "/livez": 200, "/readyz": 200, "/metrics": 200} {
		if status, page := fetch(t, http.MethodGet, g.admin+path, "", nil); status != want {
			t.Errorf("%s: %d %s", path, status, page)
		}
	}
	for line, want := range map[string]string{
		"--console --console-write":        "--console-write needs --console-token-file",
		"--console --admin-listen :0":      "reachable at :0 without authentication",
		"--console --admin-listen=":        "--console needs --admin-listen",
		"--console-write":                  "need --console",
		"--console --console-operator=ann": "need --console-trusted-header",
	} {
		args := append([]string{"gateway", "--upstream", up.URL, "--scope", "unscoped", "--listen", "127.0.0.1:0", "--redis", inMemory, "--admin-listen", "127.0.0.1:0"}, strings.Fields(line)...)
		if got := command(t, "", "", args...); !strings.Contains(got, want) || !strings.HasSuffix(got, "[exit status 1]\n") {
			t.Errorf("%s: %s", line, got)
		} else if strings.Contains(got, "serving") {
			t.Errorf("%s: it is checked after the gateway listens: %s", line, got)
		}
	}
}

func TestConsoleOfTheConfigurationFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	text := "scope: unscoped\nconsole: {enabled: true, write: true, token_file: " + secretsFile(t) + "}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g := start(t, "", "--upstream", newUpstream(t, nil).URL, "--config", file)
	bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer ann-s-secret-1234") }
	if status, page := fetch(t, http.MethodGet, g.admin+"/console/", "", bearer); status != 200 || !strings.Contains(page, "ann (operator)") {
		t.Errorf("%d %s", status, page)
	}
}
