package sqltest

import (
	"context"
	"database/sql"
	"database/sql/driver"
)

// Commit is called in place of the COMMIT of a transaction: commit does it. The context is that of
// the transaction, and conn its connection.
type Commit func(ctx context.Context, conn driver.Conn, commit func() error) error

// OpenWith opens a handle with a driver and a data source name. Its COMMITs go through a function.
// The caller closes it.
func OpenWith(d driver.Driver, name string, commit Commit) *sql.DB {
	return sql.OpenDB(connector{d, name, commit})
}

type connector struct {
	driver driver.Driver
	name   string
	commit Commit
}

// Driver implements [driver.Connector].
func (c connector) Driver() driver.Driver { return c.driver }

// Connect implements [driver.Connector].
func (c connector) Connect(context.Context) (driver.Conn, error) {
	inner, err := c.driver.Open(c.name)
	if err != nil {
		return nil, err
	}
	return conn{inner, c.commit}, nil
}

// conn passes everything on but the beginning of transactions.
type conn struct {
	driver.Conn
	commit Commit
}

// BeginTx implements [driver.ConnBeginTx].
func (c conn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	inner, err := c.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
	if err != nil {
		return nil, err
	}
	return tx{ctx, inner, c}, nil
}

// ExecContext implements [driver.ExecerContext].
func (c conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

// QueryContext implements [driver.QueryerContext].
func (c conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

// PrepareContext implements [driver.ConnPrepareContext].
func (c conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	return c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
}

// IsValid implements [driver.Validator].
func (c conn) IsValid() bool {
	v, ok := c.Conn.(driver.Validator)
	return !ok || v.IsValid()
}

// ResetSession implements [driver.SessionResetter].
func (c conn) ResetSession(ctx context.Context) error {
	if r, ok := c.Conn.(driver.SessionResetter); ok {
		return r.ResetSession(ctx)
	}
	return nil
}

// CheckNamedValue implements [driver.NamedValueChecker].
func (c conn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.Conn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

type tx struct {
	ctx   context.Context //nolint:containedctx // of the transaction
	inner driver.Tx
	conn  conn
}

// Commit implements [driver.Tx].
func (t tx) Commit() error { return t.conn.commit(t.ctx, t.conn.Conn, t.inner.Commit) }

// Rollback implements [driver.Tx].
func (t tx) Rollback() error { return t.inner.Rollback() }
