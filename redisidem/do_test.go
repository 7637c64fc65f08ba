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
