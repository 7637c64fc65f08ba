package sqlidem

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// ErrSchema is returned when the database's schema is missing or older than this package needs.
var ErrSchema = errors.New("sqlidem: schema is missing or too old: call Store.Migrate")

// migrations has a file for each dialect and version: postgresql_0001.sql. A migration only adds,
// so that programs of the version before it keep working.
//
//go:embed migrations/*.sql
var migrations embed.FS

// Migrations returns the statements that make the schema of a dialect, by version: those of version
// 1 are first. It is for programs that have migrations of their own. [Store.Migrate] runs them. An
// unknown dialect has none.
func Migrations(d Dialect) [][]string {
	names, err := fs.Glob(migrations, "migrations/"+string(d)+"_*.sql")
	if err != nil {
		return nil
	}
	slices.Sort(names)
	versions := make([][]string, 0, len(names))
	for _, name := range names {
		text, err := migrations.ReadFile(name)
		if err != nil {
			panic(err) // the file is a part of the program
		}
		var statements []string
		for _, statement := range strings.Split(string(text), ";\n") {
			if statement = strings.TrimSpace(statement); statement != "" {
				statements = append(statements, statement)
			}
		}
		versions = append(versions, statements)
	}
	return versions
}

// Migrate brings the schema to the version of this package. Several processes may call it at the
// same time, and each at its start. A schema that is recent enough, or more recent, stays as it is.
// It needs the right to create tables. In MySQL and SQLite it waits for another Migrate for
// Config.Timeout, in MySQL in whole seconds, and then fails. A negative Timeout counts as its
// default there. An error that another try may not meet is tried again for so long in each dialect.
func (s *Store) Migrate(ctx context.Context) error {
	pauses, last := backoff{next: s.cfg.Backoff}, time.Now().Add(s.migrationWait())
	for {
		err := s.migrateOnce(ctx)
		if err == nil || !s.retryable(err) || time.Now().After(last) || !pauses.wait(ctx) {
			return err
		}
	}
}

func (s *Store) migrateOnce(ctx context.Context) (err error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("sqlidem: migrate: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	d := s.dialect
	if d.unlockMigrations != "" {
		var locked sql.NullInt64
		wait := s.migrationWait()
		err := conn.QueryRowContext(ctx, d.lockMigrations, int64((wait+time.Second-1)/time.Second)).Scan(&locked)
		switch {
		case err != nil:
			return fmt.Errorf("sqlidem: migrate: lock: %w", err)
		case locked.Int64 != 1:
			return fmt.Errorf("sqlidem: migrate: another process has held the lock of migrations for %v", wait)
		}
		defer func() {
			_, unlock := conn.ExecContext(context.WithoutCancel(ctx), d.unlockMigrations)
			err = errors.Join(err, unlock)
		}()
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("sqlidem: migrate: begin: %w", err)
	}
	if err := s.migrate(ctx, tx); err != nil {
		_ = tx.Rollback()
		return fmt.Errorf("sqlidem: migrate: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("sqlidem: migrate: commit: %w", err)
	}
	s.ready.Store(true)
	return nil
}

// migrationWait returns how long a Migrate waits for another one.
func (s *Store) migrationWait() time.Duration {
	if s.cfg.Timeout < 0 {
		return DefaultTimeout
	}
	return s.cfg.Timeout
}

func (s *Store) migrate(ctx context.Context, tx *sql.Tx) error {
	d := s.dialect
	if d.lockMigrations != "" && d.unlockMigrations == "" {
		if _, err := tx.ExecContext(ctx, d.lockMigrations); err != nil {
			return fmt.Errorf("lock: %w", err)
		}
	}
	// A write first: SQLite then has the lock for writing from here on.
	if _, err := tx.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS redisidem_schema (version INTEGER NOT NULL PRIMARY KEY)"); err != nil {
		return err
	}
	var version int
	if err := tx.QueryRowContext(ctx, schemaVersion).Scan(&version); err != nil {
		return err
	}
	versions := Migrations(d.name)
	for n := version + 1; n <= len(versions); n++ {
		for _, statement := range versions[n-1] {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("version %d: %w", n, err)
			}
		}
		if _, err := tx.ExecContext(ctx, d.statement("INSERT INTO redisidem_schema (version) VALUES (?)"), n); err != nil {
			return err
		}
	}
	return nil
}

// schemaVersion returns the version of the schema, 0 for none.
const schemaVersion = "SELECT COALESCE(MAX(version), 0) FROM redisidem_schema"

// checkSchema returns ErrSchema unless the schema is recent enough. It asks the database until it
// is.
func (s *Store) checkSchema(ctx context.Context) error {
	if s.ready.Load() {
		return nil
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var version int
	err := s.db.QueryRowContext(ctx, schemaVersion).Scan(&version)
	needed := len(Migrations(s.dialect.name))
	switch {
	case err != nil && s.dialect.missingTable(err):
		return ErrSchema
	case err != nil:
		return fmt.Errorf("sqlidem: read the version of the schema: %w", s.outside(ctx, err))
	case version < needed:
		return fmt.Errorf("%w (it has version %d, and %d is needed)", ErrSchema, version, needed)
	}
	s.ready.Store(true)
	return nil
}
