package gateway

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/golang-jwt/jwt/v5"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
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
	gateway  *Gateway
	server   *httptest.Server
	admin    *httptest.Server
	log      *buffer
	upstream atomic.Pointer[http.HandlerFunc]
	runs     atomic.Int64
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

// setUp makes a gateway with a routes file. The upstream counts what it runs, and answers with the
// number.
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
	cfg := &redisidem.Config{Observer: b.metrics}
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
	rules, err := ReadRoutes(writeFile(b.T, "routes.yaml", routes))
	if err != nil {
		b.Fatal(err)
	}
	b.gateway, err = New(Config{
		Service: b.service, Upstream: upstream, Routes: rules, Identify: identify,
		Metrics: b.metrics, Log: slog.New(slog.NewJSONHandler(b.log, nil)), Challenge: "Bearer",
	})
	if err != nil {
		b.Fatal(err)
	}
	b.server = httptest.NewServer(b.gateway.Handler())
	b.admin = httptest.NewServer(b.gateway.Admin())
	b.Cleanup(b.gateway.Close)
	b.Cleanup(b.server.Close)
	b.Cleanup(b.admin.Close)
}

func parse(t *testing.T, text string) *url.URL {
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
	status int
	body   string
	header http.Header
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
	return answered{res.StatusCode, string(text), res.Header}
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
	identify, err := FromHeader("X-Tenant")
	if err != nil {
		t.Fatal(err)
	}
	return identify
}

func TestScopeFieldMustIdentifyACaller(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"Authorization", "authorization", "Proxy-Authorization", "Cookie", "Idempotency-Key", "Host", "Connection", "Content-Length",
		"X Tenant", "X-Tenant:", "", "X-Ténant",
	} {
		if _, err := FromHeader(name); err == nil {
			t.Errorf("%q is accepted", name)
		}
	}
}

func TestGatewayReplays(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", fromTenant(t))
	for i := range 3 {
		b.want(b.send("POST", "/orders?a=1", "book", "Idempotency-Key", "k", "X-Tenant", "acme"), 201, "order 1", i > 0)
	}
	b.want(b.send("POST", "/orders?a=1", "book", "Idempotency-Key", "k", "X-Tenant", "other"), 201, "order 2", false)
	b.want(b.send("POST", "/orders?a=2", "book", "Idempotency-Key", "k", "X-Tenant", "acme"), 422, "already used", false)
	b.want(b.send("POST", "/orders", "book"), 201, "order 3", false) // no key, and none is required
	b.want(b.send("GET", "/orders", "", "Idempotency-Key", "k"), 201, "order 4", false)
	b.want(b.send("POST", "/orders", "book", "Idempotency-Key", "k"), 401, "not known", false)
	b.want(b.send("POST", "/orders", "book", "Idempotency-Key", "k", "X-Tenant", "a", "X-Tenant", "b"), 401, "not known", false)
}

func TestUpstreamGetsAttemptAndFence(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", Unscoped)
	var seen []http.Header
	status := http.StatusInternalServerError
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Clone())
		w.WriteHeader(status)
	})
	forged := []string{"Idempotency-Key", "k", "Idempotency-Attempt", "77", "Idempotency-Fence", "88"}
	b.want(b.send("POST", "/", "", forged...), 500, "", false)
	status = http.StatusCreated
	b.want(b.send("POST", "/", "", forged...), 201, "", false)
	if len(seen) != 2 || seen[0].Get("Idempotency-Attempt") != "1" || seen[1].Get("Idempotency-Attempt") != "2" ||
		seen[0].Get("Idempotency-Fence") >= seen[1].Get("Idempotency-Fence") || seen[0].Get("Idempotency-Key") != "k" ||
		seen[0].Get("X-Forwarded-For") == "" {
		t.Errorf("the upstream saw %v", seen)
	}
	b.send("GET", "/", "", forged...)
	if seen[2].Get("Idempotency-Attempt") != "" || seen[2].Get("Idempotency-Fence") != "" {
		t.Errorf("forged fields reach the upstream: %v", seen[2])
	}
}

func TestGatewayRoutesHaveTheirPolicies(t *testing.T) {
	t.Parallel()
	b := setUp(t, `
defaults: {key: required}
routes:
  - {match: POST /all, keep: all}
  - {match: /public/, protect: false}
  - {match: POST /fields, fingerprint: [amount]}
  - {match: POST /small, max_body: 10}
  - {match: PUT /put, methods: [PUT]}
`, Unscoped)
	b.want(b.send("POST", "/", ""), 400, "missing", false)
	b.want(b.send("POST", "/public/x", ""), 201, "order 1", false)
	b.want(b.send("POST", "/public/x", "", "Idempotency-Key", "p"), 201, "order 2", false)
	b.want(b.send("POST", "/public/x", "", "Idempotency-Key", "p"), 201, "order 3", false)
	b.want(b.send("POST", "/fields", `{"amount": 1, "sent": 1}`, "Idempotency-Key", "f"), 201, "order 4", false)
	b.want(b.send("POST", "/fields", `{"sent": 2, "amount": 1}`, "Idempotency-Key", "f"), 201, "order 4", true)
	b.want(b.send("POST", "/fields", `{"amount": 2, "sent": 1}`, "Idempotency-Key", "f"), 422, "", false)
	b.want(b.send("POST", "/small", "0123456789x", "Idempotency-Key", "s"), 413, "", false)
	b.want(b.send("PUT", "/put", "", "Idempotency-Key", "u"), 201, "order 5", false)
	b.want(b.send("PUT", "/put", "", "Idempotency-Key", "u"), 201, "order 5", true)
	b.answer(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = fmt.Fprint(w, b.runs.Load())
	})
	b.want(b.send("POST", "/all", "", "Idempotency-Key", "a"), 500, "6", false)
	b.want(b.send("POST", "/all", "", "Idempotency-Key", "a"), 500, "6", true)
	b.want(b.send("POST", "/", "", "Idempotency-Key", "a2"), 500, "7", false)
	b.want(b.send("POST", "/", "", "Idempotency-Key", "a2"), 500, "8", false)
}

func TestInterruptedRequestsGoTheWayOfTheirPolicy(t *testing.T) {
	t.Parallel()
	b := setUp(t, `
routes:
  - {match: POST /run}
  - {match: POST /refuse, interrupted: refuse}
  - {match: POST /ask, interrupted: ask, ask: "/by-key/{key}"}
`, Unscoped)
	for _, path := range []string{"/run", "/refuse", "/ask"} {
		var asked []string
		b.answer(func(w http.ResponseWriter, _ *http.Request) {
			panic(http.ErrAbortHandler) // the upstream breaks off: the outcome is unknown
		})
		b.want(b.send("POST", path, "body", "Idempotency-Key", "k 1"), 400, "", false) // a key that needs quotes
		b.want(b.send("POST", path, "body", "Idempotency-Key", `"k/ 1`+path+`"`), 502, "no answer", false)
		found := http.StatusServiceUnavailable
		b.answer(func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.Method+" "+r.URL.EscapedPath())
			if r.Method == http.MethodGet {
				w.WriteHeader(found)
				_, _ = fmt.Fprint(w, "as it was")
				return
			}
			w.WriteHeader(http.StatusCreated)
			_, _ = fmt.Fprint(w, "done now")
		})
		again := func() answered { return b.send("POST", path, "body", "Idempotency-Key", `"k/ 1`+path+`"`) }
		switch path {
		case "/run":
			b.want(again(), 201, "done now", false)
			b.want(again(), 201, "done now", true)
		case "/refuse":
			for range 3 {
				b.want(again(), 503, "outcome of the request is unknown", false)
			}
			if len(asked) != 0 {
				t.Errorf("the upstream was asked: %q", asked)
			}
		case "/ask":
			b.want(again(), 503, "outcome of the request is unknown", false)
			found = http.StatusOK
			b.want(again(), 200, "as it was", false)
			b.want(again(), 200, "as it was", true)
			if want := "GET /by-key/k%2F%201%2Fask"; len(asked) != 2 || asked[0] != want || asked[1] != want {
				t.Errorf("asked %q, want %q", asked, want)
			}
		}
	}
	// A key that would be another path.
	b.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	b.want(b.send("POST", "/ask", "the body", "Idempotency-Key", ".."), 502, "", false)
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the upstream is asked for %s %s", r.Method, r.URL)
	})
	b.want(b.send("POST", "/ask", "the body", "Idempotency-Key", ".."), 503, "outcome of the request is unknown", false)
	// The upstream says that it has not done it.
	b.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	b.want(b.send("POST", "/ask", "the body", "Idempotency-Key", "k2"), 502, "", false)
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "sent again: %s", body)
	})
	b.want(b.send("POST", "/ask", "the body", "Idempotency-Key", "k2"), 200, "sent again: the body", false)
}

// TestUpstreamThatCannotBeReachedIsNoAttempt is about requests that were never sent: nothing about
// them is unknown, so that the next one is a first attempt, whatever the policy for interrupted
// ones.
func TestUpstreamThatCannotBeReachedIsNoAttempt(t *testing.T) {
	t.Parallel()
	b := setUp(t, "{routes: [{match: /refuse, interrupted: refuse}, {match: /all, keep: all, interrupted: refuse}]}", Unscoped)
	reached := b.gateway.transport.DialContext
	unreachable := func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	for i, path := range []string{"/run", "/refuse", "/all"} {
		b.gateway.transport.CloseIdleConnections()
		b.gateway.transport.DialContext = unreachable
		for range 2 {
			a := b.send("POST", path, "body", "Idempotency-Key", "k"+path[1:])
			b.want(a, 503, "was not sent", false)
			if a.header.Get("Retry-After") != "1" || a.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%v", a.header)
			}
		}
		b.gateway.transport.DialContext = reached
		b.answer(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Idempotency-Attempt") != "1" {
				t.Errorf("attempt %s", r.Header.Get("Idempotency-Attempt"))
			}
			w.WriteHeader(http.StatusCreated)
		})
		b.want(b.send("POST", path, "body", "Idempotency-Key", "k"+path[1:]), 201, "", false)
		b.want(b.send("POST", path, "body", "Idempotency-Key", "k"+path[1:]), 201, "", true)
		if n := b.runs.Load(); n != int64(i+1) {
			t.Errorf("the upstream got %d requests", n)
		}
	}
	if text := b.log.String(); !strings.Contains(text, `"sent":false`) || strings.Contains(text, "krefuse") {
		t.Error(text)
	}
	// Interrupted before, and out of reach now: it is still not known what the first attempt did.
	b.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	b.want(b.send("POST", "/refuse", "", "Idempotency-Key", "k2"), 502, "", false)
	b.want(b.send("POST", "/refuse", "", "Idempotency-Key", "k2"), 503, "outcome of the request is unknown", false)
}

// TestRefusalsOfTheUpstreamAreNoAttempts is about answers that say that nothing was done.
func TestRefusalsOfTheUpstreamAreNoAttempts(t *testing.T) {
	t.Parallel()
	b := setUp(t, `
routes:
  - {match: /refuse, interrupted: refuse}
  - {match: /all, interrupted: refuse, keep: all}
  - {match: /list, interrupted: refuse, keep: [2xx, 404, 422]}
`, Unscoped)
	var status atomic.Int64
	var retryAfter atomic.Bool
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		if retryAfter.Load() {
			w.Header().Set("Retry-After", "1")
		}
		if n := r.Header.Get("Idempotency-Attempt"); n != "1" {
			t.Errorf("attempt %s", n)
		}
		w.WriteHeader(int(status.Load()))
	})
	for _, code := range []int{401, 403, 408, 423, 425, 429} {
		status.Store(int64(code))
		final := code != 423 && code != 425
		b.want(b.send("POST", "/refuse", "", "Idempotency-Key", "k"), code, "", false)
		b.want(b.send("POST", "/all", "", "Idempotency-Key", strconv.Itoa(code)), code, "", false)
		b.want(b.send("POST", "/all", "", "Idempotency-Key", strconv.Itoa(code)), code, "", final)
	}
	// So do those that are not kept because they ask for another try, or because of the route's own
	// list.
	retryAfter.Store(true)
	for _, code := range []int{404, 409, 424, 429} {
		status.Store(int64(code))
		for _, path := range []string{"/refuse", "/all", "/list"} {
			b.want(b.send("POST", path, "", "Idempotency-Key", "k"+path[1:]), code, "", false)
			b.want(b.send("POST", path, "", "Idempotency-Key", "k"+path[1:]), code, "", false)
		}
	}
	retryAfter.Store(false)
	status.Store(409)
	b.want(b.send("POST", "/list", "", "Idempotency-Key", "klist"), 409, "", false)
	b.want(b.send("POST", "/list", "", "Idempotency-Key", "klist"), 409, "", false)
	status.Store(422)
	b.want(b.send("POST", "/list", "", "Idempotency-Key", "klist"), 422, "", false)
	b.want(b.send("POST", "/list", "", "Idempotency-Key", "klist"), 422, "", true)
	status.Store(500)
	b.want(b.send("POST", "/refuse", "", "Idempotency-Key", "k"), 500, "", false)
	b.want(b.send("POST", "/refuse", "", "Idempotency-Key", "k"), 503, "outcome of the request is unknown", false)
}

// TestUpstreamThatIsStillAtWorkIsAskedAgain is about an upstream that is itself idempotent: the
// gateway gives up on its first answer, and the next attempts find the first one still at work.
func TestUpstreamThatIsStillAtWorkIsAskedAgain(t *testing.T) {
	t.Parallel()
	for _, keep := range []string{"final", "all", "[2xx, 409]"} {
		t.Run(keep, func(t *testing.T) {
			t.Parallel()
			b := setUp(t, "defaults: {keep: "+keep+"}", Unscoped)
			b.answer(func(w http.ResponseWriter, r *http.Request) {
				if attempt := r.Header.Get("Idempotency-Attempt"); (attempt == "1") != (b.runs.Load() == 1) {
					t.Errorf("request %d is attempt %s", b.runs.Load(), attempt)
				}
				switch b.runs.Load() {
				case 1:
					panic(http.ErrAbortHandler)
				case 2, 3:
					http.Error(w, "still at work", http.StatusConflict)
				default:
					_, _ = io.WriteString(w, "charged")
				}
			})
			for _, want := range []int{502, 409, 409, 200} {
				b.want(b.send("POST", "/", "", "Idempotency-Key", "k"), want, "", false)
			}
			b.want(b.send("POST", "/", "", "Idempotency-Key", "k"), 200, "charged", true)
			// A conflict with something else is an answer.
			b.runs.Store(0)
			b.answer(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such stock", http.StatusConflict) })
			b.want(b.send("POST", "/", "", "Idempotency-Key", "k2"), 409, "", false)
			b.want(b.send("POST", "/", "", "Idempotency-Key", "k2"), 409, "no such stock", true)
		})
	}
}

// TestGatewayInFrontOfAServiceWithKeys is about two that share a Redis: each has its records in a
// namespace of its own.
func TestGatewayInFrontOfAServiceWithKeys(t *testing.T) {
	t.Parallel()
	for _, keep := range []string{"final", "all"} {
		t.Run(keep, func(t *testing.T) {
			t.Parallel()
			b := setUp(t, "defaults: {keep: "+keep+"}", Unscoped, func(c *redisidem.Config) { c.Namespace = "gateway" })
			service, err := redisidem.OpenUnchecked("redis://"+b.redis.Addr(), &redisidem.Config{Namespace: "service"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := service.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
			var executed atomic.Int64
			m, err := httpidem.New(service, httpidem.Unscoped, &httpidem.Config{Observer: func(_ context.Context, e httpidem.Event) {
				if e.Result == httpidem.ResultExecuted {
					executed.Add(1)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			work := make(chan struct{})
			charges := atomic.Int64{}
			charge := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				charges.Add(1)
				<-work
				_, _ = fmt.Fprint(w, "charge ", charges.Load())
			}))
			done := make(chan struct{})
			b.answer(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Idempotency-Attempt") != "1" {
					charge.ServeHTTP(w, r)
					return
				}
				// The first attempt's connection breaks while the service goes on with it.
				began := executed.Load()
				go func() {
					defer close(done)
					charge.ServeHTTP(httptest.NewRecorder(), r.Clone(context.WithoutCancel(r.Context())))
				}()
				for charges.Load() == 0 && executed.Load() == began {
					time.Sleep(time.Millisecond)
				}
				panic(http.ErrAbortHandler)
			})
			b.want(b.send("POST", "/", "", "Idempotency-Key", "k"), 502, "", false)
			for range 2 { // the service's own refusal is given, and asked for again
				a := b.send("POST", "/", "", "Idempotency-Key", "k")
				b.want(a, 409, "outstanding", false)
				if a.header.Get("Idempotency-Problem") != "in-flight" || a.header.Get("Retry-After") == "" {
					t.Errorf("%v", a.header)
				}
			}
			b.want(b.send("POST", "/", "other", "Idempotency-Key", "k"), 422, "", false)
			close(work)
			<-done
			b.want(b.send("POST", "/", "", "Idempotency-Key", "k"), 200, "charge 1", false)
			b.want(b.send("POST", "/", "", "Idempotency-Key", "k"), 200, "charge 1", true)
			if n := charges.Load(); n != 1 {
				t.Errorf("%d charges", n)
			}
		})
	}
}

// TestAnswersOfTheGatewaysOwnAreNeverKept is about keep: all, which keeps whatever the upstream
// answers.
func TestAnswersOfTheGatewaysOwnAreNeverKept(t *testing.T) {
	t.Parallel()
	b := setUp(t, `
defaults: {keep: all}
routes:
  - {match: POST /run}
  - {match: POST /refuse, interrupted: refuse}
  - {match: POST /ask, interrupted: ask, ask: "/by-key/{key}"}
`, Unscoped)
	silent := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for _, path := range []string{"/run", "/refuse", "/ask"} {
		send := func() answered { return b.send("POST", path, "", "Idempotency-Key", "k"+path[1:]) }
		b.answer(silent)
		first := send()
		b.want(first, 502, `"status":502`, false)
		if first.header.Get("Content-Type") != "application/problem+json" || first.header.Get("Idempotency-Problem") == "" {
			t.Errorf("a problem with %v", first.header)
		}
		b.answer(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(w, r.Method, r.Header.Get("Idempotency-Attempt"))
		})
		switch path {
		case "/run":
			b.want(send(), 200, "POST2", false)
			b.want(send(), 200, "POST2", true)
		case "/refuse":
			b.want(send(), 503, "outcome of the request is unknown", false)
			b.want(send(), 503, "outcome of the request is unknown", false)
		case "/ask":
			b.answer(silent)
			b.want(send(), 503, "outcome of the request is unknown", false)
			b.want(send(), 503, "outcome of the request is unknown", false)
			b.answer(func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, r.Method) })
			b.want(send(), 200, "GET", false)
			b.want(send(), 200, "GET", true)
		}
	}
	// What the upstream answers is kept, whatever it is, unless it is no status at all.
	for _, status := range []int{500, 502, 503, 504, 599} {
		b.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		b.want(b.send("POST", "/", "", "Idempotency-Key", strconv.Itoa(status)), status, "", false)
		b.want(b.send("POST", "/", "", "Idempotency-Key", strconv.Itoa(status)), status, "", true)
	}
	for _, status := range []int{600, 902, 999} {
		b.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		b.want(b.send("POST", "/", "", "Idempotency-Key", strconv.Itoa(status)), 502, "", false)
		b.want(b.send("POST", "/", "", "Idempotency-Key", strconv.Itoa(status)), 502, "", false)
	}
}

// TestAnswersThatBreakOffAreNotGiven lets the upstream die within an answer that is held back until
// it is complete.
func TestAnswersThatBreakOffAreNotGiven(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"keep: final", "keep: all", "keep: [2xx, 5xx]", "stream: true"} {
		for name, breakOff := range breaks {
			if name == "unknown length" && policy == "stream: true" {
				continue // it goes on as it comes
			}
			t.Run(policy+", "+name, func(t *testing.T) {
				t.Parallel()
				b := setUp(t, "defaults: {"+policy+"}", Unscoped)
				b.answer(func(w http.ResponseWriter, r *http.Request) {
					if b.runs.Load() == 1 {
						breakOff(w)
					}
					_, _ = fmt.Fprint(w, "whole, attempt ", r.Header.Get("Idempotency-Attempt"))
				})
				a := b.send("POST", "/", "body", "Idempotency-Key", "k")
				b.want(a, 502, "may have done what it was asked for", false)
				if a.header.Get("Content-Type") != "application/problem+json" || a.header.Get("X-Half") != "" || strings.Contains(a.body, "half") {
					t.Errorf("%v %q", a.header, a.body)
				}
				b.want(b.send("POST", "/", "body", "Idempotency-Key", "k"), 200, "whole, attempt 2", false)
				if text := b.log.String(); strings.Contains(text, "aborted") || !strings.Contains(text, `"error":"the connection ended"`) {
					t.Error(text)
				}
			})
		}
	}
}

// breaks are the ways in which an answer breaks off after its beginning.
var breaks = map[string]func(w http.ResponseWriter){
	"known length": func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", "100")
		breakHalfway(w)
	},
	"length over the limit": func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", "10000000")
		breakHalfway(w)
	},
	"unknown length": breakHalfway,
}

func breakHalfway(w http.ResponseWriter) {
	w.Header().Set("X-Half", "half")
	_, _ = io.WriteString(w, "half")
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// TestAnswersThatBreakOffOnTheirWayAreCut is about answers that have left in part already, so that
// no other one can be given.
func TestAnswersThatBreakOffOnTheirWayAreCut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		routes, key string
		before      int // bytes in front of the half
	}{
		"no key":                   {"", "", 0},
		"stream":                   {"defaults: {stream: true}", "k", 0},
		"over the limit":           {"defaults: {max_response: 1000}", "k", 5000},
		"over the limit, keep all": {"defaults: {max_response: 1000, keep: all}", "k", 5000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setUp(t, c.routes, Unscoped)
			b.answer(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write(make([]byte, c.before))
				breakHalfway(w)
			})
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.server.URL, strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			if c.key != "" {
				req.Header.Set("Idempotency-Key", c.key)
			}
			req.GetBody = nil // or net/http would send it again by itself
			if res, err := http.DefaultClient.Do(req); err == nil {
				_, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err == nil {
					t.Errorf("half of an answer is taken for a whole one: %d", res.StatusCode)
				}
			}
			b.server.Close() // which waits for the log
			if text := b.log.String(); strings.Count(text, `"aborted":true`) != 1 {
				t.Error(text)
			}
		})
	}
}

func TestS2_UpstreamIsAskedWhetherTheCallerMay(t *testing.T) {
	t.Parallel()
	b := setUp(t, "{defaults: {authorize: /may}}", fromTenant(t))
	var verdict atomic.Int64
	verdict.Store(204)
	asked := make(chan string, 10)
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/may" {
			body, _ := io.ReadAll(r.Body)
			asked <- fmt.Sprint(r.Method, " ", r.Header["X-Forwarded-Method"], r.Header["X-Forwarded-Uri"], r.Header["Authorization"],
				r.Header["Idempotency-Key"], r.Header["Content-Type"], r.Header["Idempotency-Attempt"], " ", string(body))
			w.Header().Set("WWW-Authenticate", "Bearer realm=x")
			status := int(verdict.Load())
			if status == 0 {
				panic(http.ErrAbortHandler)
			}
			w.WriteHeader(status)
			return
		}
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "the secret of %s", body)
	})
	send := func() answered {
		return b.send("POST", "/orders?a=b", "body", "Idempotency-Key", "k", "X-Tenant", "acme", "Authorization", "Bearer t",
			"X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/else", "Content-Type", "text/plain", "Idempotency-Attempt", "9")
	}
	b.want(send(), 200, "the secret of body", false)
	if want := "GET [POST] [/orders?a=b] [Bearer t] [] [] [] "; want != <-asked {
		t.Errorf("not asked %s", want)
	}
	b.want(send(), 200, "the secret of body", true)
	for _, c := range []struct {
		verdict int64
		status  int
	}{{401, 401}, {403, 403}, {404, 503}, {302, 503}, {500, 503}, {0, 503}} {
		verdict.Store(c.verdict)
		a := send()
		b.want(a, c.status, "not-allowed", false)
		if strings.Contains(a.body, "secret") || (a.header.Get("WWW-Authenticate") == "Bearer realm=x") != (c.status == 401) ||
			(a.header.Get("Retry-After") != "") != (c.status == 503) {
			t.Errorf("%d: %v %s", c.verdict, a.header, a.body)
		}
	}
	verdict.Store(200)
	b.want(send(), 200, "the secret of body", true)
}

// TestS2_CallerCannotTakeAnythingOutOfTheQuestion names fields in Connection, which a proxy
// removes.
func TestS2_CallerCannotTakeAnythingOutOfTheQuestion(t *testing.T) {
	t.Parallel()
	b := setUp(t, "routes: [{match: /ask, interrupted: ask, ask: '/by-key/{key}', authorize: /may}]", fromTenant(t))
	var questions []http.Header
	b.answer(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			panic(http.ErrAbortHandler) // so that the next one asks
		}
		questions = append(questions, r.Header)
	})
	for range 2 {
		b.send("POST", "/ask?a=b", "", "Idempotency-Key", "k", "X-Tenant", "acme", "Authorization", "Bearer t", "Connection",
			"Upgrade, Authorization, X-Tenant, X-Forwarded-Method, X-Forwarded-Uri, Idempotency-Attempt", "Upgrade", "else")
	}
	if len(questions) != 3 {
		t.Fatalf("asked %d times", len(questions))
	}
	for i, h := range questions {
		if h.Get("Authorization") != "Bearer t" || h.Get("X-Tenant") != "acme" || h.Get("Upgrade") != "" {
			t.Errorf("question %d has %v", i, h)
		}
		if i < 2 && (h.Get("X-Forwarded-Method") != "POST" || h.Get("X-Forwarded-Uri") != "/ask?a=b") {
			t.Errorf("the upstream is asked about %q %q", h.Get("X-Forwarded-Method"), h.Get("X-Forwarded-Uri"))
		}
	}
	if got := questions[2].Get("Idempotency-Attempt"); got != "2" {
		t.Errorf("asked what became of attempt %q", got)
	}
}

// TestQuestionsCanHaveAQuery is about keys that need escapes, and differently so in a path and in a
// query.
func TestQuestionsCanHaveAQuery(t *testing.T) {
	t.Parallel()
	b := setUp(t, `
routes:
  - {match: /ask, interrupted: ask, ask: "/by/{key}/orders?key={key}&of=me", authorize: "/may?service=shop"}
`, Unscoped)
	const key = `a b/c?d=e&f+g%68#;i`
	var asked []string
	b.answer(func(_ http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodGet:
			panic(http.ErrAbortHandler)
		case r.URL.Path == "/may" && r.URL.RawQuery == "service=shop":
		case r.URL.Path == "/by/"+key+"/orders" && r.URL.Query().Get("key") == key && r.URL.Query().Get("of") == "me":
		default:
			t.Errorf("asked for %s", r.RequestURI)
		}
		asked = append(asked, r.URL.Path)
	})
	b.want(b.send("POST", "/ask", "", "Idempotency-Key", strconv.Quote(key)), 502, "", false)
	b.want(b.send("POST", "/ask", "", "Idempotency-Key", strconv.Quote(key)), 200, "", false)
	if len(asked) != 3 || b.runs.Load() != 4 {
		t.Errorf("asked for %q, %d requests", asked, b.runs.Load())
	}
	// Keys that would be another path, also to a server that takes escapes away first.
	for _, key := range []string{"..", ".", "../other", "a/../b"} {
		b.want(b.send("POST", "/ask", "", "Idempotency-Key", key), 502, "", false)
		b.want(b.send("POST", "/ask", "", "Idempotency-Key", key), 503, "outcome of the request is unknown", false)
	}
}

// TestHalfOfAnAnswerIsNoAnswerToAQuestion has the upstream asked on behalf of a client that wants a
// part only.
func TestHalfOfAnAnswerIsNoAnswerToAQuestion(t *testing.T) {
	t.Parallel()
	b := setUp(t, "routes: [{match: /ask, interrupted: ask, ask: '/by-key/{key}', authorize: /may}]", Unscoped)
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Header().Set("ETag", `"1"`)
			http.ServeContent(w, r, "order.json", time.Unix(1e9, 0), strings.NewReader("the whole order"))
			return
		}
		panic(http.ErrAbortHandler)
	})
	fields := []string{
		"Idempotency-Key", "k", "Range", "bytes=0-2", "If-None-Match", `"1"`, "If-Match", `"2"`, "If-Range", `"1"`,
		"If-Modified-Since", "Sun, 09 Sep 2001 01:46:40 GMT", "If-Unmodified-Since", "Sat, 08 Sep 2001 01:46:40 GMT",
	}
	b.want(b.send("POST", "/ask", "", fields...), 502, "", false)
	whole := *b.upstream.Load()
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/by-key/") {
			breakHalfway(w)
		}
	})
	b.want(b.send("POST", "/ask", "", fields...), 503, "outcome of the request is unknown", false)
	b.answer(whole)
	b.want(b.send("POST", "/ask", "", fields...), 200, "the whole order", false)
	b.want(b.send("POST", "/ask", "", fields...), 200, "the whole order", true)
}

// TestStreamsGoOnAsTheyCome holds a stream up until its beginning was read, on a route and on what
// it inherits from.
func TestStreamsGoOnAsTheyCome(t *testing.T) {
	t.Parallel()
	b := setUp(t, "{defaults: {stream: true, authorize: /may}, routes: [{match: POST /a, authorize: none}]}", Unscoped)
	for _, path := range []string{"/a", "/b"} {
		read := make(chan struct{})
		b.answer(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/may" {
				if path == "/a" {
					t.Error("the upstream is asked whether a caller may, on a route that does not")
				}
				return
			}
			_, _ = io.WriteString(w, "one")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-read:
			case <-time.After(10 * time.Second):
				t.Errorf("%s: the beginning is held back", path)
			}
			_, _ = io.WriteString(w, "two")
		})
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.server.URL+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Idempotency-Key", "k"+path[1:])
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Body, make([]byte, 3)); err != nil {
			t.Error(err)
		}
		close(read)
		if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "two" {
			t.Errorf("the rest is %q, %v", rest, err)
		}
		_ = res.Body.Close()
		b.want(b.send("POST", path, "", "Idempotency-Key", "k"+path[1:]), 410, "", false)
	}
}

func TestGatewayTakesTheScopeFromAVerifiedToken(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	key, err := ReadPublicKey(file)
	if err != nil {
		t.Fatal(err)
	}
	b := setUp(t, "", FromToken(Tokens{Key: key, Claim: "tenant", Issuer: "login", Audience: "orders"}))
	claims := func(change func(jwt.MapClaims)) jwt.MapClaims {
		c := jwt.MapClaims{"iss": "login", "aud": "orders", "exp": time.Now().Add(time.Hour).Unix(), "tenant": "acme"}
		change(c)
		return c
	}
	sign := func(method jwt.SigningMethod, key any, c jwt.MapClaims) string {
		token, err := jwt.NewWithClaims(method, c).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + token
	}
	good := sign(jwt.SigningMethodEdDSA, private, claims(func(jwt.MapClaims) {}))
	other := sign(jwt.SigningMethodEdDSA, private, claims(func(c jwt.MapClaims) { c["tenant"] = "other" }))
	b.want(b.send("POST", "/", "", "Idempotency-Key", "k", "Authorization", good), 201, "order 1", false)
	b.want(b.send("POST", "/", "", "Idempotency-Key", "k", "Authorization", good), 201, "order 1", true)
	b.want(b.send("POST", "/", "", "Idempotency-Key", "k", "Authorization", other), 201, "order 2", false)
	for name, token := range map[string]string{
		"none":           "",
		"no bearer":      "Basic abc",
		"garbage":        "Bearer a.b.c",
		"expired":        sign(jwt.SigningMethodEdDSA, private, claims(func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Hour).Unix() })),
		"no expiry":      sign(jwt.SigningMethodEdDSA, private, claims(func(c jwt.MapClaims) { delete(c, "exp") })),
		"wrong issuer":   sign(jwt.SigningMethodEdDSA, private, claims(func(c jwt.MapClaims) { c["iss"] = "evil" })),
		"wrong audience": sign(jwt.SigningMethodEdDSA, private, claims(func(c jwt.MapClaims) { c["aud"] = "mail" })),
		"no claim":       sign(jwt.SigningMethodEdDSA, private, claims(func(c jwt.MapClaims) { delete(c, "tenant") })),
		"number":         sign(jwt.SigningMethodEdDSA, private, claims(func(c jwt.MapClaims) { c["tenant"] = 7 })),
		"unsigned":       sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(func(jwt.MapClaims) {})),
		// The public key taken for an HMAC secret, the oldest trick.
		"confused": sign(jwt.SigningMethodHS256, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), claims(func(jwt.MapClaims) {})),
	} {
		got := b.send("POST", "/", "", "Idempotency-Key", "k", "Authorization", token)
		if got.status != 401 || got.header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: %d %v", name, got.status, got.header)
		}
	}
	if n := b.runs.Load(); n != 2 {
		t.Errorf("the upstream ran %d requests", n)
	}
}

// TestPublicKeyIsNeverAnHMACSecret offers public keys in the forms in which they are handed out:
// who knows one could sign.
func TestPublicKeyIsNeverAnHMACSecret(t *testing.T) {
	t.Parallel()
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&curve.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{}, &x509.Certificate{}, &curve.PublicKey, curve)
	if err != nil {
		t.Fatal(err)
	}
	modulus, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	base := base64.StdEncoding.EncodeToString(der)
	for name, text := range map[string]string{
		"PEM":              text,
		"indented PEM":     "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  "),
		"DER":              string(der),
		"PKCS #1":          string(x509.MarshalPKCS1PublicKey(&modulus.PublicKey)),
		"certificate":      string(certificate),
		"Base64":           base + "\n",
		"Base64 in lines":  base[:64] + "\r\n" + base[64:],
		"JWK":              ` {"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`,
		"OpenSSH":          "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKK",
		"OpenSSH, NIST":    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBB",
		"RFC 4716":         "---- BEGIN SSH2 PUBLIC KEY ----\nAAAAC3NzaC1lZDI1NTE5AAAAIKKKKKKKK\n---- END SSH2 PUBLIC KEY ----\n",
		"PEM private key":  "-----BEGIN PRIVATE KEY-----\nAAAAAAAAAAAAAAAA\n-----END PRIVATE KEY-----\n",
		"too short a text": strings.Repeat("s", 31),
	} {
		file := writeFile(t, "key", text)
		if _, err := ReadSecret(file); err == nil {
			t.Errorf("%s is taken for a secret", name)
		}
		if _, err := ReadPublicKey(file); (err == nil) != (name == "PEM") {
			t.Errorf("%s as a public key: %v", name, err)
		}
	}
	for name, secret := range map[string]string{
		"hexadecimal": strings.Repeat("0f", 32) + "\n",
		"Base64":      base64.StdEncoding.EncodeToString(make([]byte, 48)),
		"bytes":       string(make([]byte, 32)),
	} {
		if _, err := ReadSecret(writeFile(t, "key", secret)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGatewayWithoutRedis(t *testing.T) {
	t.Parallel()
	b := setUp(t, `
routes:
  - {match: POST /pass, without_redis: pass}
`, Unscoped, func(c *redisidem.Config) { c.Timeout, c.CommitRetry = 100*time.Millisecond, time.Second })
	ready := func() int {
		res, err := http.Get(b.admin.URL + "/readyz") //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	if got := ready(); got != 200 {
		t.Errorf("ready: %d", got)
	}
	b.redis.Close()
	got := b.send("POST", "/", "", "Idempotency-Key", "k")
	b.want(got, 503, "", false)
	if got.header.Get("Retry-After") == "" || b.runs.Load() != 0 {
		t.Errorf("%v, %d runs", got.header, b.runs.Load())
	}
	b.want(b.send("POST", "/pass", "", "Idempotency-Key", "k"), 201, "order 1", false)
	b.want(b.send("GET", "/", ""), 201, "order 2", false)
	if got := ready(); got != 503 {
		t.Errorf("ready without Redis: %d", got)
	}
	if text := b.scrape(); !strings.Contains(text, "redisidem_unprotected_total 1") {
		t.Errorf("the metrics are %s", text)
	}
}

func (b *bench) scrape() string {
	b.Helper()
	res, err := http.Get(b.admin.URL + "/metrics") //nolint:noctx // a test
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.Fatal(err)
	}
	return string(text)
}

// TestS11_CanaryIsInNoLogAndNoMetric sends secrets under names that are easily found.
func TestS11_CanaryIsInNoLogAndNoMetric(t *testing.T) {
	t.Parallel()
	b := setUp(t, "routes: [{match: POST /ask, interrupted: ask, ask: '/by-key/{key}'}]", fromTenant(t))
	send := func(path string, key string) answered {
		return b.send("POST", path+"?canary-query=1", "canary-body", "Idempotency-Key", key, "X-Tenant", "canary-scope",
			"Authorization", "Bearer canary-token")
	}
	send("/", "canary-key-1")
	send("/", "canary-key-1")
	b.send("POST", "/", "canary-other-body", "Idempotency-Key", "canary-key-1", "X-Tenant", "canary-scope")
	b.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	send("/ask", "canary-key-2")
	send("/ask", "canary-key-2")
	send("/", `"canary-key-3`)
	b.redis.Close()
	problem := send("/", "canary-key-4")
	log := b.log.String()
	for name, text := range map[string]string{"log": log, "metrics": b.scrape(), "problem": problem.body} {
		if i := strings.Index(text, "canary"); i >= 0 {
			t.Errorf("the %s has %q", name, text[max(0, i-100):min(len(text), i+100)])
		}
	}
	id := b.service.Scope("canary-scope").ID("canary-key-1")
	if !strings.Contains(log, id) || !strings.Contains(log, `"result":"replayed"`) || strings.Count(log, `"msg":"request"`) != 7 {
		t.Errorf("the log is %s", log)
	}
	if text := b.scrape(); !strings.Contains(text, `redisidem_events_total{kind="replayed"} 1`) ||
		!strings.Contains(text, `redisidem_http_request_seconds_count{method="POST",replayed="true",status="201"} 1`) ||
		!strings.Contains(text, `redisidem_refused_total{reason="mismatch"} 1`) {
		t.Errorf("the metrics are %s", text)
	}
}

// TestS11_NothingOfABrokenAnswerIsInTheLog has an upstream that answers in what is no HTTP, or not
// all of it.
func TestS11_NothingOfABrokenAnswerIsInTheLog(t *testing.T) {
	t.Parallel()
	b := setUp(t, `
routes:
  - {match: /may, authorize: /may}
  - {match: /ask, interrupted: ask, ask: "/by-key/{key}"}
  - {match: /open, protect: false}
`, Unscoped)
	answers := map[string]string{
		"no status line":  "canary-body of an answer\r\n\r\n",
		"status":          "HTTP/1.1 canary canary\r\n\r\n",
		"field":           "HTTP/1.1 200 OK\r\nSet-Cookie session=canary-token\r\n\r\n",
		"length":          "HTTP/1.1 200 OK\r\nContent-Length: canary\r\n\r\n",
		"coding":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: canary\r\n\r\n",
		"length of chunk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ncanary\r\n",
		"trailer": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" +
			"X-Sum canary-sum\r\n\r\n",
		"nothing": "",
	}
	for name, text := range answers {
		b.answer(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
		})
		for _, path := range []string{"/may", "/run", "/ask", "/ask", "/open"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.server.URL+path, strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Idempotency-Key", strconv.Quote(name+path))
			r.GetBody = nil // or net/http would send it again by itself
			if res, err := http.DefaultClient.Do(r); err == nil {
				_, _ = io.ReadAll(res.Body)
				_ = res.Body.Close()
			}
		}
	}
	log := b.log.String()
	if i := strings.Index(log, "canary"); i >= 0 {
		t.Errorf("the log has %q", log[max(0, i-200):min(len(log), i+100)])
	}
	for _, want := range []string{
		"no answer that can be read", "the connection ended", "in the middle of its answer", "whether a caller is authorized", "outcome of a request",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not tell of %q: %s", want, log)
		}
	}
}

func TestCORSThatIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []CORS{
		{Origins: []string{"shop.example"}},
		{Origins: []string{"https://shop.example/"}},
		{Origins: []string{"ftp://shop.example"}},
		{Origins: []string{""}},
		{Origins: []string{"*"}, Credentials: true},
		{Credentials: true},
	} {
		if err := c.validate(); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	if err := (&CORS{Origins: []string{"*", "https://shop.example:8443"}}).validate(); err != nil {
		t.Error(err)
	}
}

// TestCORSIsTheGateways also lets the service speak of CORS: the gateway's word counts.
func TestCORSIsTheGateways(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", Unscoped)
	b.gateway.cors = CORS{Origins: []string{"https://shop.example"}}
	b.server.Config.Handler = b.gateway.Handler()
	b.answer(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "https://evil.example")
		w.Header().Set("Access-Control-Expose-Headers", "X-Own")
	})
	for _, origin := range []string{"https://shop.example", "https://evil.example"} {
		for range 2 { // an execution, and a replay
			h := b.send("POST", "/", "", "Idempotency-Key", "k", "Origin", origin).header
			want := ""
			if origin == "https://shop.example" {
				want = origin
			}
			if got := h.Values("Access-Control-Allow-Origin"); strings.Join(got, " ") != want {
				t.Errorf("%s: allowed %q, want %q", origin, got, want)
			}
			if want != "" && !strings.Contains(strings.Join(h.Values("Access-Control-Expose-Headers"), ","), "Idempotency-Replayed") {
				t.Errorf("exposed %q", h.Values("Access-Control-Expose-Headers"))
			}
		}
	}
}

func TestDrainingGatewayIsNotReady(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", Unscoped)
	b.gateway.Drain()
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503} {
		res, err := http.Get(b.admin.URL + path) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s is %d, want %d", path, res.StatusCode, want)
		}
	}
}

// TestUpstreamIsAskedOnceByItself lets a kept connection break at the moment of a request: the
// gateway must not send it again behind the policy's back.
func TestUpstreamIsAskedOnceByItself(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", Unscoped)
	b.want(b.send("POST", "/", "", "Idempotency-Key", "first"), 201, "order 1", false) // makes a connection to keep
	b.answer(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.Close()
	})
	b.want(b.send("POST", "/", "", "Idempotency-Key", "empty"), 502, "", false)
	b.want(b.send("POST", "/", "body", "Idempotency-Key", "full"), 502, "", false)
	// Nor what has another field that Go's transport knows.
	b.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	b.want(b.send("POST", "/", ""), 204, "", false)
	b.answer(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.Close()
	})
	b.want(b.send("POST", "/", "", "X-Idempotency-Key", "other"), 502, "", false)
	if n := b.runs.Load(); n != 5 {
		t.Errorf("the upstream got %d requests, want 5", n)
	}
}

// TestEmptyBodiesHaveALength is about services that know no chunked encoding.
func TestEmptyBodiesHaveALength(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", Unscoped)
	b.answer(func(_ http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 || len(r.TransferEncoding) != 0 || r.Header.Get("Content-Length") != "0" {
			t.Errorf("length %d, %q, transfer encoding %q", r.ContentLength, r.Header["Content-Length"], r.TransferEncoding)
		}
		if r.Header.Get("Idempotency-Key") != "k" && r.Header.Get("X-Idempotency-Key") != "k" {
			t.Errorf("the upstream saw %v", r.Header)
		}
	})
	b.want(b.send("POST", "/", "", "Idempotency-Key", "k"), 200, "", false)
	b.want(b.send("POST", "/", "", "X-Idempotency-Key", "k"), 200, "", false)
}
