package idemtest_test

import (
	"context"
	"fmt"
	"log"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/idemtest"
)

// A service for a test takes one line. In this example t is a stand-in. In your test it is the
// *testing.T.
func Example() {
	t := new(exampleTest)
	defer t.end()

	svc := idemtest.NewService(t, nil)

	req := redisidem.Request{Method: "POST", Path: "/orders"}
	for range 2 { // the request and its retry
		answer, replayed, err := redisidem.Do(context.Background(), svc.Scope("tenant-42"), "key-from-the-client", req,
			func(context.Context, *redisidem.Stage) (string, error) { return "order 1", nil })
		fmt.Println(answer, replayed, err)
	}
	// Output:
	// order 1 false <nil>
	// order 1 true <nil>
}

// A worker dies. Its lease lapses when the test advances the clock.
func ExampleServer_FastForward() {
	t := new(exampleTest)
	defer t.end()
	ctx := context.Background()
	req := redisidem.Request{Method: "POST", Path: "/orders"}

	srv := idemtest.NewServer(t)
	dead, alive := srv.Service(nil).Scope("tenant-42"), srv.Service(nil).Scope("tenant-42")
	key, err := dead.InitializeRequest(ctx, "k", req)
	if err != nil {
		fmt.Println(err)
		return
	}
	lease, err := dead.Lock(ctx, "k")
	if err != nil {
		fmt.Println(err)
		return
	}
	work := func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Finish(redisidem.JSON(201, "order 1")), nil
	}

	srv.FastForward(srv.Service(nil).Config().Lease)
	key, err = alive.WorkStage(ctx, key, work)
	fmt.Println(key.RecoveryPoint, err)
	_, err = lease.Commit(ctx, redisidem.Finish(redisidem.JSON(201, "order 2")))
	fmt.Println(err)
	// Output:
	// finished <nil>
	// redisidem: fenced: another worker has claimed the key
}

// After an outage between the work and its commit, the outcome is unknown to the caller.
func ExampleServer_DropReplies() {
	t := new(exampleTest)
	defer t.end()
	ctx := context.Background()
	req := redisidem.Request{Method: "POST", Path: "/orders"}

	srv := idemtest.NewServer(t)
	sc := srv.Service(&redisidem.Config{Timeout: redisidem.DefaultTimeout}).Scope("tenant-42")
	_, err := sc.Do(ctx, "k", req, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		srv.DropReplies()
		return redisidem.Finish(redisidem.JSON(201, "order 1")), nil
	})
	fmt.Println("unknown:", err != nil)

	srv.Restart()
	key, err := sc.Retrieve(ctx, "k")
	fmt.Println(string(key.Response.Body), err)
	// Output:
	// unknown: true
	// "order 1" <nil>
}

// exampleTest is a stand-in for a test.
type exampleTest struct{ cleanups []func() }

func (t *exampleTest) Helper()                           {}
func (t *exampleTest) Context() context.Context          { return context.Background() }
func (t *exampleTest) Cleanup(f func())                  { t.cleanups = append(t.cleanups, f) }
func (t *exampleTest) Errorf(format string, args ...any) { log.Printf(format, args...) }
func (t *exampleTest) Fatalf(format string, args ...any) { log.Fatalf(format, args...) }

func (t *exampleTest) end() {
	for len(t.cleanups) > 0 {
		last := len(t.cleanups) - 1
		f := t.cleanups[last]
		t.cleanups = t.cleanups[:last]
		f()
	}
}

func TestExamplesOfSuites(t *testing.T) {
	t.Parallel()
	t.Run("CrashMatrix", func(t *testing.T) { t.Parallel(); testCheckout(t) })
}
