package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/configfile"
	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/redisidem"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	leak.Main(m)
}

// quiet keeps go-redis from writing about servers that tests end on purpose.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// bench is a gateway between a client and an upstream.
type bench struct {
	*testing.T
	addr     string               // of Redis
	redis    *miniredis.Miniredis // nil if the test has brought its own
	service  *redisidem.Service
	metrics  *Metrics
	config   Config
	gateway  *Gateway
	server   *httptest.Server
	admin    *httptest.Server
	log      *buffer
	upstream atomic.Pointer[http.HandlerFunc]
	runs     atomic.Int64
	traces   trace.TracerProvider // nil if the test does not trace
}

// buffer is a log that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// reset empties the log.
func (b *buffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b.Reset()
}

// setUp makes a gateway with the routes of a configuration file. The upstream counts what it runs,
// and answers with the number.
func setUp(t *testing.T, routes string, identify Identify, change ...func(*redisidem.Config)) *bench {
	t.Helper()
	return setUpAt(t, "", routes, identify, change...)
}

// setUpAt is setUp with a Redis of the test's own, if it has one.
func setUpAt(t *testing.T, redis, routes string, identify Identify, change ...func(*redisidem.Config)) *bench {
	t.Helper()
	b := &bench{T: t, addr: redis}
	b.answer(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "order %d", b.runs.Load())
	})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.runs.Add(1)
		(*b.upstream.Load())(w, r)
	}))
	t.Cleanup(up.Close)
	b.serve(&Upstream{URL: parse(t, up.URL), Timeout: 5 * time.Second}, routes, identify, change...)
	return b
}

// serve starts the gateway in front of an upstream.
func (b *bench) serve(upstream *Upstream, routes string, identify Identify, change ...func(*redisidem.Config)) {
	b.Helper()
	b.metrics, b.log = NewMetrics(), &buffer{}
	if b.addr == "" {
		b.redis = miniredis.RunT(b.T)
		b.addr = b.redis.Addr()
	}
	cfg := &redisidem.Config{Observer: b.metrics, Timeout: 5 * time.Second} // the machine may be busy
	for _, f := range change {
		f(cfg)
	}
	var err error
	if b.service, err = redisidem.OpenUnchecked("redis://"+b.addr, cfg); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := b.service.Close(ctx); err != nil {
			b.Error(err)
		}
	})
	rules, err := readRoutes(routes)
	if err != nil {
		b.Fatal(err)
	}
	b.config = Config{
		Service: b.service, Upstream: upstream, Policies: rules, Identify: identify,
		Metrics: b.metrics, Log: slog.New(TraceLog{slog.NewJSONHandler(b.log, nil)}), Challenge: "Bearer", Traces: b.traces,
	}
	b.gateway, err = New(b.config)
	if err != nil {
		b.Fatal(err)
	}
	b.gateway.RedisUsable()
	b.server = httptest.NewServer(b.gateway.Handler())
	b.admin = httptest.NewServer(b.gateway.Admin())
	b.Cleanup(b.gateway.Close)
	b.Cleanup(b.server.Close)
	b.Cleanup(b.admin.Close)
}

// reload gives the gateway its configuration anew.
func (b *bench) reload() {
	b.Helper()
	if err := b.gateway.Reload(b.config); err != nil {
		b.Fatal(err)
	}
}

// readRoutes reads the routes of a configuration file with this text.
func readRoutes(text string) (*Policies, error) {
	f, err := configfile.Parse("gateway.yaml", []byte(text))
	if err != nil {
		return nil, err
	}
	r := &Policies{}
	if err := f.Decode(r); err != nil {
		return nil, err
	}
	return r, f.Locate(r.Complete())
}

func parse(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (b *bench) answer(h http.HandlerFunc) { b.upstream.Store(&h) }

// answered is an answer that was read.
type answered struct {
	status  int
	body    string
	header  http.Header
	trailer http.Header
	closes  bool // the connection
}

// send sends a request; pairs are header fields.
func (b *bench) send(method, path, body string, pairs ...string) answered {
	b.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, b.server.URL+path, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		r.Header.Add(pairs[i], pairs[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.Fatal(err)
	}
	return answered{res.StatusCode, string(text), res.Header, res.Trailer, res.Close}
}

func (b *bench) want(got answered, status int, body string, replayed bool) {
	b.Helper()
	if got.status != status || !strings.Contains(got.body, body) || (got.header.Get("Idempotency-Replayed") == "true") != replayed {
		b.Errorf("answer %d %q %v, want %d %q, replayed %v", got.status, got.body, got.header, status, body, replayed)
	}
}

// fromTenant takes the scope from the field X-Tenant.
func fromTenant(t *testing.T) Identify {
	t.Helper()
	identify, err := FromHeader("X-Tenant", nil)
	if err != nil {
		t.Fatal(err)
	}
	return identify
}

func (b *bench) scrape() string {
	b.Helper()
	_, text := b.operator("/metrics")
	return text
}

// operator reads a page of the admin listener.
func (b *bench) operator(path string) (status int, text string) {
	b.Helper()
	res, err := b.admin.Client().Get(b.admin.URL + path) //nolint:noctx // a test
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// id returns the digest of a key of a caller without a scope.
func (b *bench) id(key string) string {
	b.Helper()
	scope, err := Unscoped(nil)
	if err != nil {
		b.Fatal(err)
	}
	return b.service.Scope(scope).ID(key)
}

// logs waits until the log has a text.
func (b *bench) logs(text string) {
	b.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(b.log.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("%s is not in the log: %s", text, b.log.String())
		}
	}
}
