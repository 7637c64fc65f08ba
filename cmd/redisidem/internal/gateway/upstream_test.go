package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// slowUpstream is an upstream that answers when it is released.
type slowUpstream struct {
	*httptest.Server
	began   chan struct{}
	release chan struct{}
	runs    atomic.Int64
}

func newSlowUpstream(t *testing.T) *slowUpstream {
	t.Helper()
	u := &slowUpstream{began: make(chan struct{}, 10), release: make(chan struct{})}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := u.runs.Add(1)
		u.began <- struct{}{}
		<-u.release // also after the end of its connection, as a service that charges does
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprint(w, "charge ", n)
	}))
	t.Cleanup(u.Close)
	return u
}

// TestUpstreamThatIsSlowerThanItsTimeLimitChargesOnce holds the answer back for longer than the
// client waits, whatever the policy for interrupted requests.
func TestUpstreamThatIsSlowerThanItsTimeLimitChargesOnce(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"{}", "{interrupted: run}", "{interrupted: ask, ask: '/by-key/{key}'}", "{stream: true}"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			up := newSlowUpstream(t)
			b := &bench{T: t}
			b.serve(&Upstream{URL: parse(t, up.URL), Timeout: 100 * time.Millisecond}, "defaults: "+policy, Unscoped)
			send := func() answered { return b.send("POST", "/charges", "cents=1200", "Idempotency-Key", "k") }

			late := send()
			b.want(late, 504, "The request is still running", false)
			if late.header.Get("Idempotency-Problem") != "timed-out" || late.header.Get("Retry-After") == "" {
				t.Errorf("%v", late.header)
			}
			for range 3 {
				b.want(send(), 409, "outstanding", false)
			}
			close(up.release)
			var got answered
			for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
				if got = send(); got.status != http.StatusConflict {
					break
				}
			}
			b.want(got, 201, "charge 1", true)
			if n := up.runs.Load(); n != 1 {
				t.Errorf("the upstream received the request %d times", n)
			}
			for _, line := range []string{`"msg":"request ended after its client was answered","key":"` + b.id("k"), `"result":"timed-out"`} {
				b.logs(line)
			}
		})
	}
}

// TestRequestWithoutALeaseEndsAtItsTimeLimit has no key, so that its answer could be kept for no
// retry.
func TestRequestWithoutALeaseEndsAtItsTimeLimit(t *testing.T) {
	t.Parallel()
	up := newSlowUpstream(t)
	defer close(up.release)
	b := &bench{T: t}
	b.serve(&Upstream{URL: parse(t, up.URL), Timeout: time.Second}, "", Unscoped)
	b.want(b.send("POST", "/charges", ""), 504, "may have executed the request", false)
	b.want(b.send("GET", "/charges", ""), 504, "may have executed the request", false)
}
