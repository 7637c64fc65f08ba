// Package redistest runs real Redis servers for tests and benchmarks: one alone, one with replicas, a cluster, a
// Sentinel group; and it breaks them: a server can be paused, killed and restarted, and a [Proxy] in front of it loses
// requests and replies.
//
// All of it is plain processes on the loopback interface, on ports found free, in folders of their own, without
// persistence unless asked for. On Linux they die with the process that started them, however that ends. The program is
// redis-server on the path, or what [Variable] names, so that the same tests run on other versions and on Valkey.
//
// The servers need Redis 7.0 or later. Package rediscase has the same with a [testing.TB].
package redistest
