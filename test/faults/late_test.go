//go:build unix

package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// TestClaimAfterItsCallerHasLeft delays a claim, either all of it or the part behind the lock. The
// claim arrives after its caller was cancelled and the library has given back the lease that the
// claim might have taken.
func TestClaimAfterItsCallerHasLeft(t *testing.T) {
	t.Parallel()
	markers := map[string]string{"lock and claim": ":lock\r\n", "claim": lua.Claim.SHA}
	for _, name := range backends {
		for _, auto := range []bool{false, true} {
			for held, marker := range markers {
				t.Run(fmt.Sprintf("%s/auto=%t/%s", name, auto, held), func(t *testing.T) {
					t.Parallel()
					c := newCell(t, newBackend(t, name), auto, operations[0], fault{})
					_, err := c.other.InitializeRequest(context.Background(), value, request)
					must(t, err)
					struck := c.proxy.Once(redistest.HoldRequest, marker)
					c.running.Go(func() {
						<-struck
						c.cancel()
					})
					_, err = c.scope.Do(c.ctx, value, request, c.work)
					if !errors.Is(err, redisidem.ErrUnavailable) || !errors.Is(err, context.Canceled) {
						t.Errorf("the caller gets %v", err)
					}
					c.awaitSpent()
					c.arrive()
					runs := 0
					key, err := c.other.Do(context.Background(), value, request,
						func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
							runs++
							return answer("retry"), nil
						})
					if err != nil || runs != 1 || key.Attempts != 1 || c.runs.Load() != 0 {
						t.Errorf("the retry ran %d times and got %+v, %v", runs, key, err)
					}
				})
			}
		}
	}
}

// awaitSpent blocks until the record shows that an attempt has ended.
func (c *cell) awaitSpent() {
	c.t.Helper()
	for began := time.Now(); time.Since(began) < patience; time.Sleep(5 * time.Millisecond) {
		const spent = 7
		if control := strings.Fields(c.snapshot()["control"]); len(control) > spent && control[spent] != "-" {
			return
		}
	}
	c.t.Fatal("the claim is not given back")
}
