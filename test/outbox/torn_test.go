//go:build unix

package outbox

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
)

// TestEffectWithMoreWordsThanLuaCanUnpack checks that such an effect is either refused, at the
// first place that can refuse it, or applied. An unknown outcome would be wrong. A server that does
// not check commands beforehand would store the outcome without the effect.
func TestEffectWithMoreWordsThanLuaCanUnpack(t *testing.T) {
	t.Parallel()
	onEachSite(t, func(t *testing.T, where *site) {
		members := make([]string, 20_000)
		for i := range members {
			members[i] = fmt.Sprint(i)
		}
		mustBeWhole(t, where, func(name string) effect.Effect { return effect.SAdd(name, members...) }, nil)
	})
}

// TestEventForAStreamWithoutIDsLeft checks that such an event is not lost while its stage is
// committed.
func TestEventForAStreamWithoutIDsLeft(t *testing.T) {
	t.Parallel()
	onEachSite(t, func(t *testing.T, where *site) {
		mustBeWhole(t, where, func(name string) effect.Effect { return effect.XAdd(name, "key", "k") },
			func(client redis.UniversalClient, name string) error {
				return client.XAdd(context.Background(), &redis.XAddArgs{
					Stream: name, ID: "18446744073709551615-18446744073709551615", Values: []string{"the", "last"},
				}).Err()
			})
	})
}

// mustBeWhole commits an outcome with an effect. It checks that both or neither were stored, and
// that the caller is informed correctly.
func mustBeWhole(t *testing.T, where *site, write func(name string) effect.Effect,
	prepare func(client redis.UniversalClient, name string) error,
) {
	t.Helper()
	ctx, client := context.Background(), where.direct(t)
	sc := open(t, client).Scope("outbox")
	name := ""
	_, err := sc.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		name = st.ShardKey("taken")
		if prepare != nil {
			if err := prepare(client, name); err != nil {
				return redisidem.Outcome{}, err
			}
		}
		before := effect.Set(st.ShardKey("before"), "written")
		return redisidem.Finish(redisidem.JSON(201, "")).WithEffects(before, write(name)), nil
	})
	key, err1 := sc.Retrieve(ctx, "k")
	if err1 != nil {
		t.Fatal(err1)
	}
	size := client.SCard(ctx, name).Val() + max(client.XLen(ctx, name).Val()-1, 0)
	if stored := key.NotKept() == nil; !key.Finished() || stored != (err == nil) || stored != (size > 0) {
		t.Errorf("the key is %s, the effect wrote %d, the error is %v", key.RecoveryPoint, size, err)
	}
	refused := errors.Is(err, redisidem.ErrInvalid) || errors.Is(err, redisidem.ErrEffect)
	if err != nil && (!refused || !errors.Is(err, redisidem.ErrNotKept)) {
		t.Errorf("the error is %v", err)
	}
}
