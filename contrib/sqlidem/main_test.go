package sqlidem_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/contrib/sqlidem"
	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/internal/sqltest"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/idemtest"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	_ = mysql.SetLogger(quiet{})
	leak.Main(m)
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func (quiet) Print(...any) {}

// database is a database of one test.
type database struct {
	dialect      sqlidem.Dialect
	driver, name string
	at           sqltest.Database // not for SQLite
	*sql.DB
}

// onEach runs a test on a database of each dialect.
func onEach(t *testing.T, test func(t *testing.T, db *database)) {
	t.Helper()
	t.Parallel()
	for _, d := range []sqlidem.Dialect{sqlidem.PostgreSQL, sqlidem.MySQL, sqlidem.SQLite} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			test(t, open(t, d))
		})
	}
}

// open opens an empty database, with a table "work" that has one row for each time work was done.
func open(t *testing.T, d sqlidem.Dialect) *database {
	t.Helper()
	db := &database{dialect: d}
	switch d {
	case sqlidem.PostgreSQL:
		at := sqltest.Postgres(t)
		db.driver, db.name, db.at = "pgx", at.PostgresURL(), at
	case sqlidem.MySQL:
		at := sqltest.MariaDB(t)
		db.driver, db.name, db.at = "mysql", at.MySQLName(), at
	default:
		db.driver, db.name = "sqlite", "file:"+filepath.Join(t.TempDir(), "db")+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"
	}
	db.DB = db.handle(t, db.name)
	db.exec(t, "CREATE TABLE work (id VARCHAR(100), n INTEGER)")
	return db
}

// handle returns another handle, as another process has it.
func (db *database) handle(t *testing.T, name string) *sql.DB {
	t.Helper()
	h, err := sql.Open(db.driver, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func (db *database) exec(t *testing.T, text string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), text); err != nil {
		t.Fatal(err)
	}
}

// count returns how many rows a query counts.
func (db *database) count(t *testing.T, query string) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// store returns a migrated store on the database.
func (db *database) store(t *testing.T, change ...func(*sqlidem.Config)) *sqlidem.Store {
	t.Helper()
	return db.storeOn(t, db.DB, change...)
}

func (db *database) storeOn(t *testing.T, h *sql.DB, change ...func(*sqlidem.Config)) *sqlidem.Store {
	t.Helper()
	cfg := sqlidem.Config{Dialect: db.dialect, Timeout: time.Minute}
	for _, c := range change {
		c(&cfg)
	}
	s, err := sqlidem.New(h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// insert writes a row that says that the work of id was done.
func insert(ctx context.Context, tx *sql.Tx, id string) error {
	if strings.ContainsAny(id, "'\\") {
		return fmt.Errorf("id %q", id)
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO work (id, n) VALUES ('"+id+"', 1)")
	return err
}

// inserting is work that writes a row for its key, and returns an answer that differs at each run.
func inserting(runs *atomic.Int64) sqlidem.Work {
	return func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) (redisidem.Outcome, error) {
		n := runs.Add(1)
		if err := insert(ctx, tx, st.Key().Value); err != nil {
			return redisidem.Outcome{}, err
		}
		return redisidem.Finish(redisidem.JSON(201, fmt.Sprint("run ", n))).WithState(n), nil
	}
}

var request = redisidem.Request{Method: "POST", Path: "/orders"}

// scope returns a scope of a service on an embedded Redis.
func scope(t *testing.T, change ...func(*redisidem.Config)) (*redisidem.Scope, *redisidem.Service, *idemtest.Server) {
	t.Helper()
	server := idemtest.NewServer(t)
	cfg := &redisidem.Config{}
	for _, c := range change {
		c(cfg)
	}
	svc := server.Service(cfg)
	sc := svc.Scope("shop")
	return sc, svc, server
}
