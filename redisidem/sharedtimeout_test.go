package redisidem

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestOperationEndsWithinItsTimeout begins operations at many times, and watches when they end.
func TestOperationEndsWithinItsTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		timeouts := sharedTimeouts{after: 64 * time.Second}
		seen := make(map[*sharedTimeout]bool)
		for range 1000 {
			began := time.Now()
			c := timeoutContext{context.Background(), timeouts.begin()}
			seen[c.sharedTimeout] = true
			deadline, ok := c.Deadline()
			if left := deadline.Sub(began); !ok || left > 64*time.Second || left <= 63*time.Second {
				t.Errorf("an operation has %v", left)
			}
			time.Sleep(50 * time.Millisecond)
			if err := c.Err(); err != nil {
				t.Errorf("it ends with %v before its time", err)
			}
		}
		if n := len(seen); n < 50 || n > 51 { // in 50 s
			t.Errorf("%d timeouts were made", n)
		}
		for timeout := range seen {
			select {
			case <-timeout.passed:
			case <-time.After(2 * time.Minute):
				t.Fatal("a timeout does not pass")
			}
			if now := time.Now(); now.Before(timeout.at) {
				t.Errorf("a timeout passed %v early", timeout.at.Sub(now))
			}
			if err := (timeoutContext{context.Background(), timeout}).Err(); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the error is %v", err)
			}
		}
	})
}

// TestDetachedOperationHasOnlyTheValuesOfItsCaller runs an operation whose caller has left.
func TestDetachedOperationHasOnlyTheValuesOfItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Service{timeouts: &sharedTimeouts{after: time.Second}}
		type name struct{}
		caller, leave := context.WithCancel(context.WithValue(context.Background(), name{}, "value"))
		ctx, cancel := s.detached(caller)
		defer cancel()
		inner, stop := context.WithCancel(ctx)
		defer stop()
		leave()
		synctest.Wait()
		if ctx.Err() != nil || inner.Err() != nil || context.Cause(ctx) != nil || ctx.Value(name{}) != "value" {
			t.Errorf("the contexts end with %v and %v", ctx.Err(), inner.Err())
		}
		<-inner.Done()
		if err := inner.Err(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the inner context ends with %v", err)
		}
	})
}

// TestBoundedOperationEndsWithItsCaller runs an operation whose caller leaves.
func TestBoundedOperationEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	s := &Service{cfg: Config{Timeout: time.Hour}, timeouts: &sharedTimeouts{after: time.Hour}}
	caller, leave := context.WithCancel(context.Background())
	ctx, cancel := s.bounded(caller)
	defer cancel()
	leave()
	<-ctx.Done()
	if err := ctx.Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
}
