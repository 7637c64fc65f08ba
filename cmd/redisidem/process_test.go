package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

// program is the variable that makes the test binary be the program.
const program = "REDISIDEM_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(program) != "" {
		main()
		return
	}
	redis.SetLogger(quiet{}) // servers that are just starting are no news
	leak.Main(m)
}

// process is a gateway process.
type process struct {
	*exec.Cmd
	url   string
	admin string
	ended chan struct{}

	mu  sync.Mutex
	log strings.Builder
}

// start starts a gateway, and waits until it serves. Without a Redis it has one inside.
func start(t *testing.T, redis string, args ...string) *process {
	t.Helper()
	all := []string{"gateway", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}
	if !slices.Contains(args, "--redis-timeout") {
		all = append(all, "--redis-timeout", "5s") // the machine may be busy
	}
	p := &process{Cmd: exec.Command(os.Args[0], append(all, args...)...), ended: make(chan struct{})} //nolint:gosec // this very binary
	p.Env = append(os.Environ(), program+"=1")
	url := inMemory
	if redis != "" {
		url = "redis://" + redis
	}
	p.Env = append(p.Env, "REDIS_URL="+url)
	p.SysProcAttr = dieWithParent()
	stderr, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	serving, operators := make(chan string, 1), make(chan string, 1)
	go func() {
		defer close(p.ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			p.mu.Lock()
			p.log.WriteString(lines.Text() + "\n")
			p.mu.Unlock()
			var entry struct{ Msg, URL string }
			if json.Unmarshal(lines.Bytes(), &entry) != nil {
				continue
			}
			switch entry.Msg {
			case "serving":
				serving <- entry.URL
			case "serving operators":
				operators <- entry.URL
			}
		}
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.ended
		_ = p.Wait()
		if t.Failed() {
			t.Logf("the gateway's log:\n%s", p.text())
		}
	})
	for to, urls := range map[*string]chan string{&p.url: serving, &p.admin: operators} {
		select {
		case *to = <-urls:
		case <-p.ended:
			t.Fatalf("the gateway ended: %s", p.text())
		case <-time.After(20 * time.Second):
			t.Fatalf("the gateway does not serve: %s", p.text())
		}
	}
	return p
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// upstream is a service behind gateways.
type upstream struct {
	*httptest.Server
	runs    atomic.Int64
	attempt atomic.Value // of the last request
	began   chan struct{}
	hold    chan struct{} // if not nil, requests wait for it
}

func newUpstream(t *testing.T, hold chan struct{}) *upstream {
	t.Helper()
	u := &upstream{began: make(chan struct{}, 1000), hold: hold}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := u.runs.Add(1)
		u.attempt.Store(r.Header.Get("Idempotency-Attempt"))
		u.began <- struct{}{}
		if u.hold != nil && n == 1 {
			select {
			case <-u.hold:
			case <-time.After(30 * time.Second):
			}
		}
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "order %d", n)
	}))
	t.Cleanup(u.Close)
	return u
}

// answer is an answer that was read.
type answer struct {
	status     int
	body       string
	replayed   bool
	retryAfter string
}

func post(ctx context.Context, client *http.Client, url, key string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/orders", strings.NewReader("book"))
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("Idempotency-Key", key)
	r.Header.Set("X-Tenant", "acme")
	res, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, string(text), res.Header.Get("Idempotency-Replayed") == "true", res.Header.Get("Retry-After")}, err
}

func mustPost(t *testing.T, url, key string) answer {
	t.Helper()
	a, err := post(context.Background(), http.DefaultClient, url, key)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// waiting is a configuration file with which retries wait for the request in flight.
func waiting(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(file, []byte("defaults: {wait: 20s}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestTwoHundredRequestsToTwoGatewaysAreOne sends the same request many times at once.
func TestTwoHundredRequestsToTwoGatewaysAreOne(t *testing.T) {
	t.Parallel()
	redis := rediscase.Server(t)
	for _, waits := range []bool{true, false} {
		t.Run(fmt.Sprintf("waiting=%v", waits), func(t *testing.T) {
			t.Parallel()
			hold := make(chan struct{})
			up := newUpstream(t, hold)
			args := []string{"--upstream", up.URL, "--scope", "header:X-Tenant"}
			if waits {
				args = append(args, "--config", waiting(t))
			}
			gateways := []*process{start(t, redis.Addr(), args...), start(t, redis.Addr(), args...)}
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200}}
			defer client.CloseIdleConnections()
			const requests = 200
			answers := make(chan answer, requests)
			key := "k-" + rand.Text()
			for i := range requests {
				go func() {
					a, err := post(context.Background(), client, gateways[i%2].url, key)
					if err != nil {
						t.Error(err)
					}
					answers <- a
				}()
			}
			<-up.began
			var executed, replayed, refused int
			count := func(a answer) {
				switch {
				case a.status == 201 && a.body == "order 1" && a.replayed:
					replayed++
				case a.status == 201 && a.body == "order 1":
					executed++
				case a.status == 409 && a.retryAfter != "" && !waits:
					refused++
				default:
					t.Errorf("answer %+v", a)
				}
			}
			n := 0
			if !waits { // all but one are refused at once
				for ; n < requests-1; n++ {
					count(<-answers)
				}
			}
			close(hold)
			for ; n < requests; n++ {
				count(<-answers)
			}
			t.Logf("%d executed, %d replayed, %d refused", executed, replayed, refused)
			if up.runs.Load() != 1 || executed != 1 || replayed+refused != requests-1 {
				t.Errorf("the upstream saw %d requests; %d executed, %d replayed, %d refused", up.runs.Load(), executed, replayed, refused)
			}
		})
	}
}

// TestKilledGatewayLeavesItsKeyToTheOther kills a gateway with kill -9 while the upstream works.
func TestKilledGatewayLeavesItsKeyToTheOther(t *testing.T) {
	t.Parallel()
	redis := rediscase.Server(t)
	for policy, want := range map[string]answer{
		"run":    {status: 201, body: "order 2"},
		"refuse": {status: 503},
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			hold := make(chan struct{})
			defer close(hold)
			up := newUpstream(t, hold)
			file := filepath.Join(t.TempDir(), "gateway.yaml")
			if err := os.WriteFile(file, []byte("max_hold: 3s\ndefaults: {interrupted: "+policy+"}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			const lease = time.Second
			args := []string{
				"--upstream", up.URL, "--scope", "header:X-Tenant", "--config", file, "--lease", lease.String(),
			}
			first, second := start(t, redis.Addr(), args...), start(t, redis.Addr(), args...)
			key := "k-" + rand.Text()
			failed := make(chan error, 1)
			go func() {
				_, err := post(context.Background(), http.DefaultClient, first.url, key)
				failed <- err
			}()
			<-up.began
			if err := first.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			killed := time.Now()
			if err := <-failed; err == nil {
				t.Fatal("the killed gateway has answered")
			}
			var got answer
			for time.Since(killed) < 20*time.Second {
				if got = mustPost(t, second.url, key); got.status != 409 {
					break
				}
				if got.retryAfter < "1" || got.retryAfter > "3" { // until the lease is over, or max_hold
					t.Errorf("Retry-After is %q", got.retryAfter)
				}
				time.Sleep(20 * time.Millisecond)
			}
			stuck := time.Since(killed)
			t.Logf("the key was free after %v", stuck)
			if got.status != want.status || want.body != "" && got.body != want.body || stuck > lease+5*time.Second { // much less than the default
				t.Errorf("the retry got %+v after %v", got, stuck)
			}
			if policy == "run" {
				if again := mustPost(t, second.url, key); !again.replayed || again.body != want.body || up.attempt.Load() != "2" {
					t.Errorf("the next one got %+v, attempt %v", again, up.attempt.Load())
				}
			} else if up.runs.Load() != 1 {
				t.Errorf("the upstream ran %d requests", up.runs.Load())
			}
		})
	}
}

func TestClientThatLeavesGetsAReplayLater(t *testing.T) {
	t.Parallel()
	redis := rediscase.Server(t)
	hold := make(chan struct{})
	up := newUpstream(t, hold)
	p := start(t, redis.Addr(), "--upstream", up.URL, "--scope", "header:X-Tenant", "--config", waiting(t))
	ctx, leave := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() {
		_, err := post(ctx, http.DefaultClient, p.url, "k")
		failed <- err
	}()
	<-up.began
	leave()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Fatalf("error is %v", err)
	}
	close(hold)
	if got := mustPost(t, p.url, "k"); got.status != 201 || got.body != "order 1" || !got.replayed {
		t.Errorf("the retry got %+v", got)
	}
	if up.runs.Load() != 1 {
		t.Errorf("the upstream ran %d requests", up.runs.Load())
	}
}

func TestGatewayEndsGracefully(t *testing.T) {
	t.Parallel()
	redis := rediscase.Server(t)
	hold := make(chan struct{})
	up := newUpstream(t, hold)
	p := start(t, redis.Addr(), "--upstream", up.URL, "--scope", "header:X-Tenant")
	answers := make(chan answer, 1)
	go func() {
		a, err := post(context.Background(), http.DefaultClient, p.url, "k")
		if err != nil {
			t.Error(err)
		}
		answers <- a
	}()
	<-up.began
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(p.text(), "shutting down"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not shut down: %s", p.text())
		}
	}
	close(hold)
	if got := <-answers; got.status != 201 {
		t.Errorf("the request in flight got %+v", got)
	}
	<-p.ended
	if err := p.Wait(); err != nil {
		t.Errorf("the gateway ended with %v: %s", err, p.text())
	}
	q := start(t, redis.Addr(), "--upstream", up.URL, "--scope", "header:X-Tenant")
	if got := mustPost(t, q.url, "k"); !got.replayed {
		t.Errorf("the retry through another gateway got %+v", got)
	}
}

// TestGatewayStartsBeforeItsRedis serves what needs no Redis, and is not ready until Redis was
// checked.
func TestGatewayStartsBeforeItsRedis(t *testing.T) {
	t.Parallel()
	redis := rediscase.Server(t)
	redis.Kill()
	up := newUpstream(t, nil)
	p := start(t, redis.Addr(), "--upstream", up.URL, "--scope", "header:X-Tenant", "--redis-timeout", "2s")
	if got := mustPost(t, p.url, "k"); got.status != 503 || got.retryAfter == "" {
		t.Errorf("a request with a key got %+v", got)
	}
	if status, _ := get(t, p.url+"/orders"); status != 201 {
		t.Errorf("a request without a key got %d", status)
	}
	if status, text := get(t, p.admin+"/readyz"); status != 503 || !strings.Contains(text, "redis: redisidem: ") {
		t.Errorf("/readyz is %d %s", status, text)
	}
	if err := redis.Restart(); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, p, 200)
	if got := mustPost(t, p.url, "k"); got.status != 201 {
		t.Errorf("a request with a key got %+v", got)
	}
	redis.Kill()
	if status, text := get(t, p.admin+"/readyz"); status != 200 || !strings.Contains(text, "redis: redisidem: ") {
		t.Errorf("/readyz after the end of Redis is %d %s", status, text)
	}
}

// TestGatewayEndsIfItsRedisTurnsOutToBeUnfit has a Redis that starts later and evicts keys.
func TestGatewayEndsIfItsRedisTurnsOutToBeUnfit(t *testing.T) {
	t.Parallel()
	redis := rediscase.Server(t, redistest.Args("--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"))
	redis.Kill()
	up := newUpstream(t, nil)
	p := start(t, redis.Addr(), "--upstream", up.URL, "--scope", "unscoped")
	if err := redis.Restart(); err != nil {
		t.Fatal(err)
	}
	<-p.ended
	if err := p.Wait(); p.ProcessState.ExitCode() != 1 || !strings.Contains(p.text(), "maxmemory-policy") {
		t.Errorf("it ends with %v: %s", err, p.text())
	}
}

// TestDrainingGatewayServesForItsDelay is what a load balancer needs that has not noticed yet.
func TestDrainingGatewayServesForItsDelay(t *testing.T) {
	t.Parallel()
	up := newUpstream(t, nil)
	p := start(t, "", "--upstream", up.URL, "--scope", "unscoped", "--drain-delay", "2s")
	awaitReady(t, p, 200)
	signalled := time.Now()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, p, 503)
	if got := mustPost(t, p.url, "k"); got.status != 201 {
		t.Errorf("a request while it drains got %+v", got)
	}
	<-p.ended
	if err := p.Wait(); err != nil || time.Since(signalled) < 2*time.Second {
		t.Errorf("it ends with %v after %v", err, time.Since(signalled))
	}
}

// awaitReady waits until /readyz has a status.
func awaitReady(t *testing.T, p *process, want int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		status, text := get(t, p.admin+"/readyz")
		if status == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("/readyz is %d %s", status, text)
		}
	}
}

// get reads a page.
func get(t *testing.T, url string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// TestGatewayWithoutARedisSaysSo also shows that it serves all the same.
func TestGatewayWithoutARedisSaysSo(t *testing.T) {
	t.Parallel()
	up := newUpstream(t, nil)
	p := start(t, "", "--upstream", up.URL+"/?token=hidden", "--scope", "unscoped")
	for i := range 2 {
		if got := mustPost(t, p.url, "k"); got.body != "order 1" || got.replayed != (i == 1) {
			t.Errorf("%d: %+v", i, got)
		}
	}
	if status, text := get(t, p.admin+"/readyz"); status != 200 || !strings.Contains(text, "for a trial only") {
		t.Errorf("/readyz is %d %s", status, text)
	}
	if text := p.text(); !strings.Contains(text, "for a trial only") || strings.Contains(text, "hidden") {
		t.Errorf("the log is %s", p.text())
	}
}

// TestGatewayWithoutARedisForgetsKeysInTheEnd is about a key whose retention is over.
func TestGatewayWithoutARedisForgetsKeysInTheEnd(t *testing.T) {
	t.Parallel()
	up := newUpstream(t, nil)
	p := start(t, "", "--upstream", up.URL, "--scope", "unscoped", "--retention", "1s", "--lease", "500ms")
	mustPost(t, p.url, "k")
	for began := time.Now(); mustPost(t, p.url, "k").body == "order 1"; time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatal("the key is still known")
		}
	}
}

// TestS11_WhatAServiceSendsUnaskedIsInNoLog also reads the log of net/http's own.
func TestS11_WhatAServiceSendsUnaskedIsInNoLog(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{}, 1)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		_, _ = io.WriteString(conn, "canary-body")
		_, _ = io.Copy(io.Discard, conn) // until the gateway has seen it, and closes
		_ = conn.Close()
		ended <- struct{}{}
	}))
	t.Cleanup(up.Close)
	p := start(t, "", "--upstream", up.URL, "--scope", "unscoped")
	mustPost(t, p.url, "k")
	<-ended
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.ended
	for line := range strings.Lines(p.text()) {
		if !json.Valid([]byte(line)) || strings.Contains(line, "canary") {
			t.Errorf("the log has %s", line)
		}
	}
}

func TestCommandLinesThatAreRefused(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, words := range map[string]string{
		"gateway":                 "--upstream",
		"extproc --redis memory:": "--scope: ",
		"gateway --upstream ftp://x --scope unscoped":                                                 "http://",
		"gateway --upstream http://u:hidden@x --scope unscoped":                                       "has a user",
		"gateway --upstream http://u:hidden%zz@x --scope unscoped":                                    "http://",
		"gateway --upstream http://x --scope header:Authorization":                                    "--scope: Authorization holds credentials",
		"gateway --upstream http://x --scope jwt:sub":                                                 "--jwt-key",
		"gateway --upstream http://x --scope tenant":                                                  "header:NAME",
		"gateway --upstream http://x --scope certificate":                                             "--tls-client-ca",
		"gateway --upstream http://x --scope jwt:sub --jwt-secret " + secret + " --config none":       "none",
		"gateway --upstream http://x --scope jwt:sub --jwt-key " + secret:                             "PEM",
		"gateway --upstream http://x --scope jwt:sub --jwt-key " + secret + " --jwt-secret " + secret: "together",
		"gateway --upstream http://x --scope header:X-Tenant --jwt-key " + secret:                     "takes no token",
		"gateway --upstream http://x --scope unscoped --jwt-issuer login":                             "takes no token",
		"gateway --upstream http://x --scope unscoped --upstream-key " + secret:                       "go together",
		"gateway --upstream http://x --scope unscoped --upstream-cert " + secret:                      "go together",
		"gateway --upstream http://x --scope unscoped --cors-credentials --redis memory:":             "needs an origin",
		"gateway --upstream http://x --scope unscoped --tls-client-ca " + secret:                      "--tls-cert",
		"gateway --upstream http://x --scope unscoped --upstream-ca " + secret:                        "no PEM",
		"gateway --upstream http://x --scope unscoped --redis memory: --lease 1ns":                    "Config.Lease",
		"gateway --upstream http://x --scope unscoped --scope-keys=-1":                                "--scope-keys: must not be negative: -1",
		"gateway --upstream http://x --scope unscoped --fingerprint-key none":                         "none",
		"gateway --upstream http://x --scope unscoped --redis redis://u:hidden@127.0.0.1:1/x":         "url",
		"gateway --upstream http://x --scope unscoped --redis=":                                       "for a trial without one",
		"gateway --upstream http://x --scope unscoped --redis memory":                                 "scheme",
		"gateway --upstream http://x --scope unscoped":                                                "for a trial without one",
		"gateway --upstream http://x --scope unscoped --ready-without-redis maybe":                    "after-start",
		"keys --redis memory:": "inside the process of a gateway",
		"check --redis redis://u:hidden@127.0.0.1:1 --timeout 100ms": "unavailable",
		"check --redis http://u:hidden@127.0.0.1:1":                  "scheme",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			c := exec.Command(os.Args[0], strings.Fields(line)...) //nolint:gosec // this very binary
			c.Env = append(os.Environ(), program+"=1")
			out, err := c.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != statusFailed && exit.ExitCode() != statusUsage || !strings.Contains(string(out), words) {
				t.Errorf("%v: %s", err, out)
			}
			if strings.Contains(string(out), "hidden") {
				t.Errorf("the password is in the output: %s", out)
			}
		})
	}
}

func TestCheckPrintsItsFindings(t *testing.T) {
	t.Parallel()
	good := rediscase.Server(t, redistest.Args("--appendonly", "yes"))
	evicting := rediscase.Server(t, redistest.Args("--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"))
	for addr, want := range map[string]struct {
		code  int
		words string
	}{good.Addr(): {0, "noeviction"}, evicting.Addr(): {1, "failure"}} {
		c := exec.Command(os.Args[0], "check", "--redis", "redis://"+addr) //nolint:gosec // this very binary
		c.Env = append(os.Environ(), program+"=1")
		out, _ := c.CombinedOutput() // the exit status is looked at
		if c.ProcessState.ExitCode() != want.code || !strings.Contains(string(out), want.words) {
			t.Errorf("status %d: %s", c.ProcessState.ExitCode(), out)
		}
	}
}

// TestCertificateIsTheScope serves by TLS to clients with certificates.
func TestCertificateIsTheScope(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := newAuthority(t)
	ca.write(t, filepath.Join(dir, "ca.pem"), "")
	ca.issue(t, "gateway").write(t, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	up := newUpstream(t, nil)
	p := start(t, rediscase.Server(t).Addr(), "--upstream", up.URL, "--scope", "certificate", "--tls-cert", filepath.Join(dir, "cert.pem"),
		"--tls-key", filepath.Join(dir, "key.pem"), "--tls-client-ca", filepath.Join(dir, "ca.pem"))
	client := func(own ...tls.Certificate) *http.Client {
		pool := x509.NewCertPool()
		pool.AddCert(ca.certificate)
		return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: own, MinVersion: tls.VersionTLS12}}}
	}
	one, two := client(ca.issue(t, "one").pair()), client(ca.issue(t, "two").pair())
	for i, c := range []*http.Client{one, one, two} {
		got, err := post(context.Background(), c, p.url, "k")
		if err != nil {
			t.Fatal(err)
		}
		if want := map[int]string{0: "order 1", 1: "order 1", 2: "order 2"}[i]; got.body != want || got.replayed != (i == 1) {
			t.Errorf("%d: %+v", i, got)
		}
	}
	both := client(ca.issue(t, "one").pair())
	both.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	res, err := both.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.Proto != "HTTP/2.0" {
		t.Errorf("a client that speaks HTTP/2 is answered in %s", res.Proto)
	}
	if _, err := post(context.Background(), client(), p.url, "k"); err == nil {
		t.Error("a client without a certificate is served")
	}
	stranger := newAuthority(t).issue(t, "one")
	if _, err := post(context.Background(), client(stranger.pair()), p.url, "k"); err == nil {
		t.Error("a client with a certificate of another authority is served")
	}
}

// identity is a certificate with its key.
type identity struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *identity {
	t.Helper()
	return (*identity)(nil).sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
}

func (i *identity) issue(t *testing.T, name string) *identity {
	t.Helper()
	return i.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

func (i *identity) sign(t *testing.T, c *x509.Certificate) *identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		t.Fatal(err)
	}
	parent, signer := c, key
	if i != nil {
		parent, signer = i.certificate, i.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &identity{made, key}
}

func (i *identity) pair() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{i.certificate.Raw}, PrivateKey: i.key}
}

func (i *identity) write(t *testing.T, certificate, key string) {
	t.Helper()
	write := func(file, kind string, der []byte) {
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(certificate, "CERTIFICATE", i.certificate.Raw)
	if key != "" {
		der, err := x509.MarshalPKCS8PrivateKey(i.key)
		if err != nil {
			t.Fatal(err)
		}
		write(key, "PRIVATE KEY", der)
	}
}
