//go:build unix

package gateway

import (
	"crypto/rand"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// upstream is the service behind the gateways. It counts what it does for each key. The beginning
// of a key says how it treats the request:
//
//   - "slow": it works for longer than a lease.
//   - "broken": the answer of the first run breaks off.
//
// It stops working when the connection of a request ends. It can be asked for the outcome of a
// booking: GET /bookings/by-key/{key}.
type upstream struct {
	*httptest.Server

	mu   sync.Mutex
	work map[string]*work // by key
}

// work is what an upstream has done for a key.
type work struct {
	runs      int
	answers   []string // of the runs that ended
	underWay  int
	began     []time.Time   // for each run
	overlap   time.Duration // the longest time for which two runs were under way
	fence     int64         // the highest so far
	oldFences int           // runs with a fence that did not grow
}

// slowWork is longer than the lease of the gateways.
const slowWork = 3 * lease / 2

func newUpstream(t testing.TB) *upstream {
	t.Helper()
	u := &upstream{work: make(map[string]*work)}
	u.Server = httptest.NewServer(http.HandlerFunc(u.serve))
	t.Cleanup(u.Close)
	return u
}

func (u *upstream) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/open/") {
		sleep(r, ordinaryWork(r.URL.Path))
		_, _ = w.Write([]byte("open"))
		return
	}
	if key, asks := strings.CutPrefix(r.URL.Path, "/bookings/by-key/"); asks {
		u.report(w, key)
		return
	}
	key := strings.Trim(r.Header.Get("Idempotency-Key"), `"`)
	fence, _ := strconv.ParseInt(r.Header.Get("Idempotency-Fence"), 10, 64) // without one it is 0, which has not grown
	n := u.begin(key, fence)
	defer u.end(key, n)
	kind, _, _ := strings.Cut(key, "-")
	took := ordinaryWork(key)
	if kind == "slow" {
		took = slowWork
	}
	sleep(r, took)
	if r.Context().Err() != nil {
		return
	}
	answer := u.answer(key, n)
	if kind == "broken" && n == 1 {
		panic(http.ErrAbortHandler)
	}
	sendAnswer(w, answer)
}

func sendAnswer(w http.ResponseWriter, answer string) {
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write([]byte(answer))
}

// answer does the work of a run, and returns its answer.
func (u *upstream) answer(key string, run int) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	answer := fmt.Sprintf("%s run %d: %s", key, run, rand.Text())
	u.work[key].answers = append(u.work[key].answers, answer)
	return answer
}

// report says what became of a key: its answer, 404 if its work was not done, and 409 while it is
// under way.
func (u *upstream) report(w http.ResponseWriter, key string) {
	switch k := u.done(key); {
	case len(k.answers) > 0:
		sendAnswer(w, k.answers[0])
	case k.underWay > 0:
		w.WriteHeader(http.StatusConflict)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// sleep blocks for a time, or until the connection of the request ends.
func sleep(r *http.Request, d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	}
}

// ordinaryWork returns how long the work for a name takes, 10 to 40 ms.
func ordinaryWork(name string) time.Duration {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(name))
	return time.Duration(10+sum.Sum32()%30) * time.Millisecond
}

func (u *upstream) begin(key string, fence int64) (run int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	k := u.work[key]
	if k == nil {
		k = &work{}
		u.work[key] = k
	}
	if fence <= k.fence {
		k.oldFences++
	}
	k.underWay++
	k.runs, k.began, k.fence = k.runs+1, append(k.began, time.Now()), max(k.fence, fence)
	return k.runs
}

func (u *upstream) end(key string, run int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	k := u.work[key]
	k.underWay--
	if k.runs > run {
		k.overlap = max(k.overlap, time.Since(k.began[run])) // since the next one began
	}
}

// done returns what was done for a key so far.
func (u *upstream) done(key string) work {
	u.mu.Lock()
	defer u.mu.Unlock()
	if k := u.work[key]; k != nil {
		return *k
	}
	return work{}
}
