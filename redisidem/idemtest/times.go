package idemtest

import (
	"fmt"
	"math"
)

// Times is how often an effect may happen in the life of one key, crashes included. Make one with
// [Exactly], [AtMost], [AtLeast] or [Between]. The zero value means never.
type Times struct{ least, most int }

// Exactly promises that an effect happens n times, however often the work runs. It suits a charge
// with an outbound key or a Reconcile, and an effect that a commit carries.
func Exactly(n int) Times { return Times{n, n} }

// AtMost promises that an effect happens n times or fewer.
func AtMost(n int) Times { return Times{0, n} }

// AtLeast promises that an effect happens n times or more. It suits a message that does no harm
// when it is sent twice.
func AtLeast(n int) Times { return Times{n, math.MaxInt} }

// Between promises that an effect happens from least to most times.
func Between(least, most int) Times { return Times{least, most} }

// String returns the promise in words, as in "exactly 1".
func (t Times) String() string {
	switch {
	case t.least == t.most:
		return fmt.Sprintf("exactly %d", t.least)
	case t.least == 0:
		return fmt.Sprintf("at most %d", t.most)
	case t.most == math.MaxInt:
		return fmt.Sprintf("at least %d", t.least)
	}
	return fmt.Sprintf("%d to %d", t.least, t.most)
}

// kept reports whether n is within the promise.
func (t Times) kept(n int) bool { return t.least <= n && n <= t.most }
