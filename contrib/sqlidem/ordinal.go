package sqlidem

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/redisidem/redisidem/redisidem"
)

// row is the row of a visit without its outcome. The visits of a key to a recovery point have the
// ordinals 0, 1, 2 and so on, in every record of the key. A row also has the record and the
// revision at which the visit was last made.
type row struct {
	ordinal         int64
	recordCreatedAt int64 // in microseconds of the server's time
	revision        int64
}

// visitName is the name of the outbound keys that name visits.
const visitName = "sqlidem"

// nameAt returns the name of a key's visits to a point. It is the same when Redis has lost the
// record, and another one after a delete or for another request.
func nameAt(st *redisidem.Stage, point string) string {
	return st.CommittedKey(redisidem.JournalEntry{Stage: point}, visitName)
}

// made returns the row for a visit that the stage makes now.
func made(st *redisidem.Stage) row {
	key := st.Key()
	return row{recordCreatedAt: key.CreatedAt.UnixMicro(), revision: key.Revision}
}

// passed returns how many of the first rows of a point belong to commits of the record before now.
// The other rows are those of a lost record, or of commits that a failover of Redis has lost: the
// record comes to them again.
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
	i := passed(rows, v.stage, v.stage.Key().RecoveryPoint)
	v.row = made(v.stage)
	v.row.ordinal = int64(i)
	if i == len(rows) {
		return false, false
	}
	return true, rows[i] != v.row
}

// findUndo names a compensation by the visit that it undoes. A commit that is not that of a visit
// is named by its revision.
func (v *visit) findUndo(rows []row) {
	v.row = made(v.stage)
	v.name = v.stage.CommittedKey(*v.undone, visitName+" compensate")
	for _, r := range rows[:passed(rows, v.stage, v.undone.Stage)] {
		if r.revision == v.undone.Revision {
			v.name, v.row.ordinal = nameAt(v.stage, "compensate:"+v.undone.Stage), r.ordinal
			return
		}
	}
}

// read returns the fence of the key and the rows of the visit's point.
func (v *visit) read(ctx context.Context, tx *sql.Tx) (fence int64, found []row, err error) {
	rows, err := tx.QueryContext(ctx, v.store.dialect.statement(readVisits), v.point, v.key)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var ordinal, created, revision sql.NullInt64 // NULL without any row
		if err := rows.Scan(&fence, &ordinal, &created, &revision); err != nil {
			return 0, nil, err
		}
		if ordinal.Valid {
			found = append(found, row{ordinal.Int64, created.Int64, revision.Int64})
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
