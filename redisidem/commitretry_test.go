package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
)

func TestCommitIsRetriedInTheBackgroundUntilItLands(t *testing.T) {
	inBubble(t, func(b *bubble) {
		rec := &recorder{}
		svc := b.service(redisidem.Config{Observer: rec})
		sc := svc.Scope("a")
		began := time.Now()
		_, err := sc.WorkStage(ctx, start(b, sc, "k"), func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			b.freeze()
			began = time.Now()
			return redisidem.Finish(redisidem.JSON(201, "done")), nil
		})
		mustBe(b, err, redisidem.ErrOutcomeUnknown)
		if errors.Is(err, redisidem.ErrUnavailable) {
			b.Error("ErrUnavailable says that no callback ran")
		}
		if took := time.Since(began); took > 550*time.Millisecond {
			b.Errorf("returned after %v, want at most %v", took, 550*time.Millisecond)
		}
		time.Sleep(30 * time.Second)
		b.thaw()
		mustBe(b, svc.Close(ctx), nil) // waits for the commit
		key, err := b.service(redisidem.Config{}).Scope("a").InitializeRequest(ctx, "k", request)
		mustBe(b, err, nil)
		if !key.Replayed() || string(key.Response.Body) != `"done"` || key.Attempts != 1 {
			b.Errorf("key is %+v", key)
		}
		if rec.count(redisidem.EventOutcomeUnknown) != 1 || rec.count(redisidem.EventCommitted) != 1 {
			b.Errorf("events: %v", rec.kinds())
		}
	})
}

func TestCloseDropsCommitRetriesWhenItsContextEnds(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		_, err := sc.WorkStage(ctx, start(b, sc, "k"), func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			b.freeze()
			return redisidem.Outcome{}, nil
		})
		mustBe(b, err, redisidem.ErrOutcomeUnknown)
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		mustBe(b, svc.Close(short), context.DeadlineExceeded)
		_, err = sc.InitializeRequest(ctx, "k", request)
		mustBe(b, err, redisidem.ErrClosed)
		b.thaw()
	})
}

func TestTrapL9UnstoredResultIsNotThrownAway(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc, other := b.service(redisidem.Config{}).Scope("a"), b.service(redisidem.Config{}).Scope("a")
		_, err := sc.Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			b.freeze()
			return redisidem.Finish(redisidem.JSON(200, "charged")), nil
		})
		mustBe(b, err, redisidem.ErrOutcomeUnknown)
		b.thaw()
		key, err := other.Wait(5*time.Second).Do(ctx, "k", request, never(b))
		mustBe(b, err, nil)
		mustHold(b, key, `"charged"`)
	})
}

func TestTrapL9KeyStaysLockedAfterAnUnknownCommit(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{CommitRetry: -1}).Scope("a")
		_, err := sc.Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			b.freeze()
			return redisidem.Outcome{}, nil
		})
		mustBe(b, err, redisidem.ErrOutcomeUnknown)
		b.thaw()
		_, err = sc.Do(ctx, "k", request, never(b))
		mustBe(b, err, redisidem.ErrLocked)
		time.Sleep(redisidem.DefaultLease)
		_, err = sc.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			if st.Attempt() != 2 {
				b.Errorf("attempt %d does not count the run whose outcome is unknown, want 2", st.Attempt())
			}
			return redisidem.Outcome{}, nil
		})
		mustBe(b, err, nil)
	})
}

// TestEffectThatIsRefusedInTheBackgroundEndsTheKey repeats a commit without a reply, which the
// server then refuses.
func TestEffectThatIsRefusedInTheBackgroundEndsTheKey(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		ran := 0
		work := func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			ran++
			mustBe(b, b.server.Set(st.ShardKey("number"), "x"), nil)
			b.freeze()
			return redisidem.Finish(redisidem.JSON(200, "charged")).WithEffects(effect.IncrBy(st.ShardKey("number"), 1)), nil
		}
		_, err := sc.Do(ctx, "k", request, work)
		mustBe(b, err, redisidem.ErrOutcomeUnknown)
		b.thaw()
		time.Sleep(5 * time.Second)
		_, err = sc.Do(ctx, "k", request, work)
		mustBe(b, err, redisidem.ErrNotKept)
		if ran != 1 {
			b.Errorf("the work ran %d times, want 1", ran)
		}
	})
}

func TestTrapS18LostReplyHasNoSecondEffect(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc, w := e.wired()
		sc := svc.Scope("a")
		lose := func(s *lua.Script) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.lose = s
		}
		wasLost := func(what string) {
			t.Helper()
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.lose != nil {
				t.Errorf("no reply of %s was lost", what)
			}
		}
		lose(lua.Create)
		key := start(t, sc, "k")
		wasLost("create")
		runs := 0
		for i, s := range []*lua.Script{lua.Claim, lua.Commit} {
			lose(s)
			var err error
			key, err = sc.WorkStage(ctx, key, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				runs++
				if st.Attempt() != 1 {
					t.Errorf("attempt %d, want 1", st.Attempt())
				}
				return redisidem.Advance(fmt.Sprint("after ", s.Name)), nil
			})
			mustBe(t, err, nil)
			wasLost(s.Name)
			mustStandAt(t, start(t, sc, "k"), "after "+s.Name, int64(i+1))
		}
		lose(lua.Update)
		key, err := sc.Update(ctx, key, redisidem.Advance("by hand"))
		mustBe(t, err, nil)
		wasLost("update")
		lease := locked(t, sc, "k")
		lose(lua.Abandon)
		mustBe(t, lease.Abandon(ctx), nil)
		wasLost("abandon")
		fresh := start(t, sc, "k")
		mustStandAt(t, fresh, "by hand", 3)
		if runs != 2 || fresh.Attempts != 3 || len(fresh.Journal) != 3 {
			t.Errorf("%d runs, %d attempts, journal %+v", runs, fresh.Attempts, fresh.Journal)
		}
		lose(lua.Delete)
		mustBe(t, sc.Delete(ctx, key), nil)
		wasLost("delete")
		_, err = sc.Retrieve(ctx, "k")
		mustBe(t, err, redisidem.ErrNotFound)
		e.mustBeTidy(e.client())
	})
}

// TestDroppedCommitHasAnEvent goes through the ways in which a commit without an answer ends.
func TestDroppedCommitHasAnEvent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		retry time.Duration
		limit int64
		after func(b *bubble)
		want  error
	}{
		"Redis stays away": {0, 0, func(*bubble) { time.Sleep(time.Hour) }, redisidem.ErrOutcomeUnknown},
		"no retries":       {-1, 0, func(*bubble) {}, redisidem.ErrOutcomeUnknown},
		"too many retries": {0, -1, func(*bubble) {}, redisidem.ErrOutcomeUnknown},
		"the record is gone": {0, 0, func(b *bubble) {
			b.server.FlushAll()
			b.thaw()
			time.Sleep(time.Minute)
		}, redisidem.ErrOutcomeUnknown},
		"another worker has claimed the key": {0, 0, func(b *bubble) {
			b.server.FastForward(time.Minute)
			for _, key := range b.server.Keys() {
				if strings.HasSuffix(key, ":lock") {
					b.server.Del(key)
				}
			}
			b.thaw()
			_, err := b.service(redisidem.Config{}).Scope("a").Do(ctx, "k", request, finish("other"))
			mustBe(b, err, nil)
			time.Sleep(time.Minute)
		}, redisidem.ErrFenced},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				events := &recorder{}
				svc := b.service(redisidem.Config{Observer: events, CommitRetry: c.retry})
				if c.limit < 0 {
					svc.SetMaxBackground(0)
				}
				_, err := svc.Scope("a").Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					b.freeze()
					return redisidem.Finish(redisidem.JSON(200, "done")), nil
				})
				mustBe(b, err, redisidem.ErrOutcomeUnknown)
				c.after(b)
				last := events.all()[len(events.all())-1]
				if events.count(redisidem.EventCommitDropped) != 1 || last.Kind != redisidem.EventCommitDropped || last.Key == "" || last.Stage != redisidem.Started {
					b.Fatalf("the events are %v, and the last one is %+v", events.kinds(), last)
				}
				if !errors.Is(last.Err, c.want) {
					b.Errorf("the reason is %v, want %v", last.Err, c.want)
				}
			})
		})
	}
}
