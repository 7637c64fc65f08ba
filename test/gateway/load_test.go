//go:build unix

package gateway

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// tolerance is what may happen to requests while a fault lasts.
type tolerance int

const (
	// connectionsBreak: a gateway was killed, so its requests get no answer.
	connectionsBreak tolerance = 1 << iota
	// redisAway: requests with keys are refused with 503.
	redisAway
)

const (
	keyWorkers  = 6 // clients that send requests with keys
	openWorkers = 4 // clients of the routes that are not protected
)

// load sends requests through the balancer until it is stopped: charges, whose interrupted requests
// are refused, orders, whose interrupted requests run again, bookings, for which the gateway asks
// the upstream, and requests to routes that are not protected. It repeats a request with a key
// until its outcome is final, half of them twice at a time. Half of the clients speak HTTP/2. An
// answer that the faults of its time do not explain fails the test.
type load struct {
	t      testing.TB
	url    string
	issuer *issuer
	roots  *x509.CertPool

	stopped chan struct{}
	workers sync.WaitGroup
	jobs    [keyWorkers + openWorkers]atomic.Int64 // that each worker has ended

	mu         sync.Mutex
	tolerances []tolerance // in the order of their times; the last one is in force
	keys       []*request

	answers  atomic.Int64 // with the bytes of an answer of the upstream
	replays  atomic.Int64
	refusals atomic.Int64 // 503 because of Redis
	broken   atomic.Int64 // connections
	open     atomic.Int64 // answers of routes that are not protected
}

// request is a request with a key, and what is known about its outcome.
type request struct {
	path, key string
	caller    string

	mu      sync.Mutex
	body    string // of its answer
	unknown bool   // it was refused because its outcome is unknown
}

func startLoad(t testing.TB, url string, issuer *issuer, roots *x509.CertPool, seed uint64) *load {
	t.Helper()
	l := &load{t: t, url: url, issuer: issuer, roots: roots, stopped: make(chan struct{}), tolerances: []tolerance{0}}
	for i := range l.jobs {
		random := mathrand.New(mathrand.NewPCG(seed, uint64(i))) //nolint:gosec // not a secret
		l.workers.Go(func() { l.work(i, random) })
	}
	return l
}

// stop ends the load once its requests have ended.
func (l *load) stop() {
	select {
	case <-l.stopped:
	default:
		close(l.stopped)
	}
	l.workers.Wait()
}

// tolerate sets what may happen from now on to all requests that are under way or begin.
func (l *load) tolerate(what tolerance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tolerances = append(l.tolerances, what)
}

// now returns the present time for tolerated.
func (l *load) now() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.tolerances) - 1
}

// tolerated reports whether something may happen to a request that began at a time.
func (l *load) tolerated(what tolerance, since int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, each := range l.tolerances[since:] {
		if each&what != 0 {
			return true
		}
	}
	return false
}

// turn blocks until each client has begun and ended a job. All requests that began before it have
// then ended.
func (l *load) turn() {
	l.t.Helper()
	var before [len(l.jobs)]int64
	for i := range l.jobs {
		before[i] = l.jobs[i].Load()
	}
	until(l.t, "each client goes on", func() bool {
		for i := range l.jobs {
			if l.jobs[i].Load() < before[i]+2 {
				return false
			}
		}
		return true
	})
}

func (l *load) work(i int, random *mathrand.Rand) {
	client := newClient(l.roots, i%2 == 1)
	defer client.CloseIdleConnections()
	const jobsOfAConnection = 20
	for n := 1; ; n++ {
		select {
		case <-l.stopped:
			return
		default:
		}
		if i < keyWorkers {
			l.finish(client, l.newRequest(random), 1+random.IntN(2))
		} else {
			l.sendOpen(client, random)
		}
		l.jobs[i].Add(1)
		if n%jobsOfAConnection == 0 {
			client.CloseIdleConnections() // the next ones may go to the other gateway
		}
	}
}

// newClient returns a client that trusts these authorities.
func newClient(roots *x509.CertPool, http2 bool) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, ForceAttemptHTTP2: http2, MaxIdleConnsPerHost: 4,
	}}
}

func (l *load) newRequest(random *mathrand.Rand) *request {
	r := &request{path: []string{"/charges", "/orders", "/bookings"}[random.IntN(3)], caller: fmt.Sprint("caller-", random.IntN(4)), key: rand.Text()}
	switch random.IntN(40) {
	case 0:
		r.key = "slow-" + r.key
	case 1, 2:
		r.key = "broken-" + r.key
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys = append(l.keys, r)
	return r
}

// finish sends a request several times at once, and repeats each until its outcome is final.
func (l *load) finish(client *http.Client, r *request, times int) {
	began := l.now()
	var senders sync.WaitGroup
	for range times {
		senders.Go(func() {
			for deadline := time.Now().Add(patience); !l.send(client, r, began); time.Sleep(50 * time.Millisecond) {
				if time.Now().After(deadline) {
					l.t.Errorf("%s %s: no final answer within %v", r.path, r.key, patience)
					return
				}
			}
		})
	}
	senders.Wait()
}

// response is a response that was read.
type response struct {
	status   int
	problem  string // its type, if it is one of the gateway's
	body     string
	replayed bool
}

// do sends a request. Without a key it is not protected.
func do(client *http.Client, method, url, key, token string) (response, error) {
	var body io.Reader = http.NoBody
	if method == http.MethodPost {
		body = strings.NewReader(`{"amount":100}`)
	}
	r, err := http.NewRequestWithContext(context.Background(), method, url, body)
	if err != nil {
		return response{}, err
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", fmt.Sprintf("%q", key))
		r.Header.Set("Authorization", token)
	}
	res, err := client.Do(r)
	if err != nil {
		return response{}, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return response{res.StatusCode, res.Header.Get("Idempotency-Problem"), string(text), res.Header.Get("Idempotency-Replayed") == "true"}, err
}

// send sends a request with a key, and reports whether its outcome is final. began is the time at
// which it was sent first.
func (l *load) send(client *http.Client, r *request, began int) (final bool) {
	got, err := do(client, http.MethodPost, l.url+r.path, r.key, l.issuer.current.Load().token(l.t, r.caller))
	isBroken := strings.HasPrefix(r.key, "broken-")
	switch {
	case err != nil:
		l.broken.Add(1)
		if l.tolerated(connectionsBreak, began) {
			return false
		}
		l.t.Errorf("%s %s: %v", r.path, r.key, err)
		return true
	case got.status == http.StatusCreated:
		l.answers.Add(1)
		if got.replayed {
			l.replays.Add(1)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.body != "" && r.body != got.body {
			l.t.Errorf("%s %s: the answers are %q and %q", r.path, r.key, r.body, got.body)
		}
		r.body = got.body
		return true
	case got.problem == "in-flight":
		return false
	case got.status == http.StatusServiceUnavailable && (got.problem == "unavailable" || got.problem == "uncommitted") && l.tolerated(redisAway, began):
		l.refusals.Add(1)
		return false
	case got.problem == "outcome-unknown" && r.path != "/orders" && (isBroken || l.tolerated(redisAway|connectionsBreak, began)):
		if r.path == "/bookings" { // the upstream is still at work, or the gateway could not ask it
			return false
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.unknown = true
		return true
	case got.status == http.StatusBadGateway && (isBroken || l.tolerated(redisAway, began)): // a lease that is lost ends its call of the upstream
		return false
	default:
		l.t.Errorf("%s %s: the answer is %+v", r.path, r.key, got)
		return true
	}
}

// sendOpen sends a request to a route that is not protected. Only the end of its gateway may
// interrupt it.
func (l *load) sendOpen(client *http.Client, random *mathrand.Rand) {
	began := l.now()
	method := []string{http.MethodGet, http.MethodPost}[random.IntN(2)]
	got, err := do(client, method, fmt.Sprint(l.url, "/open/", random.IntN(1000)), "", "")
	switch {
	case err != nil && l.tolerated(connectionsBreak, began):
		l.broken.Add(1)
	case err != nil:
		l.t.Errorf("a route that is not protected: %v", err)
	case got.status != http.StatusOK || got.body != "open":
		l.t.Errorf("a route that is not protected: the answer is %+v", got)
	default:
		l.open.Add(1)
	}
}
