package console

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestCachedReadsOnceWithinItsLife(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		c := newCached(time.Second, nil, func(context.Context) (int, error) {
			reads++
			time.Sleep(time.Millisecond)
			return reads, nil
		})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if got, err := c.get(t.Context()); got != 1 || err != nil {
					t.Errorf("%d, %v", got, err)
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Second - time.Millisecond)
		if got, _ := c.get(t.Context()); got != 1 {
			t.Errorf("within its life there was read %d", got)
		}
		time.Sleep(2 * time.Millisecond)
		if got, _ := c.get(t.Context()); got != 2 {
			t.Errorf("after its life there was read %d", got)
		}
	})
}

func TestCachedRestsAfterALongRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		c := newCached(time.Second, nil, func(context.Context) (int, error) {
			reads++
			time.Sleep(3 * time.Second)
			return reads, nil
		})
		for elapsed := 0; elapsed < 60; elapsed += 3 {
			_, _ = c.get(t.Context())
			time.Sleep(3 * time.Second)
			if reads != 1 {
				t.Fatalf("%d reads after %d s", reads, elapsed)
			}
		}
		if got, _ := c.get(t.Context()); got != 2 {
			t.Errorf("after a minute there was read %d", got)
		}
	})
}

func TestCachedKeepsNoErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		errRead := errors.New("not read")
		fail := true
		c := newCached(time.Second, nil, func(context.Context) (int, error) {
			time.Sleep(time.Minute)
			if fail {
				return 0, errRead
			}
			return 1, nil
		})
		go func() { _, _ = c.get(context.Background()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.get(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller that waits gets %v", err)
		}
		time.Sleep(2 * time.Minute)
		if _, err := c.get(t.Context()); !errors.Is(err, errRead) {
			t.Errorf("the error is %v", err)
		}
		fail = false
		if got, err := c.get(t.Context()); got != 1 || err != nil {
			t.Errorf("after the error: %d, %v", got, err)
		}
	})
}

func TestCachedKeepsWhatACallerThatLeftHasRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		c := newCached(time.Minute, nil, func(ctx context.Context) (int, error) {
			reads++
			select {
			case <-ctx.Done():
				return 0, ctx.Err()
			case <-time.After(time.Second):
				return reads, nil
			}
		})
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			_, _ = c.get(ctx)
			cancel()
		}
		if got, err := c.get(t.Context()); got != 1 || err != nil || reads != 1 {
			t.Errorf("%d, %v after %d reads", got, err, reads)
		}
		stuck := newCached(time.Minute, nil, func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		began := time.Now()
		if _, err := stuck.get(t.Context()); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != readTime {
			t.Errorf("a read that does not end: %v after %v", err, time.Since(began))
		}
	})
}

// TestReadsEndWhenTheConsoleIsClosed has a caller that has left, and one that comes afterwards.
func TestReadsEndWhenTheConsoleIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan struct{})
		c := newCached(time.Minute, closed, func(ctx context.Context) (int, error) {
			select {
			case <-ctx.Done():
				return 0, ctx.Err()
			case <-time.After(time.Second):
				return 1, nil
			}
		})
		began := time.Now()
		time.AfterFunc(time.Second/2, func() { close(closed) })
		if _, err := c.get(t.Context()); !errors.Is(err, context.Canceled) || time.Since(began) != time.Second/2 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if n, err := c.get(t.Context()); n != 1 || err != nil {
			t.Errorf("after that: %d, %v", n, err)
		}
	})
}
