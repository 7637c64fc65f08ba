package sqlidem

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"time"
)

// The defaults of [RelayConfig].
const (
	DefaultRelayBatch      = 100
	DefaultRelayPoll       = 500 * time.Millisecond
	DefaultRelayLease      = 30 * time.Second
	DefaultRelayMaxBackoff = time.Minute
)

// RelayConfig configures a [Relay]. Publish is required.
type RelayConfig struct {
	// Publish sends one event, and returns when the receiver has it. It gets an event again if its
	// process ends, or loses the relay's lease, before the event is removed from the outbox. After
	// an error the event is tried again later, and the later events of its key wait for it. The
	// context ends with the relay's lease.
	Publish func(ctx context.Context, e Event) error

	// Batch is how many events are read at a time. Default: 100.
	Batch int
	// Poll is the pause before the outbox is read again when there was nothing to do. Default:
	// 500 ms.
	Poll time.Duration
	// Lease is for how long another process waits before it takes over from a relay that has died.
	// Whole seconds, at least 2. Default: 30 s.
	Lease time.Duration
	// MaxBackoff bounds the pause before an event is tried again. The first is one second, and they
	// double. Whole seconds. Default: 1 min.
	MaxBackoff time.Duration
	// Logger receives the errors of Publish and of the database. Nil: nothing is logged.
	Logger *slog.Logger
}

// Relay publishes the events of the outbox, each at least once. The first publication of an event
// comes after the first publications of all earlier events of its key.
//
// One relay works at a time, of all processes that use the database. The others wait to take over.
// A relay that is stopped for longer than its lease may publish an event once more than its
// successor has, out of order.
type Relay struct {
	store *Store
	cfg   RelayConfig
	owner string
}

// NewRelay returns a relay. It sends nothing: call [Relay.Run]. A field of cfg that breaks its
// bound is a [*redisidem.InvalidError].
func (s *Store) NewRelay(cfg RelayConfig) (*Relay, error) {
	if cfg.Batch == 0 {
		cfg.Batch = DefaultRelayBatch
	}
	if cfg.Poll == 0 {
		cfg.Poll = DefaultRelayPoll
	}
	if cfg.Lease == 0 {
		cfg.Lease = DefaultRelayLease
	}
	if cfg.MaxBackoff == 0 {
		cfg.MaxBackoff = DefaultRelayMaxBackoff
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case cfg.Publish == nil:
		return nil, invalid("RelayConfig.Publish", "must not be nil")
	case cfg.Batch < 1:
		return nil, invalid("RelayConfig.Batch", "must be at least 1: %d", cfg.Batch)
	case cfg.Poll < time.Millisecond:
		return nil, invalid("RelayConfig.Poll", "must be at least 1ms: %v", cfg.Poll)
	case cfg.Lease < 2*time.Second || cfg.Lease%time.Second != 0:
		return nil, invalid("RelayConfig.Lease", "must be whole seconds, at least 2s: %v", cfg.Lease)
	case cfg.MaxBackoff < time.Second || cfg.MaxBackoff%time.Second != 0:
		return nil, invalid("RelayConfig.MaxBackoff", "must be whole seconds, at least 1s: %v", cfg.MaxBackoff)
	}
	return &Relay{store: s, cfg: cfg, owner: rand.Text()}, nil
}

// Run publishes events until ctx ends. Errors of Publish and of the database are logged, and tried
// again.
func (r *Relay) Run(ctx context.Context) {
	for ctx.Err() == nil {
		published, err := r.Drain(ctx)
		if err != nil && ctx.Err() == nil {
			r.cfg.Logger.WarnContext(ctx, "sqlidem: relay", "error", err)
		}
		if published > 0 && err == nil {
			continue
		}
		pause := backoff{next: r.cfg.Poll}
		pause.wait(ctx)
	}
	r.release(ctx)
}

// Drain publishes the events that are due now, and returns how many it has published. It returns 0
// if another relay is at work. The error is that of the database, or of the context.
func (r *Relay) Drain(ctx context.Context) (published int, err error) {
	if err := r.store.checkSchema(ctx); err != nil {
		return 0, err
	}
	for {
		n, read, err := r.batch(ctx)
		published += n
		if err != nil || read < r.cfg.Batch || n == 0 {
			return published, err
		}
	}
}

// batch publishes a batch. It returns how many events it has published, and how many it has read.
func (r *Relay) batch(ctx context.Context) (published, read int, err error) {
	began := time.Now()
	mine, err := r.claim(ctx)
	if !mine || err != nil {
		return 0, 0, err
	}
	// The database counts whole seconds, so its lease may be shorter by one.
	ctx, cancel := context.WithDeadline(ctx, began.Add(r.cfg.Lease-time.Second))
	defer cancel()
	events, err := r.read(ctx)
	if err != nil {
		return 0, 0, err
	}
	failed := make(map[string]bool)
	for _, e := range events {
		if failed[e.Key] {
			continue
		}
		if ctx.Err() != nil {
			return published, len(events), ctx.Err()
		}
		if err := r.cfg.Publish(ctx, e); err != nil {
			failed[e.Key] = true
			r.cfg.Logger.WarnContext(ctx, "sqlidem: an event was not published", "id", e.ID, "topic", e.Topic, "failures", e.Failures+1, "error", err)
			if err := r.postpone(ctx, e); err != nil {
				return published, len(events), err
			}
			continue
		}
		if err := r.exec(ctx, "DELETE FROM redisidem_outbox WHERE id = ?", e.ID); err != nil {
			return published, len(events), fmt.Errorf("sqlidem: remove event %d: %w", e.ID, err)
		}
		published++
	}
	return published, len(events), nil
}

// claim takes or renews the relay's lease, and reports whether this relay has it.
func (r *Relay) claim(ctx context.Context) (bool, error) {
	if err := r.exec(ctx, `UPDATE redisidem_relay SET owner = ?, expires_at = {now} + ?
		WHERE name = 'outbox' AND (owner = ? OR expires_at <= {now})`, r.owner, int64(r.cfg.Lease/time.Second), r.owner); err != nil {
		return false, fmt.Errorf("sqlidem: claim the outbox: %w", err)
	}
	ctx, cancel := r.store.bounded(ctx)
	defer cancel()
	var owner string
	if err := r.store.db.QueryRowContext(ctx, "SELECT owner FROM redisidem_relay WHERE name = 'outbox'").Scan(&owner); err != nil {
		return false, fmt.Errorf("sqlidem: claim the outbox: %w", err)
	}
	return owner == r.owner, nil
}

// release gives the relay's lease back, so that another relay does not wait for its end.
func (r *Relay) release(ctx context.Context) {
	err := r.exec(context.WithoutCancel(ctx), "UPDATE redisidem_relay SET owner = '', expires_at = 0 WHERE name = 'outbox' AND owner = ?", r.owner)
	if err != nil {
		r.cfg.Logger.WarnContext(ctx, "sqlidem: release the outbox", "error", err)
	}
}

// read returns the oldest events that do not wait for an earlier one of their key.
func (r *Relay) read(ctx context.Context) (events []Event, err error) {
	s := r.store
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	rows, err := s.db.QueryContext(ctx, s.dialect.statement(`SELECT id, key_name, topic, payload, created_at, failures FROM redisidem_outbox o
		WHERE NOT EXISTS (SELECT 1 FROM redisidem_outbox b WHERE b.key_name = o.key_name AND b.id <= o.id AND b.not_before > {now})
		ORDER BY id LIMIT ?`), r.cfg.Batch)
	if err != nil {
		return nil, fmt.Errorf("sqlidem: read the outbox: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var e Event
		var created int64
		if err := rows.Scan(&e.ID, &e.Key, &e.Topic, &e.Payload, &created, &e.Failures); err != nil {
			return nil, fmt.Errorf("sqlidem: read the outbox: %w", err)
		}
		e.CreatedAt = time.Unix(created, 0).UTC()
		events = append(events, e)
	}
	return events, rows.Err()
}

// postpone counts a failure of an event and sets when it is tried again.
func (r *Relay) postpone(ctx context.Context, e Event) error {
	most := int64(r.cfg.MaxBackoff / time.Second)
	pause := min(int64(1)<<min(e.Failures, 30), most)
	if err := r.exec(ctx, "UPDATE redisidem_outbox SET failures = failures + 1, not_before = {now} + ? WHERE id = ?", pause, e.ID); err != nil {
		return fmt.Errorf("sqlidem: postpone event %d: %w", e.ID, err)
	}
	return nil
}

// exec executes one statement within Config.Timeout.
func (r *Relay) exec(ctx context.Context, text string, args ...any) error {
	ctx, cancel := r.store.bounded(ctx)
	defer cancel()
	_, err := r.store.db.ExecContext(ctx, r.store.dialect.statement(text), args...)
	return err
}
