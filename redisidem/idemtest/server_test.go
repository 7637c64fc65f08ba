package idemtest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/idemtest"
)

var ctx = context.Background()

var request = redisidem.Request{Method: "POST", Path: "/carts/1/complete", Params: map[string]any{"cart": 1}}

// finish returns a stage that finishes the key with a text.
func finish(text string) redisidem.StageFunc {
	return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Finish(redisidem.JSON(200, text)), nil
	}
}

// never returns a stage that must not run.
func never(t testing.TB) redisidem.StageFunc {
	return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		t.Error("the stage ran")
		return redisidem.Finish(redisidem.JSON(500, "ran")), nil
	}
}

// mustBe fails the test unless err matches want; a nil want means no error.
func mustBe(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

// mustAnswer fails the test unless the key is finished with text.
func mustAnswer(t testing.TB, key *redisidem.Key, err error, text string, replayed bool) {
	t.Helper()
	mustBe(t, err, nil)
	if !key.Finished() || string(key.Response.Body) != `"`+text+`"` || key.Replayed() != replayed {
		t.Fatalf("the key is %+v, want %q, replayed %t", key, text, replayed)
	}
}

// inAndOutOfABubble runs a test in fake time and in real time.
func inAndOutOfABubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	t.Run("bubble", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, test)
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		test(t)
	})
}

// fast is a configuration with a short timeout, for outages.
func fast() *redisidem.Config { return &redisidem.Config{Timeout: time.Second} }

func TestServiceInOneLine(t *testing.T) {
	inAndOutOfABubble(t, func(t *testing.T) {
		sc := idemtest.NewService(t, nil).Scope("a")
		for i := range 2 {
			key, err := sc.Do(ctx, "k", request, finish("done"))
			mustAnswer(t, key, err, "done", i == 1)
		}
	})
}

func TestServicesOfOneServerShareKeys(t *testing.T) {
	inAndOutOfABubble(t, func(t *testing.T) {
		srv := idemtest.NewServer(t)
		key, err := srv.Service(nil).Scope("a").Do(ctx, "k", request, finish("one"))
		mustAnswer(t, key, err, "one", false)
		key, err = srv.Service(nil).Scope("a").Do(ctx, "k", request, never(t))
		mustAnswer(t, key, err, "one", true)
		key, err = srv.Service(&redisidem.Config{Namespace: "other"}).Scope("a").Do(ctx, "k", request, finish("two"))
		mustAnswer(t, key, err, "two", false)
		if n := srv.Client().DBSize(ctx).Val(); n != 2 {
			t.Errorf("the server holds %d keys, want 2", n)
		}
	})
}

func TestFastForwardLetsLeasesLapseAndRecordsEnd(t *testing.T) {
	inAndOutOfABubble(t, func(t *testing.T) {
		srv := idemtest.NewServer(t)
		one, two := srv.Service(nil).Scope("a"), srv.Service(nil).Scope("a")
		before := srv.Client().Time(ctx).Val()
		_, err := one.InitializeRequest(ctx, "k", request)
		mustBe(t, err, nil)
		lease, err := one.Lock(ctx, "k")
		mustBe(t, err, nil)
		_, err = two.Do(ctx, "k", request, never(t))
		mustBe(t, err, redisidem.ErrLocked)
		srv.FastForward(redisidem.DefaultLease)
		key, err := two.Do(ctx, "k", request, finish("two"))
		mustAnswer(t, key, err, "two", false)
		_, err = lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "one")))
		mustBe(t, err, redisidem.ErrFenced)

		srv.FastForward(redisidem.DefaultRetention + redisidem.DefaultLease)
		_, err = two.Retrieve(ctx, "k")
		mustBe(t, err, redisidem.ErrNotFound)
		if took := srv.Client().Time(ctx).Val().Sub(before); took < 24*time.Hour {
			t.Errorf("the server's clock went forward by only %v", took)
		}
	})
}

func TestLeaseLapsesByABubblesClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := idemtest.NewServer(t)
		one, two := srv.Service(nil).Scope("a"), srv.Service(&redisidem.Config{Lease: time.Minute}).Scope("a")
		_, err := one.InitializeRequest(ctx, "k", request)
		mustBe(t, err, nil)
		srv.FastForward(time.Hour)
		lease, err := one.Lock(ctx, "k")
		mustBe(t, err, nil)
		time.Sleep(time.Minute)
		_, err = two.Do(ctx, "k", request, never(t)) // the lease was renewed
		mustBe(t, err, redisidem.ErrLocked)
		mustBe(t, lease.Abandon(ctx), nil)
		lease, err = two.Lock(ctx, "k")
		mustBe(t, err, nil)
		srv.Stop()
		<-lease.Context().Done()
		mustBe(t, context.Cause(lease.Context()), redisidem.ErrLeaseLost)
		time.Sleep(time.Minute)
		srv.Restart()
		mustBe(t, lease.Abandon(ctx), nil)
		key, err := one.Do(ctx, "k", request, finish("done"))
		mustAnswer(t, key, err, "done", false)
	})
}

func TestOutages(t *testing.T) {
	inAndOutOfABubble(t, func(t *testing.T) {
		for _, outage := range []struct {
			name     string
			begin    func(*idemtest.Server)
			executed bool
		}{
			{"stopped", (*idemtest.Server).Stop, false},
			{"hanging", (*idemtest.Server).Hang, false},
			{"mute", (*idemtest.Server).DropReplies, true},
		} {
			for _, used := range []bool{false, true} {
				srv := idemtest.NewServer(t)
				sc := srv.Service(fast()).Scope("a")
				if used {
					_, err := sc.Do(ctx, "other", request, finish("other"))
					mustBe(t, err, nil)
				}
				outage.begin(srv)
				began := time.Now()
				_, err := sc.InitializeRequest(ctx, "k", request)
				mustBe(t, err, redisidem.ErrUnavailable)
				if took := time.Since(began); took < 900*time.Millisecond || took > 10*time.Second {
					t.Errorf("%s: took %v", outage.name, took)
				}
				_, err = sc.Do(ctx, "k2", request, never(t))
				mustBe(t, err, redisidem.ErrUnavailable)
				srv.Restart()
				_, err = srv.Service(nil).Scope("a").Retrieve(ctx, "k")
				if want := errors.Is(err, redisidem.ErrNotFound); want == outage.executed {
					t.Errorf("%s, used %t: Retrieve returns %v", outage.name, used, err)
				}
				key, err := sc.Do(ctx, "k", request, finish("after"))
				mustAnswer(t, key, err, "after", false)
			}
		}
	})
}

func TestCommitWithoutAReply(t *testing.T) {
	inAndOutOfABubble(t, func(t *testing.T) {
		for _, outage := range []struct {
			begin  func(*idemtest.Server)
			stored bool
		}{
			{(*idemtest.Server).Stop, false},
			{(*idemtest.Server).Hang, false},
			{(*idemtest.Server).DropReplies, true},
		} {
			srv := idemtest.NewServer(t)
			cfg := fast()
			cfg.CommitRetry = -1
			_, err := srv.Service(cfg).Scope("a").Do(ctx, "k", request,
				func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					outage.begin(srv)
					return redisidem.Finish(redisidem.JSON(201, "done")), nil
				})
			mustBe(t, err, redisidem.ErrOutcomeUnknown)
			srv.Restart()
			sc := srv.Service(nil).Scope("a")
			if outage.stored {
				key, err := sc.Do(ctx, "k", request, never(t))
				mustAnswer(t, key, err, "done", true)
				continue
			}
			_, err = sc.Do(ctx, "k", request, never(t))
			mustBe(t, err, redisidem.ErrLocked)
		}
	})
}

func TestCommitIsRetriedInTheBackgroundAfterAnOutage(t *testing.T) {
	inAndOutOfABubble(t, func(t *testing.T) {
		srv := idemtest.NewServer(t)
		svc := srv.Service(fast())
		_, err := svc.Scope("a").Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			srv.Stop()
			return redisidem.Finish(redisidem.JSON(201, "done")), nil
		})
		mustBe(t, err, redisidem.ErrOutcomeUnknown)
		srv.Restart()
		mustBe(t, svc.Close(ctx), nil) // waits for the commit retry
		key, err := srv.Service(nil).Scope("a").Do(ctx, "k", request, never(t))
		mustAnswer(t, key, err, "done", true)
	})
}

func TestEndOfTheTestEndsAnOutage(t *testing.T) {
	inAndOutOfABubble(t, func(t *testing.T) {
		srv := idemtest.NewServer(t)
		_, err := srv.Service(fast()).Scope("a").Do(ctx, "k", request,
			func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				srv.Hang()
				return redisidem.Finish(redisidem.JSON(201, "done")), nil
			})
		mustBe(t, err, redisidem.ErrOutcomeUnknown)
	})
}

func TestWaitersAreWokenThroughTheEmbeddedServer(t *testing.T) {
	inAndOutOfABubble(t, func(t *testing.T) {
		srv := idemtest.NewServer(t)
		one, two := srv.Service(nil).Scope("a"), srv.Service(nil).Scope("a").Wait(time.Minute)
		_, err := one.InitializeRequest(ctx, "k", request)
		mustBe(t, err, nil)
		lease, err := one.Lock(ctx, "k")
		mustBe(t, err, nil)
		done := make(chan struct{})
		go func() {
			defer close(done)
			key, err := two.Do(ctx, "k", request, never(t))
			mustAnswer(t, key, err, "one", true)
		}()
		_, err = lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "one")))
		mustBe(t, err, nil)
		<-done
	})
}

func TestLongPipelinesPass(t *testing.T) {
	inAndOutOfABubble(t, func(t *testing.T) {
		client := idemtest.NewServer(t).Client()
		pipe := client.Pipeline()
		for i := range 200 {
			pipe.Set(ctx, fmt.Sprint("key", i), strings.Repeat("x", 200), 0)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAutoPipelinedServiceOnTheEmbeddedServer(t *testing.T) {
	t.Parallel()
	sc := idemtest.NewService(t, &redisidem.Config{AutoPipeline: true}).Scope("a")
	key, err := sc.Do(ctx, "k", request, finish("done"))
	mustAnswer(t, key, err, "done", false)
}

func TestInvalidConfigFailsTheTest(t *testing.T) {
	t.Parallel()
	failures := watch(t, func(t *recorder) { idemtest.NewService(t, &redisidem.Config{Namespace: "{}"}) })
	if len(failures) != 1 || !strings.Contains(failures[0], "Config.Namespace") {
		t.Errorf("the test failed with %q", failures)
	}
}

func TestWorkInFlightAtTheEndFailsTheTest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		failures := watch(t, func(t *recorder) {
			sc := idemtest.NewService(t, nil).Scope("a")
			running := make(chan struct{})
			go func() {
				_, _ = sc.Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					close(running)
					<-release
					return redisidem.Outcome{}, nil
				})
			}()
			<-running
		})
		if len(failures) != 1 || !strings.Contains(failures[0], "in flight") {
			t.Errorf("the test failed with %q", failures)
		}
		close(release)
	})
}
