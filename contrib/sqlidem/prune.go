package sqlidem

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// pruneBatch is how many keys one transaction of Prune removes.
const pruneBatch = 500

// Prune removes the rows of keys of which no stage was committed for olderThan, by the database's
// clock, with the rows of their visits. It returns how many keys it has removed. After that, a
// retry of such a key whose record Redis has lost runs the work again.
//
// olderThan must be at least Config.Retention, Config.Lease and Config.DeadLetterRetention
// together: a key whose outcome has not reached Redis may become a dead letter a retention later,
// and an operator may requeue it. A flow whose completers try for longer, because of its
// RecoverAfter and MaxAttempts, needs that much more. If services or routes with different
// retentions use the database, pass the one with the longest. A shorter olderThan is a
// [*redisidem.InvalidError], and 0 means the shortest that is allowed.
//
// Prune works in transactions of 500 keys, each within Config.Timeout, and ends when there are no
// more keys or ctx ends. Several processes may call it at the same time.
func (s *Store) Prune(ctx context.Context, svc *redisidem.Service, olderThan time.Duration) (int64, error) {
	if svc == nil {
		return 0, invalid("svc", "must not be nil")
	}
	cfg := svc.Config()
	least := cfg.Retention + cfg.Lease + cfg.DeadLetterRetention
	switch {
	case olderThan == 0:
		olderThan = least
	case olderThan < least:
		return 0, invalid("olderThan", "must be at least %v, for which the service may keep a record: %v", least, olderThan)
	}
	if err := s.checkSchema(ctx); err != nil {
		return 0, err
	}
	return s.prune(ctx, olderThan)
}

func (s *Store) prune(ctx context.Context, olderThan time.Duration) (removed int64, err error) {
	seconds := int64((olderThan + time.Second - 1) / time.Second)
	pauses := backoff{next: s.cfg.Backoff}
	for failures := 0; ; {
		n, found, err := s.pruneOnce(ctx, seconds)
		removed += n
		switch {
		case err == nil && found < pruneBatch:
			return removed, nil
		case err == nil:
			failures = 0
			continue
		}
		failures++
		if failures >= s.cfg.Tries || !s.retryable(err) || !pauses.wait(ctx) {
			return removed, fmt.Errorf("sqlidem: prune: %w", err)
		}
	}
}

// pruneOnce removes one batch. It returns how many keys it has removed, and how many there were to
// remove when it began.
func (s *Store) pruneOnce(ctx context.Context, seconds int64) (removed int64, found int, err error) {
	names, err := s.oldKeys(ctx, seconds)
	if err != nil || len(names) == 0 {
		return 0, 0, err
	}
	d, list := s.dialect, in(len(names))
	err = s.transact(ctx, nil, func(ctx context.Context, tx *sql.Tx) (commit bool, err error) {
		// A key that was used since stays.
		r, err := tx.ExecContext(ctx, d.statement("DELETE FROM redisidem_key WHERE name IN "+list+" AND changed_at < {now} - ?"),
			append(names, seconds)...)
		if err != nil {
			return false, err
		}
		if removed, err = r.RowsAffected(); err != nil {
			return false, err
		}
		_, err = tx.ExecContext(ctx, d.statement("DELETE FROM redisidem_visit WHERE key_name IN "+list+
			" AND NOT EXISTS (SELECT 1 FROM redisidem_key k WHERE k.name = redisidem_visit.key_name)"), names...)
		return err == nil, err
	})
	if err != nil {
		removed = 0
	}
	return removed, len(names), err
}

// oldKeys returns the names of up to pruneBatch keys.
func (s *Store) oldKeys(ctx context.Context, seconds int64) (names []any, err error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	rows, err := s.db.QueryContext(ctx,
		s.dialect.statement("SELECT name FROM redisidem_key WHERE changed_at < {now} - ? ORDER BY changed_at LIMIT ?"), seconds, pruneBatch)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}
