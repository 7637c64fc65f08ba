package sqlidem_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/faultnet"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
)

// TestEffectsOfAStageInSQLAreAppliedOnce has work that writes to the database and returns effects.
// One key is undisturbed. The process of the other one dies between its two commits, so that the
// next run takes the effects from the row of the visit.
func TestEffectsOfAStageInSQLAreAppliedOnce(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		server := rediscase.Server(t)
		open := func(network *faultnet.Network) *redisidem.Scope {
			rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1, ContextTimeoutEnabled: true})
			network.Attach(rdb)
			svc, err := redisidem.New(rdb, &redisidem.Config{Lease: time.Second, CommitRetry: -1, Timeout: 5 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = svc.Close(context.Background()) // a dead process has no Redis to hear of it
				_ = rdb.Close()
			})
			return svc.Scope("shop").Wait(time.Minute)
		}
		var network faultnet.Network
		dying, living := open(&network), open(&faultnet.Network{})
		rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
		defer func() { _ = rdb.Close() }()
		runs := make(map[string]int)
		sums := make(map[string]string) // the names of counters
		work := db.store(t).Stage(func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) (redisidem.Outcome, error) {
			key := st.Key().Value
			runs[key]++
			sums[key] = st.ShardKey("sum of " + key)
			return redisidem.Finish(redisidem.JSON(201, key)).WithEffects(effect.IncrBy(sums[key], 1)), insert(ctx, tx, key)
		})
		_, err := dying.Do(t.Context(), "killed", request, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			o, err := work(ctx, st)
			network.RefuseWith(redis.ErrClosed) // from here on, Redis hears nothing of the process
			return o, err
		})
		if !errors.Is(err, redisidem.ErrOutcomeUnknown) {
			t.Fatal(err)
		}
		if n, err := rdb.Exists(t.Context(), sums["killed"]).Result(); err != nil || n != 0 {
			t.Errorf("an effect was applied without a commit to Redis: %d, %v", n, err)
		}
		for _, key := range []string{"undisturbed", "killed"} {
			for range 2 { // and once more, for a replay
				if k, err := living.Do(t.Context(), key, request, work); err != nil || string(k.Response.Body) != `"`+key+`"` {
					t.Fatalf("%s: %+v, %v", key, k, err)
				}
			}
			if sum, err := rdb.Get(t.Context(), sums[key]).Result(); err != nil || sum != "1" || runs[key] != 1 {
				t.Errorf("%s: the effect was applied %s times, %v; %d runs", key, sum, err, runs[key])
			}
			if n := db.count(t, "SELECT COUNT(*) FROM work WHERE id = '"+key+"'"); n != 1 {
				t.Errorf("%s: %d rows", key, n)
			}
		}
	})
}
