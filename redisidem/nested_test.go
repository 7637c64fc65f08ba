package redisidem_test

import (
	"context"
	"errors"
	"strings"
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

// TestNestedCallWithTheOuterContextNamesTheOwnLease makes nested calls that cannot be recognised as
// such, because they have not got the stage's context.
func TestNestedCallWithTheOuterContextNamesTheOwnLease(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		view, err := svc.WithRetention(time.Hour)
		mustBe(b, err, nil)
		mustName := func(err error, own bool) {
			b.Helper()
			locked, ok := errors.AsType[*redisidem.LockedError](err)
			if !ok || strings.Contains(err.Error(), "the stage's context") != own || locked.RetryAfter <= 0 {
				b.Errorf("the error is %v, want one that names the own lease: %v", err, own)
			}
		}
		_, err = svc.Scope("a").Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			for _, sc := range []*redisidem.Scope{svc.Scope("a"), svc.Scope("a").Wait(time.Second), view.Scope("a")} {
				_, err := sc.Do(ctx, "k", request, never(b))
				mustName(err, true)
			}
			_, err := svc.Scope("a").Update(ctx, st.Key(), redisidem.Advance("two"))
			mustName(err, true)
			mustName(svc.Scope("a").Delete(ctx, st.Key()), true)
			_, err = b.service(redisidem.Config{}).Scope("a").Lock(ctx, "k")
			mustName(err, false)
			_, err = svc.Scope("a").Do(ctx, "other", request, finish("other"))
			return redisidem.Outcome{}, err
		})
		mustBe(b, err, nil)
	})
}

// TestLeaseThatIsLostIsNotTheOwnOne lets another service take the lease of a frozen holder.
func TestLeaseThatIsLostIsNotTheOwnOne(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		start(b, sc, "k")
		old := locked(b, sc, "k")
		b.freeze()
		<-old.Context().Done()
		b.thaw()
		time.Sleep(redisidem.DefaultLease)
		locked(b, b.service(redisidem.Config{}).Scope("a"), "k")
		_, err := sc.Lock(ctx, "k")
		if locked, ok := errors.AsType[*redisidem.LockedError](err); !ok || strings.Contains(locked.Error(), "own") {
			b.Errorf("the error is %v", err)
		}
		mustBe(b, old.Abandon(ctx), nil)
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
