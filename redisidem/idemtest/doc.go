// Package idemtest is the test kit for programs that use redisidem: a Redis in the test's process, outages of it at will, and
// two suites that look for what only a crash or another client would show.
//
//   - [NewServer] is an embedded Redis with a clock that can be put forward, and [Server.Stop], [Server.Hang] and
//     [Server.DropReplies] are three ways in which it fails. [NewService] is a service on one, for tests that need no more.
//   - [CrashMatrix] runs a flow, kills it before and after each stage and each commit, lets another process resume it, and
//     checks that all effects happened as often as promised and that the answer is the same.
//   - [Conformance] checks that a service keeps its promise with a client of one's own.
//
// What it shows is no proof for a server: the embedded one has no persistence, replicas or memory limit. Run
// [redisidem.Service.Check] against the real one, and both suites as well.
//
// The embedded server needs no network, so that it also works inside the bubbles of testing/synctest, where a lease of ten
// seconds lapses at once.
package idemtest
