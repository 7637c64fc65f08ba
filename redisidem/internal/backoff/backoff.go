// Package backoff waits between two tries, for a time that grows and varies.
package backoff

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"math/bits"
	"time"
)

// Backoff is a sequence of pauses that double from First to Max. It is not safe for concurrent use.
type Backoff struct {
	First, Max time.Duration

	next time.Duration // 0 before the first pause
}

// Next returns the next pause without jitter.
func (b *Backoff) Next() time.Duration {
	pause := min(b.First, b.Max)
	if b.next > 0 {
		pause = b.next
	}
	b.next = min(2*pause, b.Max)
	return pause
}

// Jittered returns the next pause, of which up to half is left out at random. Callers that failed
// together then do not return together.
func (b *Backoff) Jittered() time.Duration {
	pause := b.Next()
	return Between(pause/2, pause)
}

// Reset makes the next pause the first one again.
func (b *Backoff) Reset() { b.next = 0 }

// Wait blocks for the pause and reports true, or reports false as soon as ctx ends.
func Wait(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Between returns a random duration from shortest to longest, both included.
func Between(shortest, longest time.Duration) time.Duration {
	return shortest + Below(longest-shortest+1)
}

// Below returns a random number from 0 to n-1; n must be positive. A pause does not need strong
// randomness, but a test can set that of crypto/rand (testing/cryptotest), so that the same seed
// gives the same history. One call in a pause makes its cost irrelevant.
func Below[T ~int | ~int64](n T) T {
	var b [8]byte
	_, _ = rand.Read(b[:])
	high, _ := bits.Mul64(binary.LittleEndian.Uint64(b[:]), uint64(n))
	return T(high)
}
