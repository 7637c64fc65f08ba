package sqlidem_test

import (
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/contrib/sqlidem"
	"github.com/redisidem/redisidem/redisidem"
)

func TestBadConfigurationNamesTheField(t *testing.T) {
	t.Parallel()
	db := open(t, sqlidem.SQLite)
	for field, cfg := range map[string]sqlidem.Config{
		"Config.Dialect":   {Dialect: "oracle"},
		"Config.Isolation": {Dialect: sqlidem.PostgreSQL, Isolation: sql.LevelReadUncommitted},
		"Config.Timeout":   {Dialect: sqlidem.SQLite, Timeout: time.Microsecond},
		"Config.Tries":     {Dialect: sqlidem.SQLite, Tries: -1},
		"Config.Backoff":   {Dialect: sqlidem.SQLite, Backoff: -1},
	} {
		_, err := sqlidem.New(db.DB, cfg)
		if !errors.Is(err, redisidem.ErrInvalid) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := sqlidem.New(nil, sqlidem.Config{Dialect: sqlidem.SQLite}); !errors.Is(err, redisidem.ErrInvalid) {
		t.Error(err)
	}
	if _, err := sqlidem.New(db.DB, sqlidem.Config{Dialect: sqlidem.SQLite, Isolation: sql.LevelRepeatableRead}); !errors.Is(err, redisidem.ErrInvalid) {
		t.Error(err)
	}
	sc, _, _ := scope(t)
	if _, err := sc.Do(t.Context(), "k", request, db.store(t).Stage(nil)); !errors.Is(err, redisidem.ErrInvalid) {
		t.Error(err)
	}
}
