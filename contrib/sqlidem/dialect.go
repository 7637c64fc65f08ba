package sqlidem

import (
	"database/sql"
	"slices"
	"strconv"
	"strings"
)

// Dialect is the kind of a database.
type Dialect string

// The dialects. MySQL is for MariaDB, too.
const (
	PostgreSQL Dialect = "postgresql"
	MySQL      Dialect = "mysql"
	SQLite     Dialect = "sqlite"
)

// dialect has what differs between databases. Its statements have ? for their arguments.
type dialect struct {
	name       Dialect
	isolations []sql.IsolationLevel
	numbered   bool   // arguments are $1, $2, ...
	now        string // the database's time in whole seconds

	// lock makes or changes the row of a key, which locks it until the end of the transaction, and
	// raises its fence. Its arguments are the key and the fence.
	lock string

	// lockMigrations and unlockMigrations let one Migrate work at a time. lockMigrations runs
	// first in a transaction. With unlockMigrations, the lock belongs to the connection:
	// lockMigrations gets the seconds to wait, and returns 1 for the lock.
	lockMigrations, unlockMigrations string
}

var dialects = map[Dialect]*dialect{
	PostgreSQL: {
		name:       PostgreSQL,
		isolations: []sql.IsolationLevel{sql.LevelDefault, sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable},
		numbered:   true,
		now:        "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT)",
		lock: `INSERT INTO redisidem_key (name, fence, changed_at) VALUES (?, ?, {now})
			ON CONFLICT (name) DO UPDATE SET fence = GREATEST(redisidem_key.fence, excluded.fence), changed_at = excluded.changed_at`,
		lockMigrations: "SELECT pg_advisory_xact_lock(8318830301274760001)",
	},
	MySQL: {
		name:       MySQL,
		isolations: []sql.IsolationLevel{sql.LevelDefault, sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable},
		now:        "UNIX_TIMESTAMP()",
		lock: `INSERT INTO redisidem_key (name, fence, changed_at) VALUES (?, ?, {now})
			ON DUPLICATE KEY UPDATE fence = GREATEST(fence, VALUES(fence)), changed_at = VALUES(changed_at)`,
		lockMigrations:   "SELECT GET_LOCK(CONCAT('redisidem_', MD5(DATABASE())), ?)",
		unlockMigrations: "SELECT RELEASE_LOCK(CONCAT('redisidem_', MD5(DATABASE())))",
	},
	SQLite: {
		name:       SQLite,
		isolations: []sql.IsolationLevel{sql.LevelDefault, sql.LevelSerializable},
		now:        "CAST(strftime('%s', 'now') AS INTEGER)",
		lock: `INSERT INTO redisidem_key (name, fence, changed_at) VALUES (?, ?, {now})
			ON CONFLICT (name) DO UPDATE SET fence = MAX(redisidem_key.fence, excluded.fence), changed_at = excluded.changed_at`,
	},
}

// The statements that are the same everywhere.
const (
	// readVisits returns the fence of a key, with the rows of a name if there are any, and the
	// ordinals of their undos, which have another name. It follows lock, so the row of the key is
	// there.
	readVisits = `SELECT k.fence, v.ordinal, v.record_created_at, v.revision, u.ordinal
		FROM redisidem_key k LEFT JOIN redisidem_visit v ON v.name = ?
		LEFT JOIN redisidem_visit u ON u.name = ? AND u.ordinal = v.ordinal WHERE k.name = ? ORDER BY v.ordinal`

	readOutcome = "SELECT outcome FROM redisidem_visit WHERE name = ? AND ordinal = ?"

	insertVisit = `INSERT INTO redisidem_visit (name, ordinal, key_name, record_created_at, revision, outcome, committed_at)
		VALUES (?, ?, ?, ?, ?, ?, {now})`

	moveVisit = "UPDATE redisidem_visit SET record_created_at = ?, revision = ? WHERE name = ? AND ordinal = ?"
)

func (d *dialect) allows(level sql.IsolationLevel) bool { return slices.Contains(d.isolations, level) }

// statement returns a statement in the dialect.
func (d *dialect) statement(text string) string {
	text = strings.ReplaceAll(text, "{now}", d.now)
	if !d.numbered {
		return text
	}
	var b strings.Builder
	for n := 1; ; n++ {
		before, after, found := strings.Cut(text, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString("$" + strconv.Itoa(n))
		text = after
	}
}

// in returns n arguments for IN.
func in(n int) string { return "(" + strings.TrimSuffix(strings.Repeat("?, ", n), ", ") + ")" }

// txOptions returns the options of a transaction.
func (s *Store) txOptions() *sql.TxOptions {
	if s.cfg.Dialect == SQLite {
		return nil // all of its transactions are serializable, and drivers refuse to be asked
	}
	return &sql.TxOptions{Isolation: s.cfg.Isolation}
}
