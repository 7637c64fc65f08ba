package sqlidem

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// commitError is the error of a COMMIT. The transaction was committed or not.
type commitError struct{ err error }

func (e *commitError) Error() string { return "sqlidem: commit: " + e.err.Error() }
func (e *commitError) Unwrap() error { return e.err }

// connectionError is the error of a query or a transaction whose connection was refused, or lost
// before COMMIT, so that the database rolls it back.
type connectionError struct{ err error }

func (e *connectionError) Error() string { return e.err.Error() }
func (e *connectionError) Unwrap() error { return e.err }

var errEnded = errors.New("sqlidem: the work has ended its transaction, which is left to the Store")

// transact runs work in a transaction, within Config.Timeout. It commits the transaction if work
// says so and returns no error, and rolls it back otherwise. It returns the error of work, with the
// name of the bound if it comes from the end of that. The error of COMMIT is a *commitError.
func (s *Store) transact(
	outer context.Context, options *sql.TxOptions, work func(ctx context.Context, tx *sql.Tx) (commit bool, err error),
) (err error) {
	ctx, cancel := s.bounded(outer)
	defer cancel()
	defer func() {
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil && outer.Err() == nil {
			err = fmt.Errorf("sqlidem: the transaction has taken longer than Config.Timeout (%v): %w", s.cfg.Timeout, err)
		}
	}()
	tx, err := s.db.BeginTx(ctx, options)
	if err != nil {
		if ctx.Err() == nil {
			err = &connectionError{err}
		}
		return fmt.Errorf("sqlidem: begin: %w", err)
	}
	returned := false
	defer func() {
		if !returned { // work has panicked, or ended the goroutine
			_ = tx.Rollback()
		}
	}()
	commit, err := work(ctx, tx)
	returned = true
	if !commit || err != nil {
		return rollback(ctx, tx, err)
	}
	if err := tx.Commit(); err != nil {
		return &commitError{err}
	}
	return nil
}

// rollback rolls a transaction back and returns err. If that fails, the connection is lost, and the
// database rolls back by itself.
func rollback(ctx context.Context, tx *sql.Tx, err error) error {
	lost := tx.Rollback()
	switch ended := errors.Is(lost, sql.ErrTxDone); {
	case err == nil, lost == nil, ended && ctx.Err() != nil: // the end of a context rolls back, too
		return err
	case ended:
		return errors.Join(errEnded, err)
	}
	return &connectionError{err}
}

// outside returns the error of a query outside of a transaction, as a *connectionError if it came
// from the connection.
func (s *Store) outside(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || s.dialect.answered(err) {
		return err
	}
	return &connectionError{err}
}

// bounded returns a context that ends after Config.Timeout.
func (s *Store) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.cfg.Timeout < 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, s.cfg.Timeout)
}
