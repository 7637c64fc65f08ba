package redisidem_test

import (
	"context"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
)

func TestTrapL16NestedCallReturnsAtOnce(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a").Wait(time.Hour)
		_, err := sc.Do(ctx, "k", request, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			_, err := sc.WorkStage(ctx, st.Key(), never(t))
			mustBe(t, err, redisidem.ErrNested)
			_, err = sc.Do(ctx, "k", request, never(t))
			mustBe(t, err, redisidem.ErrNested)
			_, err = sc.Lock(ctx, "k")
			mustBe(t, err, redisidem.ErrNested)
			_, err = sc.Do(ctx, "inner", request, func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
				_, err := sc.Lock(ctx, "k") // two levels up
				mustBe(t, err, redisidem.ErrNested)
				return redisidem.Outcome{}, nil
			})
			return redisidem.Outcome{}, err
		})
		mustBe(t, err, nil)
	})
}

// TestKeyOfAnotherServerIsNotNested takes the same key on two servers, which is two keys.
func TestKeyOfAnotherServerIsNotNested(t *testing.T) {
	t.Parallel()
	cfg := redisidem.Config{Namespace: freshNamespace(), Timeout: 5 * time.Second}
	one := serviceOn(t, options(rediscase.Server(t).Addr(), 3), cfg).Scope("a")
	two := serviceOn(t, options(rediscase.Server(t).Addr(), 3), cfg).Scope("a")
	_, err := one.Do(ctx, "k", request, func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
		_, err := two.Do(ctx, "k", request, finish("there"))
		return redisidem.Outcome{}, err
	})
	mustBe(t, err, nil)
}
