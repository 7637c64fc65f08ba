package main

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

// TestQuotaHoldsAcrossGateways starts three gateways, kills one and stops one. The limit of
// requests in flight holds for them together, and the third gets the places of the other two.
func TestQuotaHoldsAcrossGateways(t *testing.T) {
	t.Parallel()
	const limit = 40
	redis := rediscase.Server(t)
	var inFlight atomic.Int64
	hold := make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		inFlight.Add(1)
		<-hold
		w.WriteHeader(http.StatusCreated)
	}))
	defer up.Close()
	defer release()
	args := []string{"--upstream", up.URL, "--scope", "header:X-Tenant", "--scope-in-flight", "40"}
	killed, stopped, third := start(t, redis.Addr(), args...), start(t, redis.Addr(), args...), start(t, redis.Addr(), args...)

	ctx, leave := context.WithCancel(t.Context())
	var requests sync.WaitGroup
	var refused atomic.Int64
	send := func(gateways ...*process) {
		before := refused.Load()
		for i := 0; refused.Load() < before+4; i++ {
			done, settled := make(chan struct{}), inFlight.Load()
			requests.Go(func() {
				defer close(done)
				if got, err := post(ctx, http.DefaultClient, gateways[i%len(gateways)].url, "k-"+rand.Text()); err == nil && got.status == http.StatusTooManyRequests {
					refused.Add(1)
				}
			})
			within(t, time.Minute, "the request is refused or in flight", func() bool {
				select {
				case <-done:
					return true
				default:
					return inFlight.Load() > settled
				}
			})
			if i > 3*limit {
				t.Fatal("there is no limit")
			}
		}
	}
	between := func(what string, n, least, most int64) {
		t.Helper()
		if n < least || n > most {
			t.Errorf("%s: %d, want %d to %d", what, n, least, most)
		}
	}
	send(killed, stopped)
	both := inFlight.Load()
	between("of two gateways", both, limit-limit/8, limit)

	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := stopped.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, "the shares of the other two have lapsed", func() bool {
		send(third)
		return inFlight.Load() >= both+limit/2
	})
	send(third)
	between("of the third", inFlight.Load()-both, limit-limit/8, limit)

	if err := stopped.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	all := inFlight.Load()
	send(stopped)
	between("of the gateway that was stopped, anew", inFlight.Load()-all, 0, limit/8)
	release()
	leave()
	requests.Wait()
}
