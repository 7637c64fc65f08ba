package sqlidem_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/contrib/sqlidem"
	"github.com/redisidem/redisidem/internal/sqltest"
	"github.com/redisidem/redisidem/internal/tcpproxy"
	"github.com/redisidem/redisidem/redisidem"
)

// through returns a name of the database that leads through a proxy.
func (db *database) through(p *tcpproxy.Proxy) string {
	at := db.at
	at.Addr = p.Addr()
	if db.dialect == sqlidem.MySQL {
		return at.MySQLName()
	}
	return at.PostgresURL()
}

// TestLostCommitsAreLookedUp loses every second COMMIT, or its reply. The caller does not notice.
func TestLostCommitsAreLookedUp(t *testing.T) {
	t.Parallel()
	for _, d := range []sqlidem.Dialect{sqlidem.PostgreSQL, sqlidem.MySQL} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			db := open(t, d)
			proxy := tcpproxy.Start(t, db.at.Addr)
			commits, lost := 0, 0
			h := sqltest.OpenWith(db.Driver(), db.through(proxy), func(_ context.Context, _ driver.Conn, commit func() error) error {
				commits++
				switch commits % 4 {
				case 0:
					proxy.Lose(1)
				case 2:
					proxy.Cut()
				default:
					return commit()
				}
				err := commit()
				if err == nil {
					t.Error("the fault did not strike")
				}
				lost++
				return err
			})
			defer func() { _ = h.Close() }()
			h.SetMaxOpenConns(1)
			var runs atomic.Int64
			sc, _, _ := scope(t)
			store := db.storeOn(t, h)
			commits, lost = 0, 0
			const many = 30
			for i := range many {
				key, err := sc.Do(t.Context(), fmt.Sprint("k", i), request, store.Stage(inserting(&runs)))
				if err != nil || key.Response.IsZero() {
					t.Fatalf("%d: %+v, %v", i, key, err)
				}
				if n := db.count(t, fmt.Sprintf("SELECT COUNT(*) FROM work WHERE id = 'k%d'", i)); n != 1 {
					t.Errorf("%d: %d rows", i, n)
				}
			}
			if lost < many/2 || runs.Load() <= many {
				t.Errorf("%d commits were lost, %d runs", lost, runs.Load())
			}
		})
	}
}

// TestUnknownCommitIsFoundOutByTheNextRun loses the reply to COMMIT, and then the database, until
// the run has given up.
func TestUnknownCommitIsFoundOutByTheNextRun(t *testing.T) {
	t.Parallel()
	for _, d := range []sqlidem.Dialect{sqlidem.PostgreSQL, sqlidem.MySQL} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			db := open(t, d)
			proxy := tcpproxy.Start(t, db.at.Addr)
			away := false
			h := sqltest.OpenWith(db.Driver(), db.through(proxy), func(_ context.Context, _ driver.Conn, commit func() error) error {
				if away {
					proxy.Lose(1_000_000)
				}
				return commit()
			})
			defer func() { _ = h.Close() }()
			h.SetMaxOpenConns(1)
			var runs atomic.Int64
			sc, _, _ := scope(t)
			store := db.storeOn(t, h, func(c *sqlidem.Config) { c.Timeout = 2 * time.Second })
			away = true
			if _, err := sc.Do(t.Context(), "k", request, store.Stage(inserting(&runs))); !errors.Is(err, redisidem.ErrOutcomeUnknown) {
				t.Errorf("the run got %v", err)
			}
			key, err := sc.Do(t.Context(), "k", request, db.store(t).Stage(inserting(&runs)))
			if err != nil || string(key.Response.Body) != `"run 1"` || runs.Load() != 1 {
				t.Errorf("the next run got %+v, %v; %d runs", key, err, runs.Load())
			}
		})
	}
}

// TestRefusedCommitIsAnError has a constraint that the database checks with COMMIT.
func TestRefusedCommitIsAnError(t *testing.T) {
	t.Parallel()
	db := open(t, sqlidem.PostgreSQL)
	db.exec(t, "CREATE TABLE one (id INTEGER UNIQUE DEFERRABLE INITIALLY DEFERRED)")
	sc, _, _ := scope(t)
	var runs atomic.Int64
	_, err := sc.Do(t.Context(), "k", request, db.store(t).Stage(func(ctx context.Context, tx *sql.Tx, _ *redisidem.Stage) (redisidem.Outcome, error) {
		runs.Add(1)
		_, err := tx.ExecContext(ctx, "INSERT INTO one VALUES (1), (1)")
		return redisidem.Finish(redisidem.JSON(200, "")), err
	}))
	if err == nil || errors.Is(err, redisidem.ErrOutcomeUnknown) || runs.Load() != 1 {
		t.Errorf("%v after %d runs", err, runs.Load())
	}
}
