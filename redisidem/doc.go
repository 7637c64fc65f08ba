// Package redisidem makes retries safe. A request carries an idempotency key; the key's record in
// Redis remembers how far the work got and, in the end, the response. A retry continues from there,
// and a retry of finished work gets the same bytes back.
//
// # The promise
//
// Each accepted commit of a key is a revision: 0, 1, 2, ...
//
//   - For one key and one revision at most one result is ever stored. Every caller that gets an
//     answer for it gets that answer, byte for byte, until the record expires. A finished key never
//     changes.
//   - A result whose call returned [ErrFenced] is never stored. A result whose call reported a
//     commit is stored.
//   - One callback runs per lease. A second one can start only after a lease ended without a
//     commit: after a crash, a pause longer than the lease, or Redis losing data. The first
//     callback's context is cancelled by then or, if its process was frozen, before WorkStage
//     returns. While the record survives, each run has a larger [Stage.Fence].
//
// # What it does not promise
//
// Side effects outside Redis happen at least once: a process can die between charging a card and
// saying so. The fence, the attempt number and [Stage.OutboundKey] let the other side make them
// effectively once.
//
// Redis replicates asynchronously, so a failover may forget acknowledged writes; Config.Durability
// closes that when one of the replicas that acknowledged is promoted. A Redis that evicts forgets
// keys; [Open] refuses one, [New] leaves that to [Service.Check]. A key is forgotten when its
// retention ends.
//
// # Words
//
// A key is one idempotency key with its record; a [Scope] says whose it is. A recovery point is
// where the work continues: [Started], [Finished] and the program's own between. A stage is the
// work between two of them, and its [Outcome] names the next one and perhaps a [Response]. A
// [Lease] is the right to work on a key. Retention is how long a record is kept, the lease how long
// a silent worker keeps its key: a day and some seconds.
//
// # Where to begin
//
// [Do] runs work of one stage. A [Flow] has several, with what is to be done when one of them
// fails, is in doubt, or has to be undone: [Scope.DoFlow] runs it, and a [Completer] finishes keys
// whose clients never came back. [Scope.InitializeRequest] and [Scope.WorkStage] make loops over
// stages by hand. All stand on [Lease], which can be taken by itself with [Scope.Lock].
//
// Package httpidem brings keys to HTTP, and package consumer brings them to the messages of a
// queue. Package idemtest is for the tests of programs that use this one.
package redisidem
