package sqlidem_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/redisidem/redisidem/contrib/sqlidem"
	"github.com/redisidem/redisidem/internal/sqltest"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/idemtest"
)

// TestCrashMatrixWithTheBoundariesOfSQL kills a process at each boundary of a flow: those of Redis,
// and before and after each COMMIT reaches the database.
func TestCrashMatrixWithTheBoundariesOfSQL(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		_ = db.store(t) // it makes the schema
		var worlds, deaths atomic.Int64
		for _, fails := range []bool{false, true} {
			promise := map[string]idemtest.Times{"one": idemtest.Exactly(1), "two": idemtest.Exactly(1), "undo": idemtest.Exactly(0)}
			if fails {
				promise["undo"] = idemtest.Exactly(1)
			}
			idemtest.CrashMatrix(t, idemtest.CrashConfig{Promise: promise, World: func(testing.TB) idemtest.World {
				world := worlds.Add(1)
				// Each world has a Redis with a clock of its own, and the same key.
				db.exec(t, "DELETE FROM redisidem_key")
				db.exec(t, "DELETE FROM redisidem_visit")
				name := func(effect string) string { return fmt.Sprint(effect, " ", world) }
				return idemtest.World{
					Request: redisidem.Request{Method: "POST", Path: "/orders", Params: world},
					Flow:    func() (*redisidem.Flow, error) { return crashing(db, db.crashing(t, &deaths), name, fails) },
					Effects: func() map[string]int {
						counts := make(map[string]int)
						for _, effect := range []string{"one", "two", "undo"} {
							counts[effect] = db.count(t, "SELECT COUNT(*) FROM work WHERE id = '"+name(effect)+"'")
						}
						return counts
					},
				}
			}})
		}
		if n := deaths.Load(); n != 2*2+2*3 { // before and after each commit
			t.Errorf("%d processes died at a commit to the database", n)
		}
	})
}

func crashing(db *database, h *sql.DB, name func(effect string) string, fails bool) (*redisidem.Flow, error) {
	store, err := sqlidem.New(h, sqlidem.Config{Dialect: db.dialect})
	if err != nil {
		return nil, err
	}
	end := redisidem.Finish(redisidem.JSON(201, "order"))
	if fails {
		end = redisidem.Fail(redisidem.JSON(409, "sold out"))
	}
	step := func(effect string, o redisidem.Outcome) redisidem.StageFunc {
		return store.Stage(func(ctx context.Context, tx *sql.Tx, _ *redisidem.Stage) (redisidem.Outcome, error) {
			return o, insert(ctx, tx, name(effect))
		})
	}
	return redisidem.NewFlow(redisidem.FlowConfig{Name: "f", Version: 1, Stages: []redisidem.FlowStage{
		{
			Point: redisidem.Started, Work: step("one", redisidem.Next().WithState("kept")),
			Compensate: store.Compensate(func(ctx context.Context, tx *sql.Tx, _ *redisidem.Stage) error {
				return insert(ctx, tx, name("undo"))
			}),
		},
		{Point: "two", Work: step("two", end)},
	}})
}

// crashing returns a handle whose commits are crash points. When a process dies there, its
// connection ends, as those of a dead process do.
func (db *database) crashing(t *testing.T, deaths *atomic.Int64) *sql.DB {
	t.Helper()
	h := sqltest.OpenWith(db.Driver(), db.name, func(ctx context.Context, conn driver.Conn, commit func() error) error {
		returned := false
		defer func() {
			if !returned {
				deaths.Add(1)
				_ = conn.Close()
			}
		}()
		idemtest.CrashPoint(ctx, "before_sql_commit")
		err := commit()
		idemtest.CrashPoint(ctx, "after_sql_commit")
		returned = true
		return err
	})
	t.Cleanup(func() { _ = h.Close() })
	return h
}
