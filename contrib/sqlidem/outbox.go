package sqlidem

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// Event is an entry of the outbox.
type Event struct {
	// ID is the event's number, which the database gives. It is the same whenever the event is
	// published again, so that consumers recognise a repetition. Publish ignores it.
	ID int64
	// Key is the [redisidem.Key.Record] of the idempotency key whose stage has published the event.
	// A relay keeps the order of the events of one key. Publish ignores it.
	Key string
	// Topic says where the event goes. Not empty, at most 700 bytes.
	Topic string
	// Payload is the content.
	Payload []byte
	// CreatedAt is the database's time of the event, in whole seconds. Publish ignores it.
	CreatedAt time.Time
	// Failures is how often a relay could not publish it. Publish ignores it.
	Failures int
}

// maxTopicBytes is the length of the column.
const maxTopicBytes = 700

// Publish writes events into the outbox, in the transaction of a stage or compensation of this
// Store: they exist if and only if the transaction is committed. A [Relay] then publishes them.
//
// Events of one idempotency key have the order in which their stages were committed, and those of
// one stage the order of the calls. There is no order between keys. tx must be the transaction that
// the Store has passed to the work, because the order comes from its lock.
func (s *Store) Publish(ctx context.Context, tx *sql.Tx, st *redisidem.Stage, events ...Event) error {
	for i, e := range events {
		if e.Topic == "" || len(e.Topic) > maxTopicBytes {
			return invalid(fmt.Sprintf("events[%d].Topic", i), "must have 1 to %d bytes: %d", maxTopicBytes, len(e.Topic))
		}
	}
	insert := s.dialect.statement("INSERT INTO redisidem_outbox (key_name, topic, payload, created_at) VALUES (?, ?, ?, {now})")
	for _, e := range events {
		if _, err := tx.ExecContext(ctx, insert, st.Key().Record(), e.Topic, append([]byte{}, e.Payload...)); err != nil {
			return fmt.Errorf("sqlidem: write to the outbox: %w", err)
		}
	}
	return nil
}

// Backlog is what waits in the outbox.
type Backlog struct {
	// Events is the number of events that were not published yet.
	Events int64
	// Failing is the number of those that could not be published at least once. The later events of
	// their keys wait for them.
	Failing int64
	// Age is how long the oldest event has waited, by the database's clock.
	Age time.Duration
}

// Backlog returns what waits in the outbox, for alerts. It reads the whole outbox.
func (s *Store) Backlog(ctx context.Context) (Backlog, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var b Backlog
	var seconds int64
	err := s.db.QueryRowContext(ctx, s.dialect.statement(`SELECT COUNT(*), COUNT(CASE WHEN failures > 0 THEN 1 END),
		COALESCE({now} - MIN(created_at), 0) FROM redisidem_outbox`)).Scan(&b.Events, &b.Failing, &seconds)
	if err != nil {
		return Backlog{}, fmt.Errorf("sqlidem: read the outbox: %w", err)
	}
	b.Age = time.Duration(max(seconds, 0)) * time.Second
	return b, nil
}
