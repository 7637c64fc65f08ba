package sqlidem_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/contrib/sqlidem"
	"github.com/redisidem/redisidem/redisidem"
)

// TestWorkThatWaitsForItsOwnTransactionNamesTheTimeout has work that asks for a second connection
// while its transaction has the only one.
func TestWorkThatWaitsForItsOwnTransactionNamesTheTimeout(t *testing.T) {
	t.Parallel()
	db := open(t, sqlidem.SQLite)
	db.SetMaxOpenConns(1)
	sc, _, _ := scope(t)
	store := db.store(t, func(c *sqlidem.Config) { c.Timeout = 200 * time.Millisecond })
	_, err := sc.Do(t.Context(), "k", request, store.Stage(func(ctx context.Context, _ *sql.Tx, _ *redisidem.Stage) (redisidem.Outcome, error) {
		_, err := db.ExecContext(ctx, "INSERT INTO work (id, n) VALUES ('a', 1)")
		return redisidem.Finish(redisidem.JSON(201, "")), err
	}))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "Config.Timeout (200ms)") {
		t.Errorf("%v", err)
	}
}
