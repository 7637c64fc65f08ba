package sqlidem

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"time"
)

// retryable reports whether another transaction may succeed after the error of one, which was not
// committed.
func (s *Store) retryable(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if _, lost := errors.AsType[*connectionError](err); lost || s.dialect.transient(err) {
		return true
	}
	if s.cfg.Retryable != nil && s.cfg.Retryable(err) {
		return true
	}
	// Without a word of the database, COMMIT has failed with its connection.
	_, commit := errors.AsType[*commitError](err)
	return commit && !s.dialect.answered(err)
}

// The codes of deadlocks, serialization failures, lock timeouts, and connections that the server
// ends.
var (
	// SQLSTATE: serialization_failure, deadlock_detected, lock_not_available, admin_shutdown,
	// crash_shutdown, cannot_connect_now, idle_in_transaction_session_timeout.
	postgresTransient = []string{"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "25P03"}
	// ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK, ER_CHECKREAD, ER_SERVER_SHUTDOWN.
	mysqlTransient = []int64{1205, 1213, 1020, 1053}
	// SQLITE_BUSY, SQLITE_LOCKED.
	sqliteTransient = []int64{5, 6}
)

// transient reports whether the database refused a transaction for the sake of another one, or ends
// its connections.
func (d *dialect) transient(err error) bool {
	switch d.name {
	case PostgreSQL:
		state := sqlState(err)
		return slices.Contains(postgresTransient, state) || strings.HasPrefix(state, "08")
	case MySQL:
		return slices.Contains(mysqlTransient, number(err, "Number"))
	default:
		return slices.Contains(sqliteTransient, sqliteCode(err)&0xff)
	}
}

// answered reports whether an error came from the database, and not from the connection.
func (d *dialect) answered(err error) bool {
	switch d.name {
	case PostgreSQL:
		return sqlState(err) != ""
	case MySQL:
		return number(err, "Number") != 0
	default:
		return true
	}
}

// missingTable reports whether a statement failed because a table does not exist.
func (d *dialect) missingTable(err error) bool {
	switch d.name {
	case PostgreSQL:
		return sqlState(err) == "42P01"
	case MySQL:
		return number(err, "Number") == 1146
	default:
		return strings.Contains(err.Error(), "no such table")
	}
}

// sqlState returns the SQLSTATE of an error of pgx or pq, or "".
func sqlState(err error) string {
	if e, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		return e.SQLState()
	}
	return ""
}

// sqliteCode returns the result code of an error of modernc.org/sqlite, which has a method for it,
// or of mattn/go-sqlite3, which has a field.
func sqliteCode(err error) int64 {
	if e, ok := errors.AsType[interface {
		error
		Code() int
	}](err); ok {
		return int64(e.Code())
	}
	return number(err, "Code")
}

// number returns a field of an error, or of an error that it wraps, or 0. Drivers have their codes
// in fields, and this package does not import any driver.
func number(err error, field string) int64 {
	if err == nil {
		return 0
	}
	v := reflect.ValueOf(err)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() == reflect.Struct {
		switch f := v.FieldByName(field); {
		case !f.IsValid():
		case f.CanInt():
			return f.Int()
		case f.CanUint():
			return int64(f.Uint()) //nolint:gosec // codes have few digits
		}
	}
	switch e := err.(type) { //nolint:errorlint // the chain is followed here
	case interface{ Unwrap() error }:
		return number(e.Unwrap(), field)
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			if n := number(inner, field); n != 0 {
				return n
			}
		}
	}
	return 0
}

// maxBackoff bounds the pause between two tries.
const maxBackoff = time.Second

// backoff is a sequence of pauses that double.
type backoff struct{ next time.Duration }

// wait blocks for the next pause and reports true, or reports false when ctx has ended.
func (b *backoff) wait(ctx context.Context) bool {
	pause := b.next/2 + rand.N(b.next/2+1) //nolint:gosec // jitter
	b.next = max(b.next, min(2*b.next, maxBackoff))
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
