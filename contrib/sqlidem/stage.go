package sqlidem

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/redisidem/redisidem/redisidem"
)

// Work does a stage's work in a transaction. It must not end the transaction. It may run more than
// once, each time in another transaction, of which one is committed. See [redisidem.StageFunc] for
// the context. It ends with the transaction.
//
// It must use tx, and not the [sql.DB]: statements on other connections are not part of the
// transaction. They may also wait for a lock that the transaction has, or for a free connection,
// which they never get with SetMaxOpenConns(1). The run then ends after Config.Timeout, with an
// error that names it and matches [context.DeadlineExceeded].
//
// Every outcome but [redisidem.NothingDone] commits the transaction, also that of
// [redisidem.Fail]: a Work that ends with a refusal and has written something takes it back with a
// savepoint. An error, a panic or a [runtime.Goexit] rolls the transaction back.
type Work func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) (redisidem.Outcome, error)

// Stage returns a stage that runs work in a transaction, and stores its outcome in the same
// transaction. If an earlier run of this visit was committed, it returns the stored outcome, and
// work does not run.
//
// All outcomes of a flow's stage should come from the Store: see the promise of the package.
//
// The errors of work are returned as they are. Otherwise the error matches one of these, and
// nothing was committed unless it says so:
//
//   - [redisidem.ErrFenced]: a later worker of this key has committed to the database. If COMMIT
//     failed before, it may have been done, and the later worker has found its outcome.
//   - [redisidem.ErrOutcomeUnknown]: COMMIT failed, and the database did not answer since. The next
//     run of the stage finds out.
//   - [redisidem.ErrInvalid] and the other errors of [redisidem.Stage.EncodeOutcome]: the outcome
//     cannot be stored.
//   - [ErrSchema]: the schema is missing or too old. Call [Store.Migrate].
//   - [redisidem.ErrDamaged]: the stored outcome cannot be read.
//   - the database's error, or that of the context.
func (s *Store) Stage(work Work) redisidem.StageFunc {
	return func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		if work == nil {
			return redisidem.Outcome{}, invalid("work", "must not be nil")
		}
		v := s.visitAt(st, st.Key().RecoveryPoint)
		v.work = func(ctx context.Context, tx *sql.Tx) (stored []byte, err error) {
			if v.outcome, err = work(ctx, tx, st); err != nil {
				return nil, err
			}
			stored, v.outcome, err = st.EncodeOutcome(v.outcome)
			return stored, err
		}
		v.found = func(stored []byte) (err error) {
			v.outcome, err = st.DecodeOutcome(stored)
			return err
		}
		if err := v.run(ctx); err != nil {
			return redisidem.Outcome{}, err
		}
		return v.outcome, nil
	}
}

// Reconcile returns the Reconcile of a flow's stage whose Work is a [Store.Stage]. It is for stages
// that [Store.FlowStage] does not fit, and for the Config.Reconcile of package consumer. It returns
// the stored outcome if a run of this visit was committed, and [redisidem.ErrNothingDone] if not.
// It then commits its fence, so that an older worker cannot do the work afterwards. A flow that is
// failed while an attempt is open, by its Deadline, by a cancel or by Exhausted, runs no Work that
// would find the outcome: without Reconcile it leaves what the attempt has committed. Its other
// errors are those of Stage.
func (s *Store) Reconcile() redisidem.StageFunc {
	return func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		v := s.visitAt(st, st.Key().RecoveryPoint)
		nothingDone := redisidem.ErrNothingDone
		v.found = func(stored []byte) (err error) {
			nothingDone = nil
			v.outcome, err = st.DecodeOutcome(stored)
			return err
		}
		if err := v.run(ctx); err != nil {
			return redisidem.Outcome{}, err
		}
		return v.outcome, nothingDone
	}
}

// visit is one run of a visit to a stage, or of its compensation.
type visit struct {
	store   *Store
	stage   *redisidem.Stage
	undone  *redisidem.JournalEntry // the commit that a compensation undoes
	key     string                  // the name of the key's row
	visits  string                  // the name of the visits to the stage, or to the one that is undone
	undos   string                  // the name of their undos
	name    string                  // with row.ordinal, the name of the visit's row
	row     row
	outcome redisidem.Outcome

	// work runs in the transaction and returns what is stored for the visit; nil rolls the
	// transaction back. Without work, the transaction only raises the fence of the key. found gets
	// what an earlier run has stored.
	work  func(ctx context.Context, tx *sql.Tx) ([]byte, error)
	found func(stored []byte) error
}

// visitAt returns the visit to a stage, or the compensation of one, at a recovery point.
func (s *Store) visitAt(st *redisidem.Stage, point string) *visit {
	visits := nameAt(st, point, visitName)
	return &visit{store: s, stage: st, key: st.Key().Record(), visits: visits, undos: nameAt(st, point, undoName), name: visits}
}

// run runs the work in one transaction after another, until one is committed, or finds that one
// was.
func (v *visit) run(ctx context.Context) error {
	s := v.store
	pauses := backoff{next: s.cfg.Backoff}
	for try := 1; ; try++ {
		err := v.try(ctx)
		if failed, ok := errors.AsType[*commitError](err); ok {
			if err = v.settle(ctx, failed); err == nil {
				return nil
			}
		}
		if err == nil || errors.Is(err, redisidem.ErrOutcomeUnknown) || try >= s.cfg.Tries || ctx.Err() != nil || !s.retryable(err) {
			return err
		}
		if !pauses.wait(ctx) {
			return err
		}
	}
}

// try runs the work in one transaction.
func (v *visit) try(ctx context.Context) error {
	s := v.store
	if err := s.checkSchema(ctx); err != nil {
		return err
	}
	return s.transact(ctx, s.txOptions(), func(ctx context.Context, tx *sql.Tx) (commit bool, err error) {
		if done, commit, err := v.enter(ctx, tx); done || err != nil {
			return commit, err
		}
		if v.work == nil {
			return true, nil
		}
		stored, err := v.work(ctx, tx)
		if stored == nil || err != nil {
			return false, err
		}
		if _, err = tx.ExecContext(ctx, s.dialect.statement(insertVisit),
			v.name, v.row.ordinal, v.key, v.row.recordCreatedAt, v.row.revision, stored); err != nil {
			return false, fmt.Errorf("sqlidem: store the outcome: %w", err)
		}
		return true, nil
	})
}

// enter locks the row of the key and looks for the row of the visit. It reports whether an earlier
// run was committed, and whether this transaction is to be committed for its mark. A worker that is
// older than one that has committed neither runs the work nor changes a mark.
func (v *visit) enter(ctx context.Context, tx *sql.Tx) (done, commit bool, err error) {
	d := v.store.dialect
	if _, err := tx.ExecContext(ctx, d.statement(d.lock), v.key, v.stage.Fence()); err != nil {
		return false, false, fmt.Errorf("sqlidem: lock the key: %w", err)
	}
	fence, rows, err := v.read(ctx, tx)
	var stored []byte
	found, moved := v.find(rows)
	if found && err == nil {
		stored, err = v.stored(ctx, tx)
	}
	switch {
	case err != nil:
		return false, false, fmt.Errorf("sqlidem: look for the outcome: %w", err)
	case stored != nil && !moved:
		return true, false, v.found(stored)
	case fence > v.stage.Fence():
		return false, false, fmt.Errorf("%w: the database has seen its fence %d, and this worker has %d", redisidem.ErrFenced, fence, v.stage.Fence())
	case stored != nil:
		if err := v.move(ctx, tx); err != nil {
			return false, false, err
		}
		return true, true, v.found(stored)
	}
	return false, false, nil
}

// settle finds out whether a transaction was committed whose COMMIT has failed. It returns nil if
// so, and the error of the COMMIT if not. It waits for the lock of the key's row, which the
// transaction has until the database has decided about it.
//
// The caller may have left, and the work may be done, so the context's end does not stop it.
func (v *visit) settle(ctx context.Context, failed *commitError) error {
	s := v.store
	ctx, cancel := s.bounded(context.WithoutCancel(ctx))
	defer cancel()
	pauses := backoff{next: s.cfg.Backoff}
	for try := 1; ; try++ {
		done := false
		err := s.transact(ctx, s.txOptions(), func(ctx context.Context, tx *sql.Tx) (commit bool, err error) {
			done, commit, err = v.enter(ctx, tx)
			return commit, err
		})
		switch {
		case err == nil && done:
			return nil
		case err == nil:
			return failed
		case errors.Is(err, redisidem.ErrFenced), errors.Is(err, redisidem.ErrDamaged):
			return err // the transaction was not committed, or was and cannot be read
		case s.cfg.Timeout < 0 && try >= s.cfg.Tries, !pauses.wait(ctx):
			return fmt.Errorf("%w: %w, and the look-up after it: %w", redisidem.ErrOutcomeUnknown, failed, err)
		}
	}
}
