package sqlidem_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/contrib/sqlidem"
	"github.com/redisidem/redisidem/redisidem"
)

func TestPruneRemovesWhatIsOldAndNothingElse(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, svc, server := scope(t, func(c *redisidem.Config) { c.Retention, c.DeadLetterRetention = 48*time.Hour, time.Hour })
		store := db.store(t)
		cfg := svc.Config()
		least := cfg.Retention + cfg.Lease + cfg.DeadLetterRetention
		var runs atomic.Int64
		for _, key := range []string{"old", "new"} {
			if _, err := sc.Do(t.Context(), key, request, store.Stage(inserting(&runs))); err != nil {
				t.Fatal(err)
			}
		}
		age := func(by time.Duration, where string) {
			db.exec(t, fmt.Sprintf("UPDATE redisidem_key SET changed_at = changed_at - %d WHERE %s", by/time.Second, where))
		}
		prune := func(olderThan time.Duration, want int64) {
			t.Helper()
			if n, err := store.Prune(t.Context(), svc, olderThan); err != nil || n != want {
				t.Errorf("pruned %d, %v, want %d", n, err, want)
			}
		}
		if _, err := store.Prune(t.Context(), svc, least-time.Second); !errors.Is(err, redisidem.ErrInvalid) {
			t.Error(err)
		}
		if _, err := store.Prune(t.Context(), nil, 0); !errors.Is(err, redisidem.ErrInvalid) {
			t.Error(err)
		}
		old := "name IN (SELECT * FROM (SELECT key_name FROM redisidem_visit ORDER BY committed_at, name LIMIT 1) x)"
		age(least+time.Minute, old)
		prune(0, 0) // it has its record
		age(-2*time.Minute, old)
		if err := server.Client().FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		prune(0, 0)
		age(2*time.Minute, old)
		prune(3*least, 0)
		prune(0, 1)
		if keys, visits := db.count(t, "SELECT COUNT(*) FROM redisidem_key"), db.count(t, "SELECT COUNT(*) FROM redisidem_visit"); keys != 1 || visits != 1 {
			t.Errorf("%d keys and %d visits are left", keys, visits)
		}
		for _, key := range []string{"old", "new"} {
			if _, err := sc.Do(t.Context(), key, request, store.Stage(inserting(&runs))); err != nil {
				t.Fatal(err)
			}
		}
		if runs.Load() != 3 {
			t.Errorf("%d runs: one key was pruned", runs.Load())
		}
	})
}

func TestPruneInBatchesBesideWorkers(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, svc, _ := scope(t, func(c *redisidem.Config) { c.Retention, c.DeadLetterRetention = time.Hour, time.Hour })
		store := db.store(t, func(c *sqlidem.Config) { c.Tries = 50 })
		const many = 1_200
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range many {
			for _, text := range []string{
				"INSERT INTO redisidem_key (name, fence, changed_at) VALUES ('redisidem:{000}:%032d', 1, 1)",
				"INSERT INTO redisidem_visit (name, ordinal, key_name, record_created_at, revision, outcome, committed_at) VALUES ('v%[1]d', 0, 'redisidem:{000}:%032[1]d', 1, 0, 'x', 1)",
			} {
				if _, err := tx.ExecContext(t.Context(), fmt.Sprintf(text, i)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var removed atomic.Int64
		for range 2 {
			wg.Go(func() {
				n, err := store.Prune(t.Context(), svc, 0)
				if err != nil {
					t.Error(err)
				}
				removed.Add(n)
			})
		}
		wg.Go(func() {
			for i := range 20 {
				if _, err := sc.Do(t.Context(), fmt.Sprint(i), request, store.Stage(func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) (redisidem.Outcome, error) {
					return redisidem.Finish(redisidem.JSON(200, i)), insert(ctx, tx, "w")
				})); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Wait()
		if keys, visits := db.count(t, "SELECT COUNT(*) FROM redisidem_key"), db.count(t, "SELECT COUNT(*) FROM redisidem_visit"); removed.Load() != many || keys != 20 || visits != 20 {
			t.Errorf("removed %d; %d keys and %d visits are left", removed.Load(), keys, visits)
		}
	})
}

// TestPruneLeavesKeysThatRedisHas has old keys in Redis, a finished and an open one, in more than a
// batch of others. A key of another namespace stays as well.
func TestPruneLeavesKeysThatRedisHas(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, svc, server := scope(t, func(c *redisidem.Config) { c.Timeout = 2 * time.Second })
		store := db.store(t)
		var runs atomic.Int64
		for _, key := range []string{"finished", "open"} {
			work := store.Stage(inserting(&runs))
			if key == "open" {
				work = store.Stage(func(context.Context, *sql.Tx, *redisidem.Stage) (redisidem.Outcome, error) {
					return redisidem.Interim(redisidem.Started, redisidem.JSON(202, "")), nil
				})
			}
			if _, err := sc.Do(t.Context(), key, request, work); err != nil {
				t.Fatal(err)
			}
		}
		const gone = 600
		db.exec(t, "UPDATE redisidem_key SET changed_at = 250")
		var rows []string
		for i := range gone {
			for _, namespace := range []string{"redisidem", "other"} {
				rows = append(rows, fmt.Sprintf("('%s:{0ff}:%032d', 1, %d)", namespace, i, i))
			}
		}
		db.exec(t, "INSERT INTO redisidem_key (name, fence, changed_at) VALUES "+strings.Join(rows, ", "))
		server.Stop()
		if n, err := store.Prune(t.Context(), svc, 0); n != 0 || !errors.Is(err, redisidem.ErrUnavailable) {
			t.Errorf("without Redis: pruned %d, %v", n, err)
		}
		server.Restart()
		if n, err := store.Prune(t.Context(), svc, 0); err != nil || n != gone {
			t.Errorf("pruned %d, %v, want %d", n, err, gone)
		}
		if n := db.count(t, "SELECT COUNT(*) FROM redisidem_key"); n != gone+2 {
			t.Errorf("%d keys are left, want %d of another namespace and 2 with a record", n, gone)
		}
		if err := server.Client().FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if n, err := store.Prune(t.Context(), svc, 0); err != nil || n != 2 {
			t.Errorf("after the loss of the records: pruned %d, %v", n, err)
		}
	})
}
