package sqlidem

import (
	"database/sql"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// The defaults of [Config].
const (
	DefaultTimeout = 10 * time.Second
	DefaultTries   = 5
	DefaultBackoff = 10 * time.Millisecond
)

// Config configures a [Store]. Dialect is required.
type Config struct {
	// Dialect is the kind of the database: [PostgreSQL], [MySQL] (which is also MariaDB) or
	// [SQLite]. For SQLite set busy_timeout in the data source name, as in
	// "file:shop.db?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)" for modernc.org/sqlite.
	// Without it concurrent runs fail with SQLITE_BUSY, because SQLite has one writer at a time.
	Dialect Dialect

	// Isolation is the isolation level of the transactions. The default is that of the database.
	// PostgreSQL and MySQL: read committed, repeatable read and serializable. SQLite: serializable.
	// The promise needs none of them, because the row of the key is locked: choose what the work
	// needs.
	Isolation sql.IsolationLevel

	// Timeout bounds each transaction from BEGIN to the end of COMMIT, with the work in it, and the
	// look-up after a failed COMMIT. At least 1 ms. Default: 10 s. Negative: no bound but that of
	// the context. A driver that ignores contexts in COMMIT needs a timeout of its own:
	// go-sql-driver/mysql has readTimeout and writeTimeout.
	Timeout time.Duration

	// Tries is how many transactions one run of a stage begins at most, when they fail with an
	// error that another try may not meet. Default: 5. 1: no repetition. With
	// [sql.LevelSerializable] and concurrent callers on PostgreSQL, choose 20: see docs/sql.md.
	Tries int

	// Backoff is the pause before the second try. Later pauses double, and half of each is random.
	// Default: 10 ms.
	Backoff time.Duration

	// Retryable reports whether another try may succeed after an error. It is asked for errors that
	// the Store does not know to be deadlocks, serialization failures, lock timeouts or lost
	// connections. Nil: such errors end the run.
	Retryable func(error) bool
}

// Store keeps the outcomes of stages in one SQL database. Make one with [New]. It is safe for
// concurrent use.
type Store struct {
	db      *sql.DB
	cfg     Config
	dialect *dialect
	ready   atomic.Bool // the schema was found to be recent enough
}

// New returns a Store on a database handle of the caller's, who closes it. It sends nothing. Use
// [Store.Migrate] before the first stage runs. A field of cfg that breaks its bound is a
// [*redisidem.InvalidError].
func New(db *sql.DB, cfg Config) (*Store, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Tries == 0 {
		cfg.Tries = DefaultTries
	}
	if cfg.Backoff == 0 {
		cfg.Backoff = DefaultBackoff
	}
	d := dialects[cfg.Dialect]
	switch {
	case db == nil:
		return nil, invalid("db", "must not be nil")
	case d == nil:
		return nil, invalid("Config.Dialect", "must be PostgreSQL, MySQL or SQLite: %q", cfg.Dialect)
	case !d.allows(cfg.Isolation):
		return nil, invalid("Config.Isolation", "cannot be %v with %s", cfg.Isolation, cfg.Dialect)
	case cfg.Timeout > 0 && cfg.Timeout < time.Millisecond:
		return nil, invalid("Config.Timeout", "must be at least 1ms, or negative for no bound: %v", cfg.Timeout)
	case cfg.Tries < 0:
		return nil, invalid("Config.Tries", "must be at least 1: %d", cfg.Tries)
	case cfg.Backoff < 0:
		return nil, invalid("Config.Backoff", "must not be negative: %v", cfg.Backoff)
	}
	return &Store{db: db, cfg: cfg, dialect: d}, nil
}

func invalid(field, format string, args ...any) error {
	return &redisidem.InvalidError{Field: field, Reason: fmt.Sprintf(format, args...)}
}
