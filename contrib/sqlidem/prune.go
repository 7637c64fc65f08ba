package sqlidem

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// pruneBatch is how many keys one transaction of Prune removes at most.
const pruneBatch = 500

// Prune removes the rows of keys of which no stage was committed for olderThan, by the database's
// clock, and that have no record in Redis, with the rows of their visits. It returns how many keys
// it has removed. After that, a retry of such a key runs the work again.
//
// Keys that still have a record stay, however old: those of a paused flow, for instance, or that
// snooze, or were made with a longer retention than that of svc
// ([redisidem.Service.WithRetention]). Redis is asked before each batch. Keys of other namespaces
// than that of svc stay, too: each namespace needs a Prune.
//
// olderThan must be at least Config.Retention, Config.Lease and Config.DeadLetterRetention
// together: this is for how long the rows answer retries if Redis has lost the record. A shorter
// olderThan is a [*redisidem.InvalidError], and 0 means the shortest that is allowed. It is the
// retention of svc that counts: pass the view of WithRetention with the longest one. The rows of
// keys that were made with a longer retention answer retries no longer than those of other keys.
//
// Prune works in transactions of up to 500 keys, each within Config.Timeout, and ends when there
// are no more keys or ctx ends. Several processes may call it at the same time. If Redis does not
// answer, it returns [redisidem.ErrUnavailable], and the rest of the keys stay.
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
	p := pruning{store: s, redis: redisidem.NewInspector(svc), prefix: cfg.Namespace + ":{", seconds: int64((olderThan + time.Second - 1) / time.Second)}
	return p.run(ctx)
}

// pruning is one call of Prune.
type pruning struct {
	store   *Store
	redis   *redisidem.Inspector
	prefix  string // of the names of keys
	seconds int64  // how old keys are
	after   oldKey // the last one of the batches before
}

// oldKey is a key that may be removed.
type oldKey struct {
	name      string
	changedAt int64
}

func (p *pruning) run(ctx context.Context) (removed int64, err error) {
	s := p.store
	pauses := backoff{next: s.cfg.Backoff}
	for failures := 0; ; {
		n, found, err := p.batch(ctx)
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

// batch removes one batch. It returns how many keys it has removed, and how many old ones it has
// found.
func (p *pruning) batch(ctx context.Context) (removed int64, found int, err error) {
	if err := p.store.checkSchema(ctx); err != nil {
		return 0, 0, err
	}
	keys, err := p.find(ctx)
	if err != nil || len(keys) == 0 {
		return 0, 0, err
	}
	names, err := p.withoutRecord(ctx, keys)
	if err == nil && len(names) > 0 {
		removed, err = p.remove(ctx, names)
	}
	if err == nil {
		p.after = keys[len(keys)-1]
	}
	return removed, len(keys), err
}

// withoutRecord returns the names of the keys that Redis does not have.
func (p *pruning) withoutRecord(ctx context.Context, keys []oldKey) (names []any, err error) {
	var records []string
	for _, k := range keys {
		if strings.HasPrefix(k.name, p.prefix) {
			records = append(records, k.name)
		}
	}
	exist, err := p.redis.Exist(ctx, records...)
	if err != nil {
		return nil, err
	}
	for i, record := range records {
		if !exist[i] {
			names = append(names, record)
		}
	}
	return names, nil
}

// remove removes keys in one transaction. A key that was used since it was found stays.
func (p *pruning) remove(ctx context.Context, names []any) (removed int64, err error) {
	d, list := p.store.dialect, in(len(names))
	err = p.store.transact(ctx, nil, func(ctx context.Context, tx *sql.Tx) (commit bool, err error) {
		r, err := tx.ExecContext(ctx, d.statement("DELETE FROM redisidem_key WHERE name IN "+list+" AND changed_at < {now} - ?"),
			append(slices.Clone(names), p.seconds)...)
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
	return removed, err
}

// find returns the next old keys, at most pruneBatch.
func (p *pruning) find(ctx context.Context) (keys []oldKey, err error) {
	s := p.store
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	rows, err := s.db.QueryContext(ctx, s.dialect.statement(`SELECT name, changed_at FROM redisidem_key
		WHERE changed_at < {now} - ? AND (changed_at > ? OR changed_at = ? AND name > ?) ORDER BY changed_at, name LIMIT ?`),
		p.seconds, p.after.changedAt, p.after.changedAt, p.after.name, pruneBatch)
	if err != nil {
		return nil, s.outside(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var k oldKey
		if err := rows.Scan(&k.name, &k.changedAt); err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, s.outside(ctx, rows.Err())
}
