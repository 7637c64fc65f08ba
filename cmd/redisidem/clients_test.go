package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/nodetest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/internal/tcpproxy"
)

// clientsCase is a stock client of JavaScript in front of a gateway. The proxy between them loses
// answers.
type clientsCase struct {
	*testing.T
	gateway *process
	proxy   *tcpproxy.Proxy
	client  *nodetest.Client
	received,
	release chan struct{} // for requests whose path contains "held"

	mu   sync.Mutex
	runs map[string]int // by path
}

func newClientsCase(t *testing.T, routes, folder string, args ...string) *clientsCase {
	t.Helper()
	c := &clientsCase{T: t, runs: make(map[string]int), received: make(chan struct{}, 100), release: make(chan struct{})}
	up := httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(up.Close)
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(file, []byte(routes), 0o600); err != nil {
		t.Fatal(err)
	}
	c.gateway = start(t, rediscase.Server(t).Addr(), "--upstream", up.URL, "--scope", "unscoped", "--config", file)
	c.proxy = tcpproxy.Start(t, strings.TrimPrefix(c.gateway.url, "http://"))
	c.client = nodetest.Start(t, folder, append([]string{"http://" + c.proxy.Addr()}, args...)...)
	return c
}

// serve counts a request. The answer of the first one on a path that contains "broken" breaks off.
func (c *clientsCase) serve(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.runs[r.URL.Path]++
	n := c.runs[r.URL.Path]
	c.mu.Unlock()
	switch {
	case strings.Contains(r.URL.Path, "held"):
		c.received <- struct{}{}
		<-c.release
	case strings.Contains(r.URL.Path, "broken") && n == 1:
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]any{"run": n, "type": "order"})
}

func (c *clientsCase) ran(path string, times int) {
	c.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.runs[path] != times {
		c.Errorf("%s ran %d times, want %d", path, c.runs[path], times)
	}
}

// axiosCall is a POST of axios with axios-retry.
type axiosCall struct {
	Path    string `json:"path"`
	Key     string `json:"key"`
	Retries int    `json:"retries"`
}

// axiosAnswer is what became of it.
type axiosAnswer struct {
	Status   int    `json:"status"` // 0 if there was no answer
	Run      int    `json:"run"`
	Replayed bool   `json:"replayed"`
	Problem  string `json:"problem"`
	Retries  int    `json:"retries"` // that were sent
	Error    string `json:"error"`
}

// TestAxiosRetriesOnceTheWorkIsDone uses axios with axios-retry, which repeats a POST after network
// errors, 409, 429 and 5xx.
func TestAxiosRetriesOnceTheWorkIsDone(t *testing.T) {
	t.Parallel()
	c := newClientsCase(t, "routes: [{match: /runs/, interrupted: run}]", "testdata/axios-retry")
	call := func(path string, retries, lost int) (a axiosAnswer) {
		t.Helper()
		c.proxy.Lose(lost)
		if err := c.client.Call(axiosCall{path, `"` + path + `"`, retries}, &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	want := func(got, want axiosAnswer) {
		t.Helper()
		if got != want {
			t.Errorf("the client got %+v, want %+v", got, want)
		}
	}
	want(call("/fine", 3, 0), axiosAnswer{Status: 201, Run: 1})
	want(call("/lost", 3, 2), axiosAnswer{Status: 201, Run: 1, Replayed: true, Retries: 2})
	c.ran("/lost", 1)

	want(call("/given-up", 1, 2), axiosAnswer{Error: "ECONNRESET", Retries: 1})
	want(call("/given-up", 1, 0), axiosAnswer{Status: 201, Run: 1, Replayed: true})
	c.ran("/given-up", 1)

	want(call("/runs/broken", 3, 0), axiosAnswer{Status: 201, Run: 2, Retries: 1})
	got := call("/broken", 1, 0) // it waits for the time that Retry-After says
	want(got, axiosAnswer{Status: 503, Problem: "outcome-unknown", Retries: 1})
	c.ran("/broken", 1)
}

// TestAxiosWaitsForTheRequestInFlight breaks the connection while the service works. The retry is
// refused with 409, and a later one gets the answer.
func TestAxiosWaitsForTheRequestInFlight(t *testing.T) {
	t.Parallel()
	c := newClientsCase(t, "", "testdata/axios-retry")
	go func() {
		<-c.received
		c.proxy.Cut()
		refused := func() bool { return strings.Contains(c.gateway.text(), `"result":"in-flight"`) }
		for deadline := time.Now().Add(20 * time.Second); !refused() && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
		}
		close(c.release)
	}()
	var got axiosAnswer
	if err := c.client.Call(axiosCall{"/held", "held", 9}, &got); err != nil {
		t.Fatal(err)
	}
	if got.Status != http.StatusCreated || got.Run != 1 || !got.Replayed || got.Retries < 2 {
		t.Errorf("the client got %+v", got)
	}
	c.ran("/held", 1)
}

// TestMedusaClientThroughTheGateway uses the client of storefronts, which sends a fresh key with
// each call and the same one with its retries.
func TestMedusaClientThroughTheGateway(t *testing.T) {
	t.Parallel()
	c := newClientsCase(t, "defaults: {key: required}", "testdata/medusa-js", "3")
	for n, lost := range []int{0, 1, 2} { // each call has a key of its own
		c.proxy.Lose(lost)
		var a struct {
			Status int               `json:"status"`
			Value  struct{ Run int } `json:"value"`
		}
		if err := c.client.Call(map[string]any{"method": "carts.complete", "args": []any{"cart_1"}}, &a); err != nil {
			t.Fatal(err)
		}
		if a.Status != http.StatusCreated || a.Value.Run != n+1 {
			t.Errorf("call %d: the client got %+v", n, a)
		}
	}
	c.ran("/store/carts/cart_1/complete", 3)
}
