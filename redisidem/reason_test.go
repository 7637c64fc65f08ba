package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

func TestReasons(t *testing.T) {
	t.Parallel()
	word := regexp.MustCompile(`^[a-z-]+$`)
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("anything"), "other"},
		{context.Canceled, "canceled"},
		{context.DeadlineExceeded, "deadline-exceeded"},
		{&redisidem.LockedError{}, "locked"},
		{redisidem.ErrFingerprintMismatch, "mismatch"},
		{redisidem.ErrUnavailable, "unavailable"},
		{errors.Join(redisidem.ErrUnavailable, context.DeadlineExceeded), "unavailable"},
		{errors.Join(redisidem.ErrUnavailable, context.Canceled), "canceled"}, // the caller left
		{errors.Join(redisidem.ErrLocked, context.Canceled), "locked"},
		{errors.Join(redisidem.ErrUnavailable, redisidem.ErrNotPermitted), "not-permitted"},
		{fmt.Errorf("%w: %w", redisidem.ErrOutcomeUnknown, redisidem.ErrUnavailable), "outcome-unknown"},
		{redisidem.ErrLeaseLost, "lease-lost"},
		{redisidem.ErrFenced, "fenced"},
		{redisidem.ErrMaxHold, "max-hold"},
		{redisidem.ErrLeaseEnded, "lease-ended"},
		{redisidem.ErrNested, "nested"},
		{&redisidem.NotDurableError{}, "not-durable"},
		{&redisidem.NotKeptError{}, "not-kept"},
		{&redisidem.FlowError{}, "other-flow"},
		{redisidem.ErrUnknownRecoveryPoint, "unknown-recovery-point"},
		{redisidem.ErrNoProgress, "no-progress"},
		{redisidem.ErrDamaged, "damaged"},
		{redisidem.ErrNotFound, "not-found"},
		{redisidem.ErrFinished, "finished"},
		{redisidem.ErrStale, "stale"},
		{redisidem.ErrUndecided, "undecided"},
		{&redisidem.EffectError{}, "effect"},
		{redisidem.ErrOtherType, "other-type"},
		{&redisidem.InvalidError{}, "invalid"},
		{redisidem.ErrClosed, "closed"},
		// What a stage returns may be about another key.
		{&redisidem.StageError{Err: redisidem.ErrLocked}, "stage"},
		{&redisidem.CompensationError{Err: redisidem.ErrLocked}, "compensation"},
	} {
		for _, err := range []error{c.err, wrapped(c.err)} {
			if got := redisidem.Reason(err); got != c.want || got != "" && !word.MatchString(got) {
				t.Errorf("the reason of %v is %q, want %q", err, got, c.want)
			}
		}
	}
}

func wrapped(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("wrapped: %w", err)
}
