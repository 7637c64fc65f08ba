package idemclient

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// maxDrainBytes is how much of a response body is read before a retry.
const maxDrainBytes = 64 << 10

// backoff holds the pauses between the attempts of a call.
type backoff struct{ next, max time.Duration }

// draw returns the next pause: half of it is random, so that clients do not return at the same
// moment. The pauses double up to max.
func (b *backoff) draw() time.Duration {
	pause := b.next/2 + rand.N(b.next/2+1)
	b.next = min(2*b.next, b.max)
	return pause
}

// pauseFor waits for d, and returns the context's error if it ends first. Meanwhile it drains and
// closes the body of resp, if there is a response. A connection can be reused only after its body
// was read to the end.
func pauseFor(ctx context.Context, d time.Duration, resp *http.Response) error {
	paused, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if resp != nil {
		closeBody := sync.OnceFunc(func() { _ = resp.Body.Close() })
		stop := context.AfterFunc(paused, closeBody)
		_, _ = io.CopyN(io.Discard, resp.Body, maxDrainBytes)
		stop()
		closeBody()
	}
	<-paused.Done()
	return context.Cause(ctx)
}
