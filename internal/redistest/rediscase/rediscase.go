// Package rediscase starts the servers of package redistest for one test. They are stopped at the
// end of the test. Without a server program the test is skipped, or fails if [Variable] is set.
package rediscase

import (
	"os"
	"testing"

	"github.com/redisidem/redisidem/internal/redistest"
)

// Variable is an environment variable. If it is 1, tests that would be skipped for lack of a server
// fail instead. A run that must have servers therefore cannot pass without them.
const Variable = "REDISIDEM_REQUIRE_SERVERS"

// Need skips or fails the test if no server can be started.
func Need(t testing.TB) {
	t.Helper()
	if err := redistest.Available(); err != nil {
		if os.Getenv(Variable) == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// Server starts a standalone server for the test.
func Server(t testing.TB, opts ...redistest.Option) *redistest.Server {
	t.Helper()
	Need(t)
	s, err := redistest.Start(opts...)
	return owned(t, s, err)
}

// Replicated starts a master with replicas for the test.
func Replicated(t testing.TB, replicas int, opts ...redistest.Option) *redistest.Replicated {
	t.Helper()
	Need(t)
	r, err := redistest.StartReplicated(replicas, opts...)
	return owned(t, r, err)
}

// Cluster starts a cluster for the test.
func Cluster(t testing.TB) *redistest.Cluster {
	t.Helper()
	Need(t)
	c, err := redistest.StartCluster()
	return owned(t, c, err)
}

// Sentinel starts a Sentinel group for the test.
func Sentinel(t testing.TB) *redistest.Sentinel {
	t.Helper()
	Need(t)
	g, err := redistest.StartSentinel()
	return owned(t, g, err)
}

// Proxy starts a proxy in front of the server at an address, for the test.
func Proxy(t testing.TB, upstream string) *redistest.Proxy {
	t.Helper()
	p, err := redistest.StartProxy(upstream)
	return owned(t, p, err)
}

// BlackHole starts a black hole for the test.
func BlackHole(t testing.TB) *redistest.BlackHole {
	t.Helper()
	b, err := redistest.StartBlackHole()
	return owned(t, b, err)
}

// owned stops thing at the end of the test. If thing could not be started, it ends the test.
func owned[T interface{ Stop() }](t testing.TB, thing T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(thing.Stop)
	return thing
}
