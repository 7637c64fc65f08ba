package backoff

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestPausesDoubleUpToTheLongest(t *testing.T) {
	t.Parallel()
	b := Backoff{First: 5, Max: 18}
	for range 2 {
		for i, want := range []time.Duration{5, 10, 18, 18} {
			if got := b.Next(); got != want {
				t.Errorf("pause %d is %d, want %d", i, got, want)
			}
		}
		b.Reset()
	}
	if short := (&Backoff{First: 5, Max: 3}); short.Next() != 3 {
		t.Error("the first pause is longer than the longest")
	}
}

func TestJitterStaysWithinItsBounds(t *testing.T) {
	t.Parallel()
	seen := make(map[time.Duration]bool)
	for range 1000 {
		b := Backoff{First: 4, Max: 4}
		pause := b.Jittered()
		if pause < 2 || pause > 4 {
			t.Fatalf("the pause is %d, want 2 to 4", pause)
		}
		seen[pause] = true
	}
	if len(seen) != 3 {
		t.Errorf("the pauses are %v, want each of 2 to 4", seen)
	}
	if got := Between(7, 7); got != 7 {
		t.Errorf("between 7 and 7 is %d", got)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if !Wait(t.Context(), time.Second) || time.Since(began) != time.Second {
			t.Errorf("waited %v, want 1s", time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if Wait(ctx, time.Hour) {
			t.Error("waited although the context had ended")
		}
	})
}
