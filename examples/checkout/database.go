package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver of PostgreSQL
	_ "modernc.org/sqlite"             // the driver of SQLite
)

// openPostgres opens a database in PostgreSQL, and makes what it lacks.
func openPostgres(ctx context.Context, url, schema string) (*sql.DB, error) {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return nil, errors.New("DATABASE_URL is not the URL of a PostgreSQL database") // the driver's error may have the password
	}
	// Statements without arguments are one transaction together. The lock lets one process at a
	// time make tables.
	return prepared(ctx, db, "SELECT pg_advisory_xact_lock(20100520);"+schema)
}

// openSQLite opens the database in a file, which several processes may share, and makes what it
// lacks. Transactions take the write lock when they begin, because one that reads first and then
// finds another write cannot continue.
func openSQLite(ctx context.Context, file, schema string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+file+
		"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // SQLite has one writer anyway
	return prepared(ctx, db, schema)
}

func prepared(ctx context.Context, db *sql.DB, schema string) (*sql.DB, error) {
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(fmt.Errorf("make the tables: %w", err), db.Close())
	}
	return db, nil
}

// transact runs work in a transaction, and commits it if work returns nil.
func transact(ctx context.Context, db *sql.DB, work func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if err := work(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// found turns the absence of a row into errUnknown.
func found(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return errUnknown
	}
	return err
}
