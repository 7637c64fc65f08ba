//go:build unix

package gateway

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/internal/tcpproxy"
)

// storyDocument has the output of the story between two lines of three backticks.
const storyDocument = "../../docs/gateway.md"

// story is a card provider without keys of its own, which charges a card for each request that it
// gets, behind two gateways. It prints what a client and an operator see.
type story struct {
	*testing.T
	provider *httptest.Server
	charges  atomic.Int64
	received chan struct{} // gets one for each charge
	release  chan struct{} // each charge that is held receives from it first
	redis    string
	gateways []*process
	client   *http.Client
	screen   bytes.Buffer
}

// storyConfig has a time limit and a lease that are short enough to be watched.
const storyConfig = `
upstream: %s
scope: header:X-Merchant
upstream_timeout: 500ms
lease: 3s
defaults: {key: required}
`

func newStory(t *testing.T) *story {
	t.Helper()
	s := &story{
		T: t, redis: rediscase.Server(t).Addr(), received: make(chan struct{}, 1000), release: make(chan struct{}),
		client: &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}},
	}
	s.provider = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := s.charges.Add(1)
		s.received <- struct{}{}
		if r.URL.Query().Has("held") {
			<-s.release
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprintf(w, `{"charge":%d}`, n)
	}))
	t.Cleanup(s.provider.Close)
	t.Cleanup(func() { close(s.release) }) // before Close, which waits for the requests
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	write(t, file, fmt.Appendf(nil, storyConfig, s.provider.URL))
	for range 2 {
		s.gateways = append(s.gateways, start(t, s.redis, file))
	}
	return s
}

// letGo lets the provider answer the charge that it holds.
func (s *story) letGo() { s.release <- struct{}{} }

func (s *story) say(format string, args ...any) { fmt.Fprintf(&s.screen, format+"\n", args...) }

// seen is an answer as a client sees it.
type seen struct {
	status int
	text   string
}

// post sends a charge, and describes the answer.
func (s *story) post(url, path, key string) seen {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url+path, strings.NewReader(`{"amount":100}`))
	if err != nil {
		s.Error(err)
		return seen{}
	}
	r.Header.Set("Idempotency-Key", fmt.Sprintf("%q", key))
	r.Header.Set("X-Merchant", "acme")
	res, err := s.client.Do(r)
	if err != nil {
		return seen{text: "the connection broke, no answer"}
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return seen{text: "the connection broke, no answer"}
	}
	text := fmt.Sprint(res.StatusCode)
	if problem := res.Header.Get("Idempotency-Problem"); problem != "" {
		text += " #" + problem
	} else {
		text += " " + string(body)
	}
	for _, name := range []string{"Retry-After", "Idempotency-Replayed"} {
		if value := res.Header.Get(name); value != "" {
			text += fmt.Sprintf("   %s: %s", name, value)
		}
	}
	return seen{res.StatusCode, text}
}

// shows sends a charge until the answer has a status, and writes a line about that answer.
func (s *story) shows(label, url, path, key string, status int) {
	s.Helper()
	var got seen
	until(s, fmt.Sprintf("%s is answered with %d", label, status), func() bool {
		got = s.post(url, path, key)
		return got.status == status || status == 0
	})
	if got.status != status {
		s.Errorf("%s: %+v", label, got)
	}
	s.say("  %-22s %s", label, got.text)
}

// charged writes how many charges there were for a scene.
func (s *story) charged(before int64) {
	s.Helper()
	n := s.charges.Load() - before
	if n != 1 {
		s.Errorf("there were %d charges", n)
	}
	s.say("  charges: %d\n", n)
}

// operator runs a command of redisidem, and writes it with its output.
func (s *story) operator(args ...string) {
	s.Helper()
	s.say("  $ redisidem %s", quoted(args))
	file, err := program()
	if err != nil {
		s.Fatal(err)
	}
	cmd := exec.CommandContext(s.Context(), file, args...) //nolint:gosec // built by this test
	cmd.Env = append(os.Environ(), "REDIS_URL=redis://"+s.redis, "REDISIDEM_ACTOR=ann")
	cmd.Stdin = strings.NewReader(`{"charge":4}`)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.Fatalf("%v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		s.say("  %s", strings.TrimRight(line, " \n"))
	}
}

func quoted(args []string) string {
	for i, a := range args {
		if strings.Contains(a, " ") {
			args[i] = fmt.Sprintf("%q", a)
		}
	}
	return strings.Join(args, " ")
}

// TestChargeStory shows what becomes of a charge when things go wrong, and that docs/gateway.md has
// the same.
//
//	go test -count=1 -v -run ChargeStory ./test/gateway
func TestChargeStory(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	a, b := s.gateways[0], s.gateways[1]

	s.say("1. The provider is slower than the time limit of 500 ms.")
	s.shows("first request", a.url, "/charges?held", "slow", http.StatusGatewayTimeout)
	s.shows("retry", b.url, "/charges?held", "slow", http.StatusConflict)
	s.letGo()
	s.shows("retry, later", b.url, "/charges?held", "slow", http.StatusCreated)
	s.charged(0)

	s.say("2. The answer is lost on its way to the client.")
	proxy := tcpproxy.Start(t, strings.TrimPrefix(a.url, "http://"))
	proxy.Lose(1)
	s.shows("first request", "http://"+proxy.Addr(), "/charges", "lost", 0)
	s.shows("retry", b.url, "/charges", "lost", http.StatusCreated)
	s.charged(1)

	s.say("3. 200 retries arrive at once, at two gateways.")
	s.storm("storm")
	s.charged(2)

	s.say("4. A gateway is killed while the provider works. The provider has no keys of its own.")
	for len(s.received) > 0 {
		<-s.received
	}
	first := make(chan seen, 1)
	go func() { first <- s.post(a.url, "/charges?held", "killed") }()
	<-s.received
	a.signal(t, syscall.SIGKILL)
	s.say("  %-22s %s", "first request", (<-first).text)
	s.shows("retry", b.url, "/charges?held", "killed", http.StatusConflict)
	s.shows("retry, later", b.url, "/charges?held", "killed", http.StatusServiceUnavailable)
	s.letGo()
	s.say("  The operator finds the charge in the books of the provider, and gives the key its answer:")
	s.operator("keys", "list", "--state", "interrupted", "--scope", "acme")
	s.operator("keys", "resolve", "--scope", "acme", "killed", "--status", "201", "--body", "-", "--reason", "the provider has charge 4", "--yes")
	s.shows("retry", b.url, "/charges?held", "killed", http.StatusCreated)
	s.charged(3)

	t.Logf("the story:\n%s", &s.screen)
	s.compare()
}

// storm sends 200 requests with one key, and writes how they were answered. Those that were refused
// are sent again.
func (s *story) storm(key string) {
	s.Helper()
	const requests = 200
	var mu sync.Mutex
	count := make(map[string]int)
	var all sync.WaitGroup
	for i := range requests {
		all.Go(func() {
			for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
				got := s.post(s.gateways[i%2].url, "/charges", key)
				if got.status == http.StatusConflict {
					continue
				}
				mu.Lock()
				count[got.text]++
				mu.Unlock()
				return
			}
			s.Error("a request of the storm got no final answer")
		})
	}
	all.Wait()
	plain, replayed := `201 {"charge":3}`, `201 {"charge":3}   Idempotency-Replayed: true`
	if count[plain] != 1 || count[replayed] != requests-1 {
		s.Errorf("the storm got %v", count)
	}
	s.say("  %-22s %s", "1 request", plain)
	s.say("  %-22s %s", fmt.Sprintf("%d requests", count[replayed]), replayed)
}

// times are what differs between two runs.
var times = regexp.MustCompile(`[0-9.]+(ms|s|µs)\b`)

// compare fails the test unless the document has the story.
func (s *story) compare() {
	s.Helper()
	text, err := os.ReadFile(storyDocument)
	if err != nil {
		s.Fatal(err)
	}
	plain := func(text string) string { return strings.TrimSpace(times.ReplaceAllString(text, "TIME")) }
	_, rest, _ := strings.Cut(string(text), "```text\n")
	there, _, _ := strings.Cut(rest, "```")
	if plain(there) != plain(s.screen.String()) {
		s.Errorf("%s has another story: %s", storyDocument, cmp.Or(there, "none"))
	}
}
