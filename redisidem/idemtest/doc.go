// Package idemtest is the test kit for programs that use redisidem.
//
//   - [NewServer] starts an embedded Redis whose clock can be advanced. [Server.Stop],
//     [Server.Hang] and [Server.DropReplies] simulate outages. [NewService] returns a service on a
//     server of its own.
//   - [CrashMatrix] runs a flow, kills it before and after each stage and each commit, and lets
//     another process resume it. It checks that all effects happened as often as promised, and that
//     the response is the same.
//   - [AdoptMatrix] does the same with keys of the earlier versions of a flow, at each of their
//     recovery points.
//   - [Conformance] checks that a service keeps its promises with your own client.
//
// A test on the embedded server proves nothing about a real one: the embedded server has no
// persistence, replicas or memory limit. Run [redisidem.Service.Check] and both suites against the
// real server as well.
//
// The embedded server needs no network. It also works inside the bubbles of testing/synctest, where
// a lease of ten seconds lapses at once.
package idemtest
