package sqlidem_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redisidem/redisidem/contrib/sqlidem"
)

func TestStageWithoutSchemaSaysWhatToDo(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, _ := scope(t)
		var runs atomic.Int64
		store, err := sqlidem.New(db.DB, sqlidem.Config{Dialect: db.dialect})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sc.Do(t.Context(), "k", request, store.Stage(inserting(&runs))); !errors.Is(err, sqlidem.ErrSchema) {
			t.Errorf("without tables: %v", err)
		}
		if err := store.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		db.exec(t, "DELETE FROM redisidem_schema")
		old, err := sqlidem.New(db.DB, sqlidem.Config{Dialect: db.dialect})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sc.Do(t.Context(), "k", request, old.Stage(inserting(&runs))); !errors.Is(err, sqlidem.ErrSchema) {
			t.Errorf("with an old version: %v", err)
		}
		db.exec(t, "INSERT INTO redisidem_schema (version) VALUES (1000)")
		if _, err := sc.Do(t.Context(), "k", request, old.Stage(inserting(&runs))); err != nil || runs.Load() != 1 {
			t.Errorf("with a later version: %v, %d runs", err, runs.Load())
		}
	})
}

func TestProcessesMigrateAtTheSameTime(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				store, err := sqlidem.New(db.handle(t, db.name), sqlidem.Config{Dialect: db.dialect})
				if err == nil {
					err = store.Migrate(t.Context())
				}
				if err == nil {
					err = store.Migrate(t.Context())
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := db.count(t, "SELECT COUNT(*) FROM redisidem_schema"); n != len(sqlidem.Migrations(db.dialect)) || n == 0 {
			t.Errorf("%d versions are noted", n)
		}
		if n := db.count(t, "SELECT COUNT(*) FROM redisidem_relay"); n != 1 {
			t.Errorf("%d rows for relays", n)
		}
	})
}

// TestProcessesMigrateSQLiteWithoutBusyTimeout has processes that do not wait for a lock of SQLite.
func TestProcessesMigrateSQLiteWithoutBusyTimeout(t *testing.T) {
	t.Parallel()
	db := open(t, sqlidem.SQLite)
	name, _, _ := strings.Cut(db.name, "?")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			store, err := sqlidem.New(db.handle(t, name), sqlidem.Config{Dialect: sqlidem.SQLite, Timeout: time.Minute})
			if err == nil {
				err = store.Migrate(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := db.count(t, "SELECT COUNT(*) FROM redisidem_relay"); n != 1 {
		t.Errorf("%d rows for relays", n)
	}
}

// TestMigrateWaitsForAnotherOneAndThenFails holds the lock that MySQL needs for a migration.
func TestMigrateWaitsForAnotherOneAndThenFails(t *testing.T) {
	t.Parallel()
	db := open(t, sqlidem.MySQL)
	other, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	var locked int
	const lock = "CONCAT('redisidem_', MD5(DATABASE()))"
	if err := other.QueryRowContext(t.Context(), "SELECT GET_LOCK("+lock+", 10)").Scan(&locked); err != nil || locked != 1 {
		t.Fatal(locked, err)
	}
	store, err := sqlidem.New(db.DB, sqlidem.Config{Dialect: db.dialect, Timeout: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("beside another migration: %v", err)
	}
	if err := other.QueryRowContext(t.Context(), "SELECT RELEASE_LOCK("+lock+")").Scan(&locked); err != nil || locked != 1 {
		t.Error(locked, err)
	}
	if err := store.Migrate(t.Context()); err != nil {
		t.Errorf("after it: %v", err)
	}
}

func TestUnknownDialectHasNoMigrations(t *testing.T) {
	t.Parallel()
	if got := sqlidem.Migrations("oracle"); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// refusing refuses its first connections, as a database does that is being restarted.
type refusing struct {
	db   *database
	left atomic.Int64
}

// Driver implements [driver.Connector].
func (r *refusing) Driver() driver.Driver { return r.db.Driver() }

// Connect implements [driver.Connector].
func (r *refusing) Connect(context.Context) (driver.Conn, error) {
	if r.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	return r.Driver().Open(r.db.name)
}

// TestRefusedConnectionIsTriedAgain is about the first use of a Store, which reads the version of
// the schema.
func TestRefusedConnectionIsTriedAgain(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		if db.dialect == sqlidem.SQLite {
			return // it has no connections to lose
		}
		_ = db.store(t) // it makes the schema
		sc, svc, _ := scope(t)
		var runs atomic.Int64
		for name, use := range map[string]func(s *sqlidem.Store, key string) error{
			"stage": func(s *sqlidem.Store, key string) error {
				_, err := sc.Do(t.Context(), key, request, s.Stage(inserting(&runs)))
				return err
			},
			"prune": func(s *sqlidem.Store, _ string) error {
				_, err := s.Prune(t.Context(), svc, 0)
				return err
			},
		} {
			for tries, works := range map[int]bool{2: false, 3: true} {
				server := &refusing{db: db}
				server.left.Store(2)
				h := sql.OpenDB(server)
				store, err := sqlidem.New(h, sqlidem.Config{Dialect: db.dialect, Tries: tries})
				if err != nil {
					t.Fatal(err)
				}
				if err := use(store, fmt.Sprint(tries)); (err == nil) != works || err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("%s with %d tries: %v", name, tries, err)
				}
				_ = h.Close()
			}
		}
	})
}
