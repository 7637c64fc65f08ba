package protocol

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// TestTurnsAfterTheClockWasSetBack has a flow at rest, and a turn that another process has. Both
// would last an hour longer if the server's clock counted.
func TestTurnsAfterTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	c, err := New(&Options{Redis: client, Namespace: "ns", Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	flows := []Quiet{{Flow: "resting", For: 20 * time.Second}, {Flow: "scanned", For: 0}}
	turn := func(at time.Time) Turn {
		t.Helper()
		server.SetTime(at)
		turn, err := c.TakeTurns(ctx, flows, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return turn
	}
	both := []string{"resting", "scanned"}
	first := turn(now)
	if !slices.Equal(first.Flows, both) {
		t.Fatalf("the first turn is that of %q", first.Flows)
	}
	if r, err := c.Run(ctx, c.NewRest(first, Rest{Flow: "resting", First: Empty})); err != nil || r.Status != StatusOK {
		t.Fatal(r.Status, err)
	}
	if got := turn(now.Add(9 * time.Second)); len(got.Flows) > 0 {
		t.Errorf("%q have a second turn within the first", got.Flows)
	}
	if got := turn(now.Add(11 * time.Second)); !slices.Equal(got.Flows, both[1:]) {
		t.Errorf("%q have a turn after the first has ended, and one of them rests", got.Flows)
	}
	if got := turn(now.Add(-time.Hour)); !slices.Equal(got.Flows, both) {
		t.Errorf("%q have a turn after the clock was set back", got.Flows)
	}
}
