// Package sqlidem runs a stage of package redisidem in a SQL transaction, together with a row that
// says that the stage was done and what it returned.
//
//	store, err := sqlidem.New(db, sqlidem.Config{Dialect: sqlidem.PostgreSQL})
//	err = store.Migrate(ctx)
//	stage := store.Stage(placeOrder) // a function that gets the *sql.Tx
//	key, err := svc.Scope(customer).Do(ctx, idempotencyKey, request, stage)
//
// It imports no driver. With SQLite, set busy_timeout in the data source name: see Config.Dialect.
//
// # Promise
//
// A visit to a stage is its run, with all repetitions, until Redis has stored its outcome. Visits
// are numbered: visit n is the same one in each record of a key. Each visit's SQL effects happen
// once: of all transactions that Store.Stage begins for a visit, one at most is committed, and
// every run of the visit after it returns the outcome of that one, byte for byte. A visit that was
// undone does not answer any more: a later record runs it again. No visit is undone twice. This
// holds when processes are killed at any moment, when a worker is stopped for longer than its
// lease, when the reply to COMMIT is lost, and when Redis fails over, loses the record or loses all
// of its data.
//
// It needs a database that keeps what it has committed, and lasts until [Store.Prune] removes the
// row: a retry after Config.Retention gets the stored outcome, too, with Key.Replayed false. It
// covers what the function does with its transaction, in the database of the [Store], and the
// events of [Store.Publish]. It does not cover:
//
//   - other databases and calls of other services. They can happen more than once, inside of the
//     function as well: use [redisidem.Stage.OutboundKey] for them, in a stage of their own.
//   - effects of package effect. They are applied with the commit to Redis: once for each record.
//     After Redis has lost the record, they are applied to the new one again.
//   - statements that the database does not roll back, such as sequences and, in MySQL, statements
//     that change the schema.
//   - a key that an operator ends or deletes by hand while a worker is inside of the transaction.
//     The transaction may still be committed.
//   - a key that is deleted and used again after Redis has also lost the trace of the delete: see
//     [redisidem.Stage.OutboundKey]. The first record's outcomes are returned again.
//   - a failover of Redis that loses the commit with which a flow has failed, when one of its
//     stages is already undone. The flow may go on behind that stage: later stages must check that
//     the earlier ones' effects are still there.
//   - a retry that ends the flow earlier than the first run did, after Redis has lost the record:
//     it is canceled, or another service answers otherwise. It undoes the visits to which it has
//     come. Visits to which only the first run has come keep their effects.
//   - a flow that is failed at a stage of which Redis has lost both the claim and the commit, by a
//     failover. No attempt at the stage has begun as far as Redis knows, so Reconcile is not asked,
//     and the visit keeps its effects.
//   - compensations of a stage whose Work is not a Store's. They run again for a later record, as
//     the Work does.
//   - a record that is made after the first of Config.FingerprintKeys has changed, when Redis has
//     lost the one before it.
//   - a failover of Redis that loses commits of a key which then makes more than 64 further ones,
//     snoozes not counted, before it comes to the stage again: its journal goes back that far.
//   - a commit that the stage makes without the Store, such as a Snooze in front of it, after a
//     failover has lost the commit of its visit. It may be taken for that visit, and the work runs
//     again: let all outcomes of the stage come from the Store.
//   - what a stage wrote with a Snooze, if the stage snoozes several times and the flow fails. Only
//     its last snooze and its commit are undone: with a Snooze, write what may stay.
//   - a stage that was renamed, or that reads another form of state, while rows of its old form
//     exist, which is until [Store.Prune]. A later version of the flow gets the outcome that was
//     stored, without an Adopt, if the record has expired meanwhile.
//
// # One run
//
// A run begins a transaction and writes the row of the key, which locks it. The row has the highest
// fence that was committed, and a worker with a lower one gets [redisidem.ErrFenced]. Then it looks
// for the row of the visit. If that is there, the stored outcome is returned. The transaction is
// rolled back, or committed if it marks the row of a visit that was made in a lost record. If not,
// the function runs, its outcome is stored in the row of the visit, and the transaction is
// committed.
//
// The lock of the key's row comes first, so that two workers never run the function side by side,
// and so that a repetition waits until the database has decided about the transaction before it.
// After COMMIT has failed, in whatever way, the run takes the lock again and looks for the row: it
// then knows whether the transaction was committed. It returns [redisidem.ErrOutcomeUnknown] only
// if the database does not answer. The next run of the stage then finds out.
//
// After a deadlock, a serialization failure, a lock timeout or a lost connection, the transaction
// runs again within the same attempt of the stage, at most Config.Tries times.
//
// docs/sql.md of the repository has more: isolation levels, timeouts, retention and the outbox.
package sqlidem
