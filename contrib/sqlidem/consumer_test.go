package sqlidem_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/consumer"
)

// TestMessageWhoseWorkIsCommittedIsNoDeadLetter has a message whose only attempt dies after COMMIT,
// before Redis hears of it. The next delivery stores the outcome instead of giving the message up.
func TestMessageWhoseWorkIsCommittedIsNoDeadLetter(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		_, dying, server := scope(t, func(c *redisidem.Config) { c.Timeout = 2 * time.Second; c.CommitRetry = -1 })
		store := db.store(t)
		var runs atomic.Int64
		work := store.Stage(inserting(&runs))
		messages := func(svc *redisidem.Service) *consumer.Consumer {
			c, err := consumer.New(svc, "orders", &consumer.Config{
				MaxAttempts: 1, Reconcile: store.Reconcile(),
				DeadLetter: func(_ context.Context, m consumer.Message, cause error) error {
					t.Errorf("message %s was handed over: %v", m.ID, cause)
					return nil
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		_, err := messages(dying).Handle(t.Context(), consumer.Message{ID: "m"},
			func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				defer server.Stop() // between the two commits
				return work(ctx, st)
			})
		if !errors.Is(err, redisidem.ErrOutcomeUnknown) {
			t.Fatal(err)
		}
		server.Restart()
		server.FastForward(redisidem.DefaultLease)
		next := messages(server.Service(nil))
		key, err := next.Handle(t.Context(), consumer.Message{ID: "m"}, work)
		if err != nil || key.Response == nil || string(key.Response.Body) != `"run 1"` || runs.Load() != 1 {
			t.Errorf("%+v, %v, %d runs", key, err, runs.Load())
		}
	})
}
