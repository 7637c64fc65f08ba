package redisidem_test

import (
	"context"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestUnstorableResultTypeIsRefusedBeforeTheWork(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		type hidden struct{ id int }
		type holder struct{ F func() }
		mustRefuse[func()](t, sc)
		mustRefuse[chan int](t, sc)
		mustRefuse[hidden](t, sc)
		mustRefuse[*hidden](t, sc)
		mustRefuse[holder](t, sc)
		mustRefuse[complex128](t, sc)
		mustRefuse[map[struct{ A int }]int](t, sc)
		mustRefuse[[1]func()](t, sc)
		_ = hidden{id: 1}
		_, _, err := redisidem.Do(ctx, sc, "none", request, func(context.Context, *redisidem.Stage) (struct{}, error) {
			return struct{}{}, nil
		})
		mustBe(t, err, nil)
		_, _, err = redisidem.Do(ctx, sc, "time", request, func(context.Context, *redisidem.Stage) (time.Time, error) {
			return time.Time{}, nil
		})
		mustBe(t, err, nil)
	})
}

func mustRefuse[T any](t *testing.T, sc *redisidem.Scope) {
	t.Helper()
	_, _, err := redisidem.Do(ctx, sc, "k", request, func(context.Context, *redisidem.Stage) (result T, err error) {
		t.Errorf("the work for %T ran", result)
		return result, nil
	})
	mustBe(t, err, redisidem.ErrInvalid)
}

func TestResultOfAnotherType(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		type charge struct{ ID, Amount string }
		_, _, err := redisidem.Do(ctx, sc, "k", request, func(context.Context, *redisidem.Stage) (charge, error) {
			return charge{"ch_1", "ten"}, nil
		})
		mustBe(t, err, nil)
		type other struct {
			ID     string
			Amount int
		}
		result, replayed, err := redisidem.Do(ctx, sc, "k", request, func(context.Context, *redisidem.Stage) (other, error) {
			return other{}, nil
		})
		mustBe(t, err, redisidem.ErrOtherType)
		if !replayed || result != (other{}) {
			t.Errorf("the result is %+v, replayed %v", result, replayed)
		}
		_, err = sc.Do(ctx, "empty", request, outcome(redisidem.Outcome{}))
		mustBe(t, err, nil)
		_, _, err = redisidem.Do(ctx, sc, "empty", request, func(context.Context, *redisidem.Stage) (int, error) { return 1, nil })
		mustBe(t, err, redisidem.ErrOtherType)
		_, err = sc.Do(ctx, "state", request, outcome(redisidem.Advance("two").WithState("word")))
		mustBe(t, err, nil)
		_, err = sc.Do(ctx, "state", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			var n int
			return redisidem.Outcome{}, st.State(&n)
		})
		mustBe(t, err, redisidem.ErrOtherType)
	})
}
