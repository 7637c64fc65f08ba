package sqlidem

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// The defaults of [RelayConfig].
const (
	DefaultRelayBatch      = 100
	DefaultRelayPoll       = 500 * time.Millisecond
	DefaultRelayLease      = 30 * time.Second
	DefaultRelayMaxBackoff = time.Minute

	// DefaultPublishTimeout is the default of RelayConfig.PublishTimeout, if Lease is long enough.
	DefaultPublishTimeout = 10 * time.Second
)

// RelayConfig configures a [Relay]. Publish is required.
type RelayConfig struct {
	// Publish sends one event, and returns when the receiver has it. It gets an event again if its
	// process ends, or loses the relay's lease, before the event is removed from the outbox. After
	// an error the event is tried again later, and the later events of its key wait for it.
	//
	// All events wait while Publish runs, so it must return when its context ends. The context ends
	// after PublishTimeout, or a little earlier with the relay's lease, which is an error like
	// others, and when the relay is stopped. Events that have failed before come after the others.
	Publish func(ctx context.Context, e Event) error
	// PublishTimeout bounds each call of Publish. At least 1 ms, at most Lease - 1 s. Default: 10
	// s, or half of Lease if that is less.
	PublishTimeout time.Duration

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
	if cfg.PublishTimeout == 0 {
		cfg.PublishTimeout = min(DefaultPublishTimeout, cfg.Lease/2)
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
	case cfg.PublishTimeout < time.Millisecond || cfg.PublishTimeout > usable(cfg.Lease):
		return nil, invalid("RelayConfig.PublishTimeout", "must be 1ms to %v, which is Lease - 1s: %v", usable(cfg.Lease), cfg.PublishTimeout)
	case cfg.MaxBackoff < time.Second || cfg.MaxBackoff%time.Second != 0:
		return nil, invalid("RelayConfig.MaxBackoff", "must be whole seconds, at least 1s: %v", cfg.MaxBackoff)
	}
	return &Relay{store: s, cfg: cfg, owner: rand.Text()}, nil
}

// usable returns how long a relay relies on a new lease. The database counts whole seconds, so its
// lease may be shorter by one.
func usable(lease time.Duration) time.Duration { return lease - time.Second }

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
// if another relay is at work. The error is that of the database or of the context, or says that
// the database was too slow for the lease.
func (r *Relay) Drain(ctx context.Context) (published int, err error) {
	if err := r.store.checkSchema(ctx); err != nil {
		return 0, err
	}
	for {
		n, more, err := r.batch(ctx)
		published += n
		if err != nil || !more || n == 0 {
			return published, err
		}
	}
}

// batch publishes a batch, and then events that have failed before, for about a PublishTimeout:
// many of them do not keep the others waiting. It returns how many events it has published, and
// whether there may be more that are due.
func (r *Relay) batch(ctx context.Context) (published int, more bool, err error) {
	until, mine, err := r.claim(ctx)
	if !mine || err != nil {
		return 0, false, err
	}
	events, err := r.read(ctx, unfailed)
	if err != nil {
		return 0, false, err
	}
	again, err := r.read(ctx, dueAgain)
	if err != nil {
		return 0, false, err
	}
	more = len(events) == r.cfg.Batch
	failed := make(map[string]bool)
	var began time.Time
	for i, e := range slices.Concat(events, again) {
		if failed[e.Key] {
			continue
		}
		if i == len(events) {
			began = time.Now()
		}
		if i > len(events) && time.Since(began) >= r.cfg.PublishTimeout {
			break
		}
		left := time.Until(until)
		switch {
		case left <= 0 && published == 0:
			return 0, false, r.tooLate()
		case left <= 0:
			return published, true, ctx.Err() // another relay may have published the others
		}
		if left < r.cfg.PublishTimeout {
			if until, mine, err = r.claim(ctx); !mine || err != nil {
				return published, false, err
			}
			// The database may have been slow. Half of the time must be left, so that the event
			// does not fail for that: PublishTimeout may be as long as the lease.
			if time.Until(until) < r.cfg.PublishTimeout/2 {
				return published, false, r.tooLate()
			}
		}
		sent, err := r.publish(ctx, e, until)
		if err != nil {
			return published, false, err
		}
		failed[e.Key] = !sent
		if sent {
			published++
			more = more || i >= len(events) // the later events of its key
		}
	}
	return published, more, nil
}

// tooLate is the error of a batch for which too little of the lease is left.
func (r *Relay) tooLate() error {
	return fmt.Errorf("sqlidem: claim the outbox: the database has answered too late for a lease of %v", r.cfg.Lease)
}

// publish publishes an event and removes it, or postpones it. It reports whether it was published.
// Publish has PublishTimeout, and no longer than the lease. The error is that of the database, or
// of the context.
func (r *Relay) publish(ctx context.Context, e Event, until time.Time) (sent bool, err error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if end := time.Now().Add(r.cfg.PublishTimeout); end.Before(until) {
		until = end
	}
	bounded, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	failure := r.cfg.Publish(bounded, e)
	if failure == nil {
		if err := r.record(ctx, "DELETE FROM redisidem_outbox WHERE id = ?", e.ID); err != nil {
			return false, fmt.Errorf("sqlidem: remove event %d: %w", e.ID, err)
		}
		return true, nil
	}
	if ctx.Err() != nil { // the relay is stopped, which is not the event's failure
		return false, ctx.Err()
	}
	r.cfg.Logger.WarnContext(ctx, "sqlidem: an event was not published", "id", e.ID, "topic", e.Topic, "failures", e.Failures+1, "error", failure)
	return false, r.postpone(ctx, e)
}

// claim takes or renews the relay's lease. It returns until when the relay relies on it, and
// whether this relay has it.
func (r *Relay) claim(ctx context.Context) (until time.Time, mine bool, err error) {
	until = time.Now().Add(usable(r.cfg.Lease))
	if err := r.exec(ctx, `UPDATE redisidem_relay SET owner = ?, expires_at = {now} + ?
		WHERE name = 'outbox' AND (owner = ? OR expires_at <= {now})`, r.owner, int64(r.cfg.Lease/time.Second), r.owner); err != nil {
		return until, false, fmt.Errorf("sqlidem: claim the outbox: %w", err)
	}
	ctx, cancel := r.store.bounded(ctx)
	defer cancel()
	var owner string
	if err := r.store.db.QueryRowContext(ctx, "SELECT owner FROM redisidem_relay WHERE name = 'outbox'").Scan(&owner); err != nil {
		return until, false, fmt.Errorf("sqlidem: claim the outbox: %w", err)
	}
	return until, owner == r.owner, nil
}

// release gives the relay's lease back, so that another relay does not wait for its end.
func (r *Relay) release(ctx context.Context) {
	err := r.record(ctx, "UPDATE redisidem_relay SET owner = '', expires_at = 0 WHERE name = 'outbox' AND owner = ?", r.owner)
	if err != nil {
		r.cfg.Logger.WarnContext(ctx, "sqlidem: release the outbox", "error", err)
	}
}

// The conditions and the orders in which events are read.
const (
	// unfailed are the oldest events of which neither they nor an earlier one of their key has
	// failed.
	unfailed = `NOT EXISTS (SELECT 1 FROM redisidem_outbox b WHERE b.key_name = o.key_name AND b.id <= o.id AND b.failures > 0) ORDER BY id`
	// dueAgain are events that have failed and are to be tried again: those first that are due for
	// longest. Each is the first one of its key.
	dueAgain = `o.failures > 0 AND o.not_before <= {now} AND NOT EXISTS (SELECT 1 FROM redisidem_outbox b WHERE b.key_name = o.key_name AND b.id < o.id)
		ORDER BY not_before, id`
)

// read returns up to Batch events.
func (r *Relay) read(ctx context.Context, which string) (events []Event, err error) {
	s := r.store
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	rows, err := s.db.QueryContext(ctx, s.dialect.statement(`SELECT id, key_name, topic, payload, created_at, failures FROM redisidem_outbox o
		WHERE `+which+` LIMIT ?`), r.cfg.Batch)
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
	if err := r.record(ctx, "UPDATE redisidem_outbox SET failures = failures + 1, not_before = {now} + ? WHERE id = ?", pause, e.ID); err != nil {
		return fmt.Errorf("sqlidem: postpone event %d: %w", e.ID, err)
	}
	return nil
}

// record executes one statement that says what has happened, also when ctx has ended. It takes as
// long as a lease at most.
func (r *Relay) record(ctx context.Context, text string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Lease)
	defer cancel()
	return r.exec(ctx, text, args...)
}

// exec executes one statement within Config.Timeout.
func (r *Relay) exec(ctx context.Context, text string, args ...any) error {
	ctx, cancel := r.store.bounded(ctx)
	defer cancel()
	_, err := r.store.db.ExecContext(ctx, r.store.dialect.statement(text), args...)
	return err
}
