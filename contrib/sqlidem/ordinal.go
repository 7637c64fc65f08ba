package sqlidem

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/redisidem/redisidem/redisidem"
)

// row is the row of a visit without its outcome. The rows of a key's visits to a recovery point
// have the ordinals 0, 1, 2 and so on. Those that were not undone are the visits 0, 1, 2 and so on
// of every record of the key. A row also has the record and the revision at which the visit was
// last made.
type row struct {
	ordinal         int64
	recordCreatedAt int64 // in microseconds of the server's time
	revision        int64
	undone          bool // there is a row of its undo, which has the same ordinal
}

// The names of the outbound keys that name the rows of visits and of their undos.
const (
	visitName = "sqlidem"
	undoName  = "sqlidem undo"
)

// nameAt returns the name of a key's visits to a point, or of their undos. It is the same when
// Redis has lost the record, and another one after a delete or for another request.
func nameAt(st *redisidem.Stage, point, what string) string {
	return st.CommittedKey(redisidem.JournalEntry{Stage: point}, what)
}

// made returns the row for a visit that the stage makes now.
func made(st *redisidem.Stage) row {
	key := st.Key()
	return row{recordCreatedAt: key.CreatedAt.UnixMicro(), revision: key.Revision}
}

// standing returns the rows of visits that were not undone. An undone visit does not answer: what
// its row says is not there any more.
func standing(rows []row) []row {
	return slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return r.undone })
}

// passed returns how many of the first standing rows of a point belong to commits of the record
// before now. The other rows are those of a lost record, or of commits that a failover of Redis has
// lost: the record comes to them again.
func passed(rows []row, st *redisidem.Stage, point string) int {
	now, before := made(st), int64(-1)
	for i, r := range rows {
		at, known := st.Key().PointAt(r.revision)
		if r.recordCreatedAt != now.recordCreatedAt || r.revision <= before || r.revision >= now.revision || known && at != point {
			return i
		}
		before = r.revision
	}
	return len(rows)
}

// find finds the row of the visit among those of its point. It sets the row's name and ordinal.
// found is false if the row cannot exist, and moved is true if it is to be marked as that of this
// record and revision.
func (v *visit) find(rows []row) (found, moved bool) {
	if v.undone != nil {
		v.findUndo(rows)
		return true, false
	}
	stand := standing(rows)
	i := passed(stand, v.stage, v.stage.Key().RecoveryPoint)
	v.row = made(v.stage)
	if i == len(stand) {
		v.row.ordinal = int64(len(rows))
		return false, false
	}
	v.row.ordinal = stand[i].ordinal
	return true, stand[i] != v.row
}

// findUndo names a compensation by the visit that it undoes. Of several visits at one revision, of
// which a failover has lost all but the last, it undoes the one that was not undone before. A
// commit that is not that of a visit is named by its record and revision.
func (v *visit) findUndo(rows []row) {
	v.row = made(v.stage)
	stand := standing(rows)
	candidates := stand[:passed(stand, v.stage, v.undone.Stage)]
	for _, r := range rows {
		if r.undone && r.recordCreatedAt == v.row.recordCreatedAt {
			candidates = append(candidates, r)
		}
	}
	for _, r := range candidates {
		if r.revision == v.undone.Revision {
			v.name, v.row.ordinal = v.undos, r.ordinal
			return
		}
	}
	v.name = v.stage.CommittedKey(*v.undone, fmt.Sprint(undoName, " of record ", v.row.recordCreatedAt))
}

// read returns the fence of the key and the rows of the visit's point.
func (v *visit) read(ctx context.Context, tx *sql.Tx) (fence int64, found []row, err error) {
	rows, err := tx.QueryContext(ctx, v.store.dialect.statement(readVisits), v.visits, v.undos, v.key)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var ordinal, created, revision, undo sql.NullInt64 // NULL without any row
		if err := rows.Scan(&fence, &ordinal, &created, &revision, &undo); err != nil {
			return 0, nil, err
		}
		if ordinal.Valid {
			found = append(found, row{ordinal.Int64, created.Int64, revision.Int64, undo.Valid})
		}
	}
	return fence, found, rows.Err()
}

// stored returns the outcome in the row of the visit, or nil if there is no row.
func (v *visit) stored(ctx context.Context, tx *sql.Tx) (outcome []byte, err error) {
	err = tx.QueryRowContext(ctx, v.store.dialect.statement(readOutcome), v.name, v.row.ordinal).Scan(&outcome)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return outcome, err
}

// move marks the row of the visit as that of this record and revision.
func (v *visit) move(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, v.store.dialect.statement(moveVisit), v.row.recordCreatedAt, v.row.revision, v.name, v.row.ordinal)
	if err != nil {
		return fmt.Errorf("sqlidem: mark the visit: %w", err)
	}
	return nil
}
