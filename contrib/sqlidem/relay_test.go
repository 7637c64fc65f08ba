package sqlidem_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisidem/redisidem/contrib/sqlidem"
)

// publishes runs flows with some keys, which leave four events each.
func publishes(t *testing.T, store *sqlidem.Store, keys ...string) {
	t.Helper()
	sc, _, _ := scope(t)
	flow := publishing(t, store, nil)
	for _, key := range keys {
		if _, err := sc.DoFlow(t.Context(), key, request, flow); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHangingPublishHoldsUpItsKeyOnly has a receiver that never takes the events of one key.
func TestHangingPublishHoldsUpItsKeyOnly(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		store := db.store(t)
		publishes(t, store, "a", "b", "c")
		var r receiver
		hung := 0
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		relay(t, store, &r, func(c *sqlidem.RelayConfig) {
			c.Publish = func(ctx context.Context, e sqlidem.Event) error {
				if e.Payload[0] == 'a' {
					hung++
					<-ctx.Done()
					return ctx.Err()
				}
				err := r.publish(ctx, e)
				if r.of("b")+r.of("c") == "one0 one1 two0 two1one0 one1 two0 two1" {
					stop()
				}
				return err
			}
		}).Run(ctx)
		b, err := store.Backlog(t.Context())
		if err != nil || b.Events != 4 || b.Failing != 1 || hung == 0 || !errors.Is(ctx.Err(), context.Canceled) {
			t.Errorf("%+v, %v: the others got %q and %q", b, err, r.of("b"), r.of("c"))
		}
	})
}

// TestManyHangingKeysDoNotHoldUpTheOthers has more keys that hang than events in a batch, in front
// of one that does not.
func TestManyHangingKeysDoNotHoldUpTheOthers(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		store := db.store(t)
		publishes(t, store, "a", "d", "e", "f", "g", "k")
		var r receiver
		ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
		defer stop()
		calls := make(map[byte]int)
		relay(t, store, &r, func(c *sqlidem.RelayConfig) {
			// The five that hang are due again before all of them were tried.
			c.Batch, c.PublishTimeout, c.MaxBackoff = 2, 300*time.Millisecond, time.Second
			c.Publish = func(ctx context.Context, e sqlidem.Event) error {
				calls[e.Payload[0]]++
				if e.Payload[0] != 'k' {
					<-ctx.Done()
					return ctx.Err()
				}
				err := r.publish(ctx, e)
				if r.of("k") == "one0 one1 two0 two1" {
					stop()
				}
				return err
			}
		}).Run(ctx)
		if !errors.Is(ctx.Err(), context.Canceled) {
			t.Errorf("after %v calls the receiver has %q", calls, r.of("k"))
		}
	})
}

// TestSlowPublishIsNotRepeated has a receiver that takes longer than the lease for each event, and
// ignores its context.
func TestSlowPublishIsNotRepeated(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		store := db.store(t)
		publishes(t, store, "k")
		var r receiver
		n, err := relay(t, store, &r, func(c *sqlidem.RelayConfig) {
			c.Publish = func(ctx context.Context, e sqlidem.Event) error {
				time.Sleep(1100 * time.Millisecond)
				return r.publish(ctx, e)
			}
		}).Drain(t.Context())
		if err != nil || n != 4 || r.of("k") != "one0 one1 two0 two1" {
			t.Errorf("%d, %v: %q", n, err, r.of("k"))
		}
	})
}

// TestRelayRenewsItsLeaseWithinABatch has a batch that takes longer than the lease.
func TestRelayRenewsItsLeaseWithinABatch(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		store := db.store(t)
		publishes(t, store, "a", "b")
		var r, others receiver
		other := relay(t, store, &others)
		reads := 0
		n, err := relay(t, store, &r, func(c *sqlidem.RelayConfig) {
			c.Publish = func(ctx context.Context, e sqlidem.Event) error {
				time.Sleep(400 * time.Millisecond)
				reads++
				if n, err := other.Drain(t.Context()); n != 0 || err != nil {
					t.Errorf("beside event %d, another relay published %d, %v", reads, n, err)
				}
				return r.publish(ctx, e)
			}
		}).Drain(t.Context())
		if err != nil || n != 8 || reads != 8 {
			t.Errorf("%d of %d, %v", n, reads, err)
		}
	})
}

// TestRelayThatIsStoppedRemovesWhatIsPublished stops a relay during a publication that succeeds,
// and during one that fails because of that.
func TestRelayThatIsStoppedRemovesWhatIsPublished(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		store := db.store(t)
		publishes(t, store, "k")
		for _, fails := range []bool{false, true} {
			var r receiver
			ctx, stop := context.WithCancel(t.Context())
			var once sync.Once
			relay(t, store, &r, func(c *sqlidem.RelayConfig) {
				c.Publish = func(ctx context.Context, e sqlidem.Event) error {
					once.Do(stop)
					if fails {
						return ctx.Err()
					}
					return r.publish(ctx, e)
				}
			}).Run(ctx)
			if b, err := store.Backlog(t.Context()); err != nil || b.Events != 3 || b.Failing != 0 {
				t.Errorf("fails %t: %+v, %v", fails, b, err)
			}
		}
	})
}

// TestRelayWhoseLeaseIsRenewedTooLateDoesNotPublish holds up the renewal within a batch until the
// lease has lapsed again. Another relay then publishes, and no two of them at the same time.
func TestRelayWhoseLeaseIsRenewedTooLateDoesNotPublish(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		if db.dialect == sqlidem.SQLite {
			return // it has one writer: the first event is not removed either
		}
		store := db.store(t)
		publishes(t, store, "a", "b")
		var r, others receiver
		other := relay(t, store, &others)
		held := make(chan struct{})
		calls := 0
		n, err := relay(t, store, &r, func(c *sqlidem.RelayConfig) {
			c.Publish = func(ctx context.Context, e sqlidem.Event) error {
				calls++
				if calls == 1 {
					time.Sleep(200 * time.Millisecond) // less than PublishTimeout is left
					db.hold(t, "redisidem_relay", 2500*time.Millisecond, held)
				} else if n, err := other.Drain(t.Context()); n != 0 || err != nil {
					t.Errorf("beside event %d, another relay published %d, %v", calls, n, err)
				}
				return r.publish(ctx, e)
			}
		}).Drain(t.Context())
		<-held
		if n != 1 || calls != 1 || err == nil || !strings.Contains(err.Error(), "too late") {
			t.Errorf("%d of %d, %v", n, calls, err)
		}
		if n, err := other.Drain(t.Context()); err != nil || n != 7 {
			t.Errorf("the other relay published %d, %v", n, err)
		}
	})
}

// hold locks the rows of a table for some time, and then closes the channel.
func (db *database) hold(t *testing.T, table string, d time.Duration, ended chan struct{}) {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	if err == nil {
		_, err = tx.ExecContext(t.Context(), "UPDATE "+table+" SET name = name")
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(ended)
		time.Sleep(d)
		_ = tx.Rollback()
	}()
}
