package caddyidem_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/standard"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
	_ "github.com/caddyserver/caddy/v2/modules/metrics"

	_ "github.com/redisidem/redisidem/contrib/caddyidem"
	"github.com/redisidem/redisidem/internal/http2test"
)

// site is a Caddy in this process, which listens on sockets of a folder. There is one at a time,
// since Caddy has one configuration.
type site struct {
	t            *testing.T
	dir          string
	loads        int
	socket       string
	redis        *miniredis.Miniredis
	upstreamAddr string
}

// dial returns a client whose connections, one for each request, go to a socket.
func dial(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
}

// start starts a Caddy whose directive idempotency has options, in front of an upstream.
func start(t *testing.T, upstream http.Handler, options string) *site {
	t.Helper()
	up := httptest.NewUnstartedServer(upstream)
	up.Config.Protocols = new(http.Protocols)
	up.Config.Protocols.SetHTTP1(true)
	up.Config.Protocols.SetUnencryptedHTTP2(true)
	up.Start()
	t.Cleanup(up.Close)
	mini := miniredis.RunT(t)
	mini.ClockTTL(true)
	dir, err := os.MkdirTemp("", "caddy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s := &site{t: t, dir: dir, redis: mini, upstreamAddr: up.Listener.Addr().String()}
	if err := s.load(options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Stop leaves the admin endpoint, which only another configuration ends.
		if err := errors.Join(caddy.Load([]byte(`{"admin":{"disabled":true,"config":{"persist":false}}}`), true), caddy.Stop()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// load gives Caddy a configuration with these options, on a socket of its own: on the one before, a
// request may still meet the configuration before. After an error the configuration before stays.
func (s *site) load(options string) error {
	s.t.Helper()
	s.loads++
	socket := filepath.Join(s.dir, fmt.Sprintf("site%d", s.loads))
	text := fmt.Sprintf(`{
	admin unix/%s
	persist_config off
	metrics
	order idempotency after basic_auth
}
http://localhost {
	bind unix/%s
	uri path_regexp ^/(us|in) ""
	idempotency {
		redis redis://%s
		timeout 5s
		%s
	}
	reverse_proxy %s
}`, filepath.Join(s.dir, "admin"), socket, s.redis.Addr(), options, s.upstreamAddr)
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		if !strings.Contains(w.Message, "not formatted") {
			s.t.Error(w)
		}
	}
	if err := caddy.Load(config, true); err != nil {
		return err
	}
	s.socket = socket
	return nil
}

// post sends a request with a key, and returns status, header and body.
func (s *site) post(path, key, body string, fields ...string) (status int, header http.Header, text string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("X-Client", "shop")
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	answer, err := dial(s.socket).Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, string(got)
}

// metrics returns the text of Caddy's metrics.
func (s *site) metrics() string {
	s.t.Helper()
	answer, err := dial(filepath.Join(s.dir, "admin")).Get("http://localhost/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// counting is an upstream that answers with the number of the request.
func counting(n *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprintf(w, "%d: %s", n.Add(1), body)
	})
}

const byClient = "scope {http.request.header.X-Client}\n"

func TestRetryGetsTheSameResponse(t *testing.T) {
	var n atomic.Int64
	s := start(t, counting(&n), byClient)
	for i := range 3 {
		status, header, body := s.post("/orders", "k", "tea")
		if status != 201 || body != "1: tea" || (header.Get("Idempotency-Replayed") == "true") != (i > 0) {
			t.Errorf("%d: %d %v %q", i, status, header, body)
		}
	}
	if status, _, _ := s.post("/orders", "k", "coffee"); status != 422 {
		t.Errorf("another request with the key: %d", status)
	}
	if status, _, _ := s.post("/orders", "", "tea"); status != 400 {
		t.Errorf("without a key: %d", status)
	}
	if _, _, body := s.post("/orders", "k", "tea", "X-Client", "other"); body != "2: tea" {
		t.Errorf("another scope: %q", body)
	}
	if status, _, _ := s.post("/orders", "k", "tea", "X-Client", ""); status != 403 {
		t.Errorf("without a scope: %d", status)
	}
}

// TestTooLargeBodiesPassWhereKeysAreOptional is about keys that browsers and libraries add by
// themselves.
func TestTooLargeBodiesPassWhereKeysAreOptional(t *testing.T) {
	var runs atomic.Int64
	s := start(t, counting(&runs), byClient+"max_body 4B\noptional\n")
	for _, want := range []string{"1: large", "2: large"} {
		if status, header, text := s.post("/orders", "k", "large"); status != http.StatusCreated || text != want || header.Get("Idempotency-Replayed") != "" {
			t.Errorf("%d %v %q", status, header, text)
		}
	}
	if err := s.load(byClient + "max_body 4B\n"); err != nil {
		t.Fatal(err)
	}
	if status, _, text := s.post("/orders", "k", "large"); status != http.StatusRequestEntityTooLarge {
		t.Errorf("%d %q", status, text)
	}
}

func TestUpstreamThatIsDownBeginsNothing(t *testing.T) {
	var n atomic.Int64
	s := start(t, counting(&n), byClient)
	good := s.upstreamAddr
	s.upstreamAddr = "unix/" + filepath.Join(s.dir, "down")
	if err := s.load(byClient); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if status, _, _ := s.post("/orders", "k", "tea"); status != 502 {
			t.Fatalf("without an upstream: %d", status)
		}
	}
	s.upstreamAddr = good
	if err := s.load(byClient); err != nil {
		t.Fatal(err)
	}
	if status, _, body := s.post("/orders", "k", "tea"); status != 201 || body != "1: tea" {
		t.Errorf("%d %q", status, body)
	}
}

func TestUpstreamThatBreaksOffLeavesTheOutcomeUnknown(t *testing.T) {
	for _, c := range []struct {
		options string
		status  int
		ran     int64
	}{
		{byClient, 503, 1},
		{byClient + "interrupted run\n", 201, 2},
	} {
		t.Run(c.options, func(t *testing.T) {
			var n atomic.Int64
			s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if n.Load() == 0 {
					n.Add(1)
					panic(http.ErrAbortHandler)
				}
				counting(&n).ServeHTTP(w, r)
			}), c.options)
			if status, _, _ := s.post("/orders", "k", "tea"); status != 502 {
				t.Errorf("the first attempt: %d", status)
			}
			for range 2 {
				status, header, body := s.post("/orders", "k", "tea")
				if status != c.status || n.Load() != c.ran || status == 503 && header.Get("Retry-After") == "" {
					t.Errorf("the retry: %d %q, %d ran", status, body, n.Load())
				}
			}
		})
	}
}

func TestReloadKeepsRecordsAndConnections(t *testing.T) {
	var n atomic.Int64
	s := start(t, counting(&n), byClient)
	s.post("/orders", "k", "tea")
	before := s.redis.TotalConnectionCount()
	if err := s.load(byClient + "max_body 2MiB\n"); err != nil {
		t.Fatal(err)
	}
	if _, header, body := s.post("/orders", "k", "tea"); body != "1: tea" || header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("after a reload: %q", body)
	}
	if got := s.redis.TotalConnectionCount(); got != before {
		t.Errorf("%d connections were made, and %d before the reload", got, before)
	}
}

func TestWrongConfigurationIsRefused(t *testing.T) {
	var n atomic.Int64
	s := start(t, counting(&n), byClient)
	for options, want := range map[string]string{
		"":                                 "scope: is required",
		"scope http.auth.user.id\n":        "scope: must have placeholders",
		"scope {http.auth.user.id\n":       "scope: must have placeholders",
		byClient + "unscoped\n":            "unscoped: cannot go with scope",
		byClient + "colour red\n":          "idempotency has no option colour",
		byClient + "interrupted ask\n":     `interrupted: must be refuse or run: "ask"`,
		byClient + "profile plain\n":       `profile: must be draft or stripe: "plain"`,
		byClient + "replay_header Vary\n":  `Config.ReplayHeader must not be a field with another meaning, or one that is stored: "Vary"`,
		byClient + "wait -1s\n":            "wait: must not be negative: -1s",
		byClient + "lease 1ms\n":           "Lease",
		byClient + "redis {env.NOTHING}\n": "redis: ",
		byClient + "max_body lots\n":       "max_body: ",
		byClient + "max_body 2TiB\n":       "max_body: ",
		byClient + "timeout\n":             "wrong argument count",
		byClient + "optional yes\n":        "wrong argument count",
		byClient + "methods\n":             "wrong argument count",
		byClient + "methods PATCH PSOT\n":  `methods[1]: must be a method of the registry of HTTP methods, such as POST: "PSOT"`,
		byClient + "durability some\n":     "durability: ",
	} {
		if err := s.load(options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, without %q", options, err, want)
		}
	}
	if status, _, _ := s.post("/orders", "k", "tea"); status != 201 {
		t.Errorf("the configuration before is gone: %d", status)
	}
}

func TestCaddyRefusesARedisThatIsDown(t *testing.T) {
	var n atomic.Int64
	s := start(t, counting(&n), byClient)
	if err := s.load(byClient + "redis unix://" + filepath.Join(s.dir, "down") + "\n"); err == nil {
		t.Error("the configuration was accepted")
	}
}

func TestMetricsAreCaddys(t *testing.T) {
	var n atomic.Int64
	s := start(t, counting(&n), byClient)
	s.post("/orders", "k", "tea")
	s.post("/orders", "k", "tea")
	text := s.metrics()
	for _, want := range []string{
		`redisidem_http_requests_total{namespace="redisidem",result="executed",store="`,
		`redisidem_http_requests_total{namespace="redisidem",result="replayed",store="`,
		`redisidem_events_total{flow="",kind="committed",namespace="redisidem"`,
		`redisidem_redis_up{namespace="redisidem",store="`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
}

func TestConcurrentRequestsRunOnce(t *testing.T) {
	var n atomic.Int64
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(20 * time.Millisecond) // so that the others come while this one runs
		counting(&n).ServeHTTP(w, r)
	}), byClient+"wait 5s\nauto_pipeline\n")
	answers := make(chan string, 20)
	for range cap(answers) {
		go func() {
			_, _, body := s.post("/orders", "k", "tea")
			answers <- body
		}()
	}
	for range cap(answers) {
		if got := <-answers; got != "1: tea" {
			t.Errorf("%q", got)
		}
	}
}

// TestTransportDoesNotRepeatARequest breaks a reused connection after the work was done.
func TestTransportDoesNotRepeatARequest(t *testing.T) {
	var n atomic.Int64
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/breaks" && n.Add(1) > 0 {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.Copy(w, r.Body)
	}), byClient)
	for _, body := range []string{"tea", ""} {
		n.Store(0)
		s.post("/orders", "first"+body, "tea") // makes the connection
		s.post("/breaks", "second"+body, body)
		if n.Load() != 1 {
			t.Errorf("the upstream got the request %q %d times", body, n.Load())
		}
	}
}

// TestTransportDoesNotRepeatAResetStream has HTTP/2 upstreams that received a request without a
// body and reset its stream, as they may after the work. After REFUSED_STREAM or GOAWAY, Caddy's
// transport repeats the request: nothing was done.
func TestTransportDoesNotRepeatAResetStream(t *testing.T) {
	ends := http2test.Ends()
	for _, name := range []string{"PROTOCOL_ERROR", "PROTOCOL_ERROR after 103"} {
		for _, scheme := range []string{"h2c", "https"} {
			t.Run(name+"/"+scheme, func(t *testing.T) {
				up := http2test.New(t, scheme == "https", ends[name])
				s := start(t, http.NotFoundHandler(), byClient)
				s.upstreamAddr = scheme + "://" + up.Addr
				if scheme == "https" {
					s.upstreamAddr += " {\ntransport http {\ntls_insecure_skip_verify\n}\n}"
				}
				if err := s.load(byClient); err != nil {
					t.Fatal(err)
				}
				for _, want := range []int{502, 503} {
					if status, _, body := s.post("/orders", "k", ""); status != want || up.Requests.Load() != 1 {
						t.Errorf("%d %q, not %d, and the upstream got %d requests", status, body, want, up.Requests.Load())
					}
				}
			})
		}
	}
}

func TestResponseOfUnknownLengthIsStored(t *testing.T) {
	var n atomic.Int64
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		_, _ = io.WriteString(w, "one ")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "two")
	}), byClient)
	for range 2 {
		if status, _, body := s.post("/orders", "k", "tea"); status != 200 || body != "one two" {
			t.Errorf("%d %q", status, body)
		}
	}
	if n.Load() != 1 {
		t.Errorf("the upstream got %d requests", n.Load())
	}
}

func TestBodyThatBreaksOffLeavesTheOutcomeUnknown(t *testing.T) {
	var n atomic.Int64
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) > 1 {
			_, _ = io.WriteString(w, "whole")
			return
		}
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "a part")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}), byClient+"interrupted run\n")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/orders", strings.NewReader("tea"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Client", "shop")
	r.Header.Set("Idempotency-Key", "k")
	if answer, err := dial(s.socket).Do(r); err == nil {
		_, err = io.ReadAll(answer.Body)
		if err = errors.Join(err, answer.Body.Close()); err == nil && answer.StatusCode < 500 {
			t.Errorf("the first attempt got %d", answer.StatusCode)
		}
	}
	if status, _, body := s.post("/orders", "k", "tea"); status != 200 || body != "whole" || n.Load() != 2 {
		t.Errorf("the retry got %d %q, and %d ran", status, body, n.Load())
	}
}

func TestRefusalOfTheUpstreamIsNoUnknownOutcome(t *testing.T) {
	var n atomic.Int64
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) < 3 {
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}), byClient)
	for _, want := range []int{429, 429, 200, 200} {
		if status, _, _ := s.post("/orders", "k", "tea"); status != want {
			t.Errorf("%d, not %d", status, want)
		}
	}
}

// TestRefusalOfAGRPCServerIsNoUnknownOutcome has an upstream that refuses calls in its trailers,
// announced or not.
func TestRefusalOfAGRPCServerIsNoUnknownOutcome(t *testing.T) {
	for _, announced := range []bool{true, false} {
		var n atomic.Int64
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			status, name := "0", http.TrailerPrefix+"Grpc-Status"
			if n.Add(1) < 3 {
				status = "8" // RESOURCE_EXHAUSTED
			}
			w.Header().Set("Content-Type", "application/grpc")
			if announced {
				name = "Grpc-Status"
				w.Header().Set("Trailer", name)
			}
			_, _ = io.WriteString(w, "message")
			_ = http.NewResponseController(w).Flush() // a response with a length has no trailers
			w.Header().Set(name, status)
		}), byClient)
		for i, want := range []int64{1, 2, 3, 3} {
			if status, header, body := s.post("/orders", "k", "tea"); status != 200 || body != "message" || n.Load() != want {
				t.Errorf("announced %v, %d: %d %v %q, and %d calls", announced, i, status, header, body, n.Load())
			}
		}
	}
}

// TestErrorAfterTheWorkLeavesTheOutcomeUnknown has an upstream that works and a handler behind it
// that returns an error.
func TestErrorAfterTheWorkLeavesTheOutcomeUnknown(t *testing.T) {
	var n atomic.Int64
	s := start(t, counting(&n), byClient)
	s.upstreamAddr += ` {
		@all status 201
		handle_response @all {
			error 404
		}
	}`
	if err := s.load(byClient); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{404, 503, 503} {
		if status, _, body := s.post("/orders", "k", "tea"); status != want {
			t.Errorf("%d %s, not %d", status, body, want)
		}
	}
	if n.Load() != 1 {
		t.Errorf("the upstream got %d requests", n.Load())
	}
}

// TestRewrittenPathsAreDifferentRequests has two paths that reach the handler as one.
func TestRewrittenPathsAreDifferentRequests(t *testing.T) {
	var n atomic.Int64
	s := start(t, counting(&n), byClient)
	s.post("/us/orders", "k", "tea")
	if status, _, body := s.post("/in/orders", "k", "tea"); status != 422 {
		t.Errorf("another path with the key: %d %s", status, body)
	}
}

// TestErrorRoutesGetTheBody has an upstream that is down, and an error route to another one.
func TestErrorRoutesGetTheBody(t *testing.T) {
	var n atomic.Int64
	for name, options := range map[string]string{"Protected": byClient, "WithoutRedis": byClient + "fail_open\n"} {
		t.Run(name, func(t *testing.T) {
			s := start(t, counting(&n), options)
			s.upstreamAddr = "unix/" + filepath.Join(s.dir, "down") + "\n\thandle_errors {\n\t\treverse_proxy " + s.upstreamAddr + "\n\t}"
			if err := s.load(options); err != nil {
				t.Fatal(err)
			}
			if name == "WithoutRedis" {
				s.redis.Close()
			}
			if _, _, body := s.post("/orders", "k", "tea"); !strings.HasSuffix(body, ": tea") {
				t.Errorf("the error route got %q", body)
			}
		})
	}
}

// TestForgedLeaseFieldsAreRemoved sends the fields that the gateway gives to services.
func TestForgedLeaseFieldsAreRemoved(t *testing.T) {
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Header.Get("Idempotency-Attempt"), r.Header.Get("Idempotency-Fence"))
	}), byClient+"optional\n")
	for _, path := range []string{"/orders", "/us/orders"} {
		for _, key := range []string{"", path} {
			if status, _, got := s.post(path, key, "tea", "Idempotency-Attempt", "77", "Idempotency-Fence", "88"); status != http.StatusOK || got != "" {
				t.Errorf("%s %q: the upstream got %d %q", path, key, status, got)
			}
		}
	}
}

// TestForgedLeaseFieldsInTrailersAreRemoved sends the fields as trailers, which some servers add to
// the header.
func TestForgedLeaseFieldsInTrailersAreRemoved(t *testing.T) {
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, r.Trailer.Get("Idempotency-Attempt"), r.Trailer.Get("Idempotency-Fence"), r.Trailer.Get("X-Sum"))
	}), byClient+"optional\n")
	for _, method := range []string{http.MethodPost, http.MethodPut} {
		for _, key := range []string{"", "k"} {
			r, err := http.NewRequestWithContext(t.Context(), method, "http://localhost/orders", io.MultiReader(strings.NewReader("tea")))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Client", "shop")
			if key != "" {
				r.Header.Set("Idempotency-Key", key)
			}
			r.Trailer = http.Header{"Idempotency-Attempt": {"77"}, "Idempotency-Fence": {"88"}, "X-Sum": {"7"}}
			answer, err := dial(s.socket).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(answer.Body)
			if err := errors.Join(err, answer.Body.Close()); err != nil {
				t.Fatal(err)
			}
			if answer.StatusCode != http.StatusOK || string(got) != "7" {
				t.Errorf("%s %q: the upstream got %d %q", method, key, answer.StatusCode, got)
			}
		}
	}
}
