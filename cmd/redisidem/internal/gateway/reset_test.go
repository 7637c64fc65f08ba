package gateway

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
)

// TestClientsThatLeaveAtOnceAreNoAttempts has clients that reset their connection within 0.8 ms of
// their request. What has never reached the upstream was never attempted, whatever becomes of
// interrupted requests.
func TestClientsThatLeaveAtOnceAreNoAttempts(t *testing.T) {
	t.Parallel()
	for server, addr := range map[string]func(*testing.T) string{
		"miniredis": func(*testing.T) string { return "" },
		"redis":     func(t *testing.T) string { return rediscase.Server(t).Addr() },
	} {
		for _, pipelined := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/pipelined=%t", server, pipelined), func(t *testing.T) {
				leaveAtOnce(t, addr(t), pipelined)
			})
		}
	}
}

// asked is how often an upstream was asked to do each request, and the header of the last
// attempt.
type asked struct {
	mu      sync.Mutex
	times   map[string]int
	attempt map[string]string
}

func (a *asked) of(key string) (times int, attempt string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.times[key], a.attempt[key]
}

func leaveAtOnce(t *testing.T, addr string, pipelined bool) {
	t.Helper()
	b := setUpAt(t, addr, `
routes:
  - {match: POST /run, interrupted: run}
  - {match: POST /refuse, interrupted: refuse}
  - {match: POST /ask, interrupted: ask, ask: "/by-key/{key}"}
`, Unscoped, func(c *redisidem.Config) { c.AutoPipeline, c.Timeout = pipelined, 5*time.Second })
	done := &asked{times: make(map[string]int), attempt: make(map[string]string)}
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusNotFound) // it was not done
			return
		}
		key := strings.Trim(r.Header.Get("Idempotency-Key"), `"`)
		done.mu.Lock()
		done.times[key]++
		done.attempt[key] = r.Header.Get("Idempotency-Attempt")
		done.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
	})
	const clients = 300
	paths := []string{"/run", "/refuse", "/ask"}
	keyOf := func(i int) string { return fmt.Sprint("k", i) }
	var wg sync.WaitGroup
	turns := make(chan struct{}, 4)
	for i := range clients {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			resetAfter(t, b.server.Listener.Addr().String(), paths[i%len(paths)], keyOf(i), time.Duration(rand.IntN(800))*time.Microsecond)
		})
	}
	wg.Wait()
	never := 0
	for i := range clients {
		key, path := keyOf(i), paths[i%len(paths)]
		for deadline := time.Now().Add(8 * time.Second); ; time.Sleep(2 * time.Millisecond) {
			before, _ := done.of(key)
			got := b.send("POST", path, "the body", "Idempotency-Key", `"`+key+`"`)
			if got.status == http.StatusConflict && time.Now().Before(deadline) {
				continue // its first request has not ended yet
			}
			times, attempt := done.of(key)
			replayed := got.header.Get("Idempotency-Replayed") == "true"
			switch {
			case before > 0: // what became of it may be unknown
			case got.status != http.StatusCreated || times != 1 || attempt != "1":
				t.Errorf("%s: %d %s; the upstream was asked %d times, last for attempt %s", path, got.status, got.body, times, attempt)
			case !replayed:
				never++
			}
			break
		}
	}
	t.Logf("%d of %d requests had not reached the upstream before their retry", never, clients)
	if never == 0 {
		t.Error("each client was served before it left: the test shows nothing")
	}
}

// resetAfter sends a request and resets the connection after some time, whatever has come of it by
// then.
func resetAfter(t *testing.T, addr, path, key string, after time.Duration) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil { //nolint:errcheck // it is a TCP connection
		t.Error(err)
	}
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nIdempotency-Key: \"%s\"\r\nContent-Length: 8\r\n\r\nthe body", path, addr, key)
	if err != nil {
		t.Error(err)
	}
	time.Sleep(after)
	_ = conn.Close()
}

// TestRequestWhoseRecordIsLostIsNeverOutstanding empties Redis while the upstream works on a
// request.
func TestRequestWhoseRecordIsLostIsNeverOutstanding(t *testing.T) {
	t.Parallel()
	for _, interrupted := range []string{"run", "refuse"} {
		for _, overtaken := range []bool{false, true} {
			b := setUp(t, "{routes: [{match: POST /, interrupted: "+interrupted+"}]}", Unscoped)
			send := func() answered { return b.send("POST", "/", "the body", "Idempotency-Key", `"k"`) }
			var attempts []string
			b.answer(func(w http.ResponseWriter, r *http.Request) {
				attempts = append(attempts, r.Header.Get("Idempotency-Attempt"))
				if len(attempts) == 1 {
					b.redis.FlushAll()
					if overtaken {
						b.want(send(), http.StatusCreated, "", false)
					}
				}
				w.WriteHeader(http.StatusCreated)
			})
			if got := send(); got.status != http.StatusCreated && (got.status != http.StatusServiceUnavailable ||
				!strings.Contains(got.body, "outcome of this request is unknown")) {
				t.Errorf("%s, overtaken %t: %d %s", interrupted, overtaken, got.status, got.body)
			}
			b.want(send(), http.StatusCreated, "", overtaken)
			b.want(send(), http.StatusCreated, "", true)
			if len(attempts) != 2 || attempts[0] != "1" || attempts[1] != "1" {
				t.Errorf("%s, overtaken %t: the upstream received the attempts %q", interrupted, overtaken, attempts)
			}
		}
	}
}
