package redisidem_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// TestOpenAttemptIsKnownToLaterOnes has an attempt that loses its lock while it runs, as that of a
// process that was killed does when its lease is over. Attempts of another process follow.
func TestOpenAttemptIsKnownToLaterOnes(t *testing.T) {
	inBubble(t, func(b *bubble) {
		first, second := b.service(redisidem.Config{}).Scope("a"), b.service(redisidem.Config{}).Scope("a")
		var began time.Time
		attempt := func(want time.Time, outcome redisidem.Outcome, err error) {
			b.Helper()
			ran := false
			_, got := second.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				ran = true
				if !st.OpenAttempt().Equal(want) {
					b.Errorf("attempt %d: the open attempt began at %v, want %v", st.Attempt(), st.OpenAttempt(), want)
				}
				return outcome, err
			})
			mustBe(b, got, err)
			if !ran {
				b.Error("it did not run")
			}
		}
		_, err := first.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			if !st.OpenAttempt().IsZero() {
				b.Errorf("the first attempt has an open one from %v", st.OpenAttempt())
			}
			began = st.Key().LockedAt
			time.Sleep(time.Second)
			b.server.Del(b.lock())
			attempt(began, redisidem.NothingDone(), nil)
			time.Sleep(time.Second)
			attempt(began, redisidem.NothingDone(), nil)
			attempt(began, redisidem.Outcome{}, errUpstream)
			attempt(began, redisidem.Outcome{}, errUpstream) // the one before has ended, and the first has not
			return redisidem.Outcome{}, errUpstream
		})
		mustBe(b, err, errUpstream)
		attempt(began, redisidem.Advance("later"), nil)
		attempt(time.Time{}, redisidem.Finish(redisidem.JSON(200, "done")), nil) // of the next stage
	})
}

// TestAttemptThatWasCutShortStaysOpen has attempts that end because the process gives them up, with
// what they called perhaps at work.
func TestAttemptThatWasCutShortStaysOpen(t *testing.T) {
	for name, cfg := range map[string]redisidem.Config{"closed": {}, "MaxHold": {MaxHold: 3 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				svc := b.service(cfg)
				var began time.Time
				if name == "closed" {
					time.AfterFunc(time.Second, func() {
						ended, cancel := context.WithCancel(ctx)
						cancel()
						_ = svc.Close(ended)
					})
				}
				_, err := svc.Scope("a").Do(ctx, "k", request, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					began = st.Key().LockedAt
					<-ctx.Done()
					return redisidem.Outcome{}, ctx.Err()
				})
				if err == nil {
					b.Fatal("it was not cut short")
				}
				time.Sleep(time.Minute)
				_, err = b.service(cfg).Scope("a").Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					if st.Attempt() != 2 || !st.OpenAttempt().Equal(began) {
						b.Errorf("attempt %d: the open attempt began at %v, want %v", st.Attempt(), st.OpenAttempt(), began)
					}
					return redisidem.NothingDone(), nil
				})
				mustBe(b, err, nil)
			})
		})
	}
}

// TestUnsettledKeyLivesAsLongAsADeadLetter is about keys whose attempts end without a result.
func TestUnsettledKeyLivesAsLongAsADeadLetter(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := redisidem.Config{Lease: 10 * time.Second, Retention: time.Hour, DeadLetterRetention: 100 * time.Hour}
		sc := b.service(cfg).Scope("a")
		attempt := func(value string, keep bool, outcome redisidem.Outcome, err error) {
			b.Helper()
			_, got := sc.Do(ctx, value, request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				if keep {
					st.KeepUnsettled()
				}
				return outcome, err
			})
			mustBe(b, got, err)
		}
		lives := func(value string, want time.Duration) {
			b.Helper()
			for _, name := range b.server.Keys() {
				if ttl := b.server.TTL(name); strings.HasSuffix(name, sc.ID(value)) && (ttl < want-time.Minute || ttl > want) {
					b.Errorf("%s lives for %v, want %v", value, ttl, want)
				}
			}
		}
		life := cfg.Lease + cfg.Retention
		attempt("failed", true, redisidem.Outcome{}, errUpstream)
		lives("failed", cfg.DeadLetterRetention)
		time.Sleep(99 * time.Hour)
		attempt("failed", false, redisidem.NothingDone(), nil) // a claim does not shorten it
		lives("failed", life)
		attempt("failed", true, redisidem.NothingDone(), nil) // the first attempt counts
		lives("failed", cfg.DeadLetterRetention)

		attempt("idle", true, redisidem.NothingDone(), nil)
		lives("idle", life)
		attempt("usual", false, redisidem.Outcome{}, errUpstream)
		lives("usual", life)
		attempt("done", true, redisidem.Finish(redisidem.JSON(200, "done")), nil)
		lives("done", life)
	})
}
