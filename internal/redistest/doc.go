// Package redistest runs real Redis servers for tests and benchmarks: a standalone server, a server
// with replicas, a cluster, a Sentinel group. A server can be paused, killed and restarted. A
// [Proxy] in front of it can lose requests and replies. Package faultnet injects faults inside a
// process.
//
// All servers are plain processes on the loopback interface. Each has a free port and its own
// folder. Servers do not persist data unless asked to. On Linux they end with the process that
// started them, however it ends. The program is redis-server on the path, or the command in
// [Variable], so that the same tests run on other versions and on Valkey.
//
// The servers need Redis 7.0 or later. Package rediscase starts the same servers for a
// [testing.TB].
package redistest
