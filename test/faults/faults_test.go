//go:build unix

// Package faults tests what callers receive, and what Redis holds, when the path between them
// fails.
//
//   - TestMatrix lets each of eleven faults strike each of five operations, on miniredis and on a
//     Redis server (R7). TestClaimAfterItsCallerHasLeft covers the case that needs more than one
//     fault.
//   - TestOutage measures how long operations take when Redis does not answer (R11).
//   - TestCut cuts Redis off while commits are in flight, and checks that they are stored (R12).
//   - TestRefusal, TestMemory, TestEviction, TestRights and TestMissingRight cover servers that
//     refuse commands, and servers that must not be used (R13).
//
// On a Redis server each state is real. LOADING comes from a slow reload, BUSY from a foreign
// script, READONLY and MASTERDOWN from REPLICAOF. OOM and NOREPLICAS come from the configuration,
// NOSCRIPT from SCRIPT FLUSH. Miniredis only knows NOSCRIPT. For the other states its scripts, and
// the lock's SET, are refused as they arrive.
//
// How to run it at each size:
//
//	go test -count=1 -v ./test/faults -size change
//	go test -count=1 -v ./test/faults -size nightly
//	go test -count=1 -v -timeout 30m ./test/faults -size release
//
// The figures are the lines that begin with "figure".
package faults

import (
	"context"
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/redisidem"
)

const (
	lease     = 30 * time.Second // so long that no lease is renewed during a test
	retention = time.Hour
	timeout   = 4 * time.Second
	patience  = 15 * time.Second

	value = "k" // the value of the key that a cell works on
)

var request = redisidem.Request{Method: "POST", Path: "/orders"}

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	flag.Parse()
	leak.Main(m)
}

// quiet stops go-redis from logging connections that are broken on purpose.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// dial makes a client that leaves retries to the library, as users are advised to.
func dial(t testing.TB, addr string, change ...func(*redis.Options)) *redis.Client {
	t.Helper()
	opt := &redis.Options{
		Addr: addr, ContextTimeoutEnabled: true, DisableIdentity: true, MaxRetries: -1, ReadTimeout: 300 * time.Millisecond,
	}
	for _, f := range change {
		f(opt)
	}
	client := redis.NewClient(opt)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// serve makes a service that is closed before its client.
func serve(t testing.TB, client *redis.Client, change ...func(*redisidem.Config)) *redisidem.Service {
	t.Helper()
	cfg := redisidem.Config{Lease: lease, Retention: retention, Timeout: timeout}
	for _, f := range change {
		f(&cfg)
	}
	svc, err := redisidem.New(client, &cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := svc.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return svc
}

// answer returns the outcome of a stage that finishes the key with body.
func answer(body string) redisidem.Outcome { return redisidem.Finish(redisidem.JSON(201, body)) }

// bodyOf returns the body that was passed to answer.
func bodyOf(key *redisidem.Key) string {
	if key == nil || key.Response == nil {
		return ""
	}
	return strings.Trim(string(key.Response.Body), `"`)
}

// must ends the test at an error of a step that is not under test.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
