package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/consumer"
)

func TestMessageIsHandledOnceForEachSubscription(t *testing.T) {
	inBubble(t, func(t *testing.T, s *store) {
		svc := s.service(redisidem.Config{})
		w := &work{}
		for i := range 3 {
			key, err := newConsumer(t, svc, nil).Handle(t.Context(), consumer.Message{ID: "m", Body: []byte("b")}, w.run)
			if err != nil || !key.Finished() || string(key.Response.Body) != "1" || key.Replayed() != (i > 0) {
				t.Errorf("%d: %v, %v", i, key, err)
			}
		}
		other, err := consumer.New(svc, "invoices", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Handle(t.Context(), consumer.Message{ID: "m"}, w.run); err != nil || w.runs != 2 {
			t.Errorf("%v after %d runs", err, w.runs)
		}
	})
}

func TestRoundTripsOfAMessage(t *testing.T) {
	inBubble(t, func(t *testing.T, s *store) {
		c := newConsumer(t, s.service(redisidem.Config{}), nil)
		w := &work{}
		trips := func(id string) int64 {
			before := s.trips.Load()
			if _, err := c.Handle(t.Context(), consumer.Message{ID: id}, w.run); err != nil {
				t.Error(err)
			}
			return s.trips.Load() - before
		}
		trips("the scripts are loaded now")
		if fresh, duplicate := trips("m"), trips("m"); fresh != 2 || duplicate != 1 {
			t.Errorf("a fresh message takes %d round trips, and a duplicate %d", fresh, duplicate)
		}
	})
}

// TestMessageOfADeadWorkerWaitsForItsLease is about a message that is delivered again while the
// dead worker's lease lasts.
func TestMessageOfADeadWorkerWaitsForItsLease(t *testing.T) {
	inBubble(t, func(t *testing.T, s *store) {
		s.crash("m")
		w := &work{}
		began := time.Now()
		key, err := newConsumer(t, s.service(redisidem.Config{}), nil).Handle(t.Context(), consumer.Message{ID: "m"}, w.run)
		if err != nil || string(key.Response.Body) != "2" || time.Since(began) > 11*time.Second {
			t.Errorf("%v, %v after %v", key, err, time.Since(began))
		}
	})
}

func TestDeliveryDoesNotWaitForever(t *testing.T) {
	inBubble(t, func(t *testing.T, s *store) {
		svc := s.service(redisidem.Config{})
		_, err := newConsumer(t, svc, nil).Handle(t.Context(), consumer.Message{ID: "m"}, func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
			for wait, want := range map[time.Duration]time.Duration{0: 15 * time.Second, 3 * time.Second: 3 * time.Second, -1: 0} {
				other := newConsumer(t, s.service(redisidem.Config{}), &consumer.Config{Wait: wait})
				began := time.Now()
				_, err := other.Handle(context.WithoutCancel(t.Context()), consumer.Message{ID: "m"}, (&work{}).run)
				if !errors.Is(err, redisidem.ErrLocked) || time.Since(began).Round(time.Second) != want {
					t.Errorf("%v: %v after %v", wait, err, time.Since(began))
				}
			}
			return redisidem.Finish(redisidem.Response{}), ctx.Err()
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestMessageThatFailsBecomesADeadLetter(t *testing.T) {
	inBubble(t, func(t *testing.T, s *store) {
		var l letters
		c := newConsumer(t, s.service(redisidem.Config{}), &consumer.Config{DeadLetter: l.receive, MaxAttempts: 3})
		w := &work{err: errors.New("no customer")}
		for i := range 3 {
			key, err := c.Handle(t.Context(), consumer.Message{ID: "m"}, w.run)
			if last := i == 2; (err == nil) != last || key.Finished() || !last && err != w.err { //nolint:errorlint // as it is
				t.Errorf("%d: %v, %v", i, key, err)
			}
		}
		if len(l.ids) != 1 || l.ids[0] != "m" || l.causes[0] != w.err { //nolint:errorlint // as it is
			t.Fatalf("%v %v", l.ids, l.causes)
		}
		// An operator delivers it again: once without success, and once with.
		if _, err := c.Handle(t.Context(), consumer.Message{ID: "m"}, w.run); err != nil || w.runs != 4 || len(l.ids) != 2 {
			t.Errorf("%v, %d runs, %v", err, w.runs, l.ids)
		}
		w.err = nil
		if key, err := c.Handle(t.Context(), consumer.Message{ID: "m"}, w.run); err != nil || !key.Finished() || w.runs != 5 || len(l.ids) != 2 {
			t.Errorf("%v, %v, %d runs, %v", key, err, w.runs, l.ids)
		}
	})
}

func TestMessageThatKillsItsWorkersBecomesADeadLetter(t *testing.T) {
	inBubble(t, func(t *testing.T, s *store) {
		var l letters
		cfg := &consumer.Config{DeadLetter: l.receive, MaxAttempts: 2}
		s.crash("m")
		s.crash("m")
		c := newConsumer(t, s.service(redisidem.Config{}), cfg)
		w := &work{}
		l.err = errors.New("the topic is away")
		if _, err := c.Handle(t.Context(), consumer.Message{ID: "m"}, w.run); !errors.Is(err, l.err) {
			t.Error(err)
		}
		l.err = nil
		s.crash("m") // the broker delivers again, to a worker that dies
		if key, err := c.Handle(t.Context(), consumer.Message{ID: "m"}, w.run); err != nil || key.Finished() || w.runs != 0 || len(l.ids) != 2 ||
			!strings.Contains(l.causes[1].Error(), "4 attempts have not finished") {
			t.Errorf("%v, %v, %d runs, %v", key, err, w.runs, l.causes)
		}
		if key, err := c.Handle(t.Context(), consumer.Message{ID: "m"}, w.run); err != nil || !key.Finished() || w.runs != 1 {
			t.Errorf("%v, %v, %d runs", key, err, w.runs) // delivered again by an operator
		}
	})
}

func TestMessageThatPanicsBecomesADeadLetter(t *testing.T) {
	inBubble(t, func(t *testing.T, s *store) {
		var l letters
		c := newConsumer(t, s.service(redisidem.Config{}), &consumer.Config{DeadLetter: l.receive, MaxAttempts: 2})
		handle := func() (err error) {
			defer func() {
				if v := recover(); v != nil {
					err = errDied
				}
			}()
			_, err = c.Handle(t.Context(), consumer.Message{ID: "m"}, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { panic("no customer") })
			return err
		}
		for i := range 3 {
			if err := handle(); (err == nil) != (i == 2) {
				t.Errorf("%d: %v", i, err)
			}
		}
		if len(l.causes) != 1 || !strings.Contains(l.causes[0].Error(), "2 attempts have not finished") {
			t.Errorf("%v", l.causes)
		}
	})
}

// TestReconcileIsAskedBeforeAMessageIsHandedOver has messages whose last attempt died, failed, or
// was refused by the work as poison.
func TestReconcileIsAskedBeforeAMessageIsHandedOver(t *testing.T) {
	inBubble(t, func(t *testing.T, s *store) {
		done := redisidem.Finish(redisidem.JSON(201, "done before"))
		away, failed := errors.New("the database is away"), errors.New("no customer")
		for _, how := range []error{errDied, failed, consumer.ErrPoison} {
			for answer, reconciled := range map[string]error{"done": nil, "not done": redisidem.ErrNothingDone, "unknown": away} {
				id := how.Error() + ", " + answer
				var l letters
				asked := 0
				c := newConsumer(t, s.service(redisidem.Config{}), &consumer.Config{
					DeadLetter: l.receive, MaxAttempts: 1,
					Reconcile: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
						asked++
						if st.Key().Value != id {
							t.Errorf("%s: asked about %s", id, st.Key().Value)
						}
						return done, reconciled
					},
				})
				w := &work{err: how}
				if how == errDied { //nolint:errorlint // as it is
					s.crash(id)
				}
				key, err := c.Handle(t.Context(), consumer.Message{ID: id}, w.run)
				if runs := w.runs; asked != 1 || (how == errDied) != (runs == 0) { //nolint:errorlint // as it is
					t.Errorf("%s: asked %d times, %d runs", id, asked, runs)
				}
				switch answer {
				case "done":
					if err != nil || len(l.ids) > 0 || !key.Finished() || string(key.Response.Body) != `"done before"` {
						t.Errorf("%s: %v, %v, %v", id, key, err, l.ids)
					}
					if key, err := c.Handle(t.Context(), consumer.Message{ID: id}, w.run); err != nil || !key.Replayed() || asked != 1 {
						t.Errorf("%s: %v, %v", id, key, err)
					}
				case "not done":
					if err != nil || len(l.ids) != 1 || key.Finished() {
						t.Errorf("%s: %v, %v, %v", id, key, err, l.ids)
					}
				case "unknown":
					if !errors.Is(err, redisidem.ErrOutcomeUnknown) || !errors.Is(err, away) || len(l.ids) > 0 {
						t.Errorf("%s: %v, %v", id, err, l.ids)
					}
					reconciled = nil // the database answers the next delivery
					if key, err := c.Handle(t.Context(), consumer.Message{ID: id}, w.run); err != nil || !key.Finished() || asked != 2 {
						t.Errorf("%s: %v, %v, asked %d times", id, key, err, asked)
					}
				}
			}
		}
	})
}

func TestPoisonIsADeadLetterAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, s *store) {
		var l letters
		svc := s.service(redisidem.Config{MaxValueBytes: 1 << 20})
		c := newConsumer(t, svc, &consumer.Config{DeadLetter: l.receive})
		for id, m := range map[string]consumer.Message{
			"poison": {ID: "poison"}, "": {}, strings.Repeat("m", 256): {ID: strings.Repeat("m", 256)}, "not kept": {ID: "not kept"},
		} {
			_, err := c.Handle(t.Context(), m, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if id == "not kept" {
					return redisidem.Finish(redisidem.Response{Body: make([]byte, 2<<20)}), nil
				}
				return redisidem.Outcome{}, errors.Join(consumer.ErrPoison, errors.New("not JSON"))
			})
			if err != nil || l.ids[len(l.ids)-1] != id {
				t.Errorf("%q: %v, %q", id, err, l.ids)
			}
		}
		w := &work{}
		if _, err := c.Handle(t.Context(), consumer.Message{ID: "m", Body: []byte("a")}, w.run); err != nil {
			t.Error(err)
		}
		_, err := c.Handle(t.Context(), consumer.Message{ID: "m", Body: []byte("b")}, w.run)
		if cause := l.causes[len(l.causes)-1]; err != nil || !errors.Is(cause, redisidem.ErrFingerprintMismatch) || w.runs != 1 {
			t.Errorf("%v, %v", err, cause)
		}
		if _, err := newConsumer(t, svc, nil).Handle(t.Context(), consumer.Message{ID: "m"}, w.run); !errors.Is(err, redisidem.ErrFingerprintMismatch) {
			t.Errorf("without dead letters: %v", err)
		}
	})
}

// TestErrorAboutAnotherKeyIsAnErrorOfTheWork is about work that uses keys itself.
func TestErrorAboutAnotherKeyIsAnErrorOfTheWork(t *testing.T) {
	inBubble(t, func(t *testing.T, s *store) {
		var l letters
		c := newConsumer(t, s.service(redisidem.Config{}), &consumer.Config{DeadLetter: l.receive})
		for _, why := range []error{redisidem.ErrFingerprintMismatch, redisidem.ErrNotKept} {
			if _, err := c.Handle(t.Context(), consumer.Message{ID: "m"}, (&work{err: why}).run); !errors.Is(err, why) || len(l.ids) > 0 {
				t.Errorf("%v, %v", err, l.ids)
			}
		}
	})
}

// TestAttemptThatAShutdownEndsIsNoDeadLetter is about the last attempt. Two processes stop in the
// middle of it, one when its caller's context ends and one when its service is closed. The message
// gets a run after each, and becomes a dead letter when one fails by itself.
func TestAttemptThatAShutdownEndsIsNoDeadLetter(t *testing.T) {
	inBubble(t, func(t *testing.T, s *store) {
		var l letters
		cfg := &consumer.Config{DeadLetter: l.receive, MaxAttempts: 1}
		shutDown := func(svc *redisidem.Service, ctx context.Context, stop func()) error {
			ended := errors.New("not run")
			_, err := newConsumer(t, svc, cfg).Handle(ctx, consumer.Message{ID: "m"},
				func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
					stop()
					<-ctx.Done()
					ended = ctx.Err()
					return redisidem.Outcome{}, ended
				})
			if !errors.Is(err, ended) || len(l.ids) > 0 {
				t.Errorf("%v, %v", err, l.ids)
			}
			return ended
		}
		ctx, cancel := context.WithCancel(t.Context())
		if err := shutDown(s.service(redisidem.Config{}), ctx, cancel); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		svc := s.service(redisidem.Config{})
		closing, cancel := context.WithCancel(t.Context())
		cancel()
		if err := shutDown(svc, t.Context(), func() { go svc.Close(closing) }); !errors.Is(err, context.Canceled) { //nolint:errcheck // it stops waiting
			t.Error(err)
		}
		w := &work{err: errors.New("no customer")}
		if _, err := newConsumer(t, s.service(redisidem.Config{}), cfg).Handle(t.Context(), consumer.Message{ID: "m"}, w.run); err != nil ||
			w.runs != 1 || len(l.causes) != 1 || !errors.Is(l.causes[0], w.err) {
			t.Errorf("%v after %d runs, %v", err, w.runs, l.causes)
		}
	})
}

// TestWorkThatIsAlwaysCancelledIsADeadLetter has work that takes longer than its callers wait.
func TestWorkThatIsAlwaysCancelledIsADeadLetter(t *testing.T) {
	inBubble(t, func(t *testing.T, s *store) {
		var l letters
		c := newConsumer(t, s.service(redisidem.Config{}), &consumer.Config{DeadLetter: l.receive, MaxAttempts: 2})
		runs := 0
		for range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			_, _ = c.Handle(ctx, consumer.Message{ID: "m"}, func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
				runs++
				cancel()
				<-ctx.Done()
				return redisidem.Outcome{}, ctx.Err()
			})
			if len(l.ids) > 0 {
				break
			}
		}
		if runs != 12 || len(l.ids) != 1 {
			t.Errorf("it ran %d times, and %v are dead letters", runs, l.ids)
		}
	})
}

// TestAttemptThatTakesTooLongIsADeadLetter has work that is slower each time than the caller's
// context allows, which is not a shutdown.
func TestAttemptThatTakesTooLongIsADeadLetter(t *testing.T) {
	inBubble(t, func(t *testing.T, s *store) {
		var l letters
		c := newConsumer(t, s.service(redisidem.Config{}), &consumer.Config{DeadLetter: l.receive, MaxAttempts: 1})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Handle(ctx, consumer.Message{ID: "m"}, func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
			<-ctx.Done()
			return redisidem.Outcome{}, ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		w := &work{}
		if _, err := c.Handle(t.Context(), consumer.Message{ID: "m"}, w.run); err != nil || w.runs != 0 || len(l.ids) != 1 {
			t.Errorf("%v after %d runs, %v", err, w.runs, l.ids)
		}
	})
}

func TestUnfinishedMessageIsNotAcknowledged(t *testing.T) {
	inBubble(t, func(t *testing.T, s *store) {
		c := newConsumer(t, s.service(redisidem.Config{}), nil)
		handle := func(o redisidem.Outcome) error {
			_, err := c.Handle(t.Context(), consumer.Message{ID: "m"}, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return o, nil })
			return err
		}
		for _, o := range []redisidem.Outcome{redisidem.NothingDone(), redisidem.Advance("half"), redisidem.Interim("half", redisidem.Response{Code: 202})} {
			if err := handle(o); !errors.Is(err, consumer.ErrUnfinished) {
				t.Error(err)
			}
		}
		if err := handle(redisidem.Outcome{}); err != nil {
			t.Error(err)
		}
	})
}

// TestWorkThatWaitsTooLongGivesUpByTheAgeOfTheMessage has work that waits for something that does
// not come. Its attempts are not counted: docs/consumer.md shows this way out.
func TestWorkThatWaitsTooLongGivesUpByTheAgeOfTheMessage(t *testing.T) {
	inBubble(t, func(t *testing.T, s *store) {
		var l letters
		c := newConsumer(t, s.service(redisidem.Config{}), &consumer.Config{DeadLetter: l.receive, MaxAttempts: 2})
		deliveries, err := 0, consumer.ErrUnfinished
		for ; errors.Is(err, consumer.ErrUnfinished) && deliveries < 100; deliveries++ {
			_, err = c.Handle(t.Context(), consumer.Message{ID: "m"}, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				if time.Since(st.Key().CreatedAt) > time.Hour {
					return redisidem.Outcome{}, fmt.Errorf("not paid within an hour: %w", consumer.ErrPoison)
				}
				return redisidem.NothingDone(), nil
			})
			time.Sleep(5 * time.Minute)
		}
		if err != nil || deliveries < 12 || deliveries > 14 || len(l.ids) != 1 {
			t.Errorf("%v after %d deliveries, %v", err, deliveries, l.ids)
		}
	})
}

func TestConsumerThatIsWrong(t *testing.T) {
	inBubble(t, func(t *testing.T, s *store) {
		svc := s.service(redisidem.Config{})
		if _, err := newConsumer(t, svc, nil).Handle(t.Context(), consumer.Message{ID: "m"}, nil); !errors.Is(err, redisidem.ErrInvalid) {
			t.Error(err)
		}
		for field, c := range map[string]struct {
			svc  *redisidem.Service
			name string
			cfg  consumer.Config
		}{
			"service":            {nil, "a", consumer.Config{}},
			"subscription":       {svc, "", consumer.Config{}},
			"Config.MaxAttempts": {svc, "a", consumer.Config{MaxAttempts: -1}},
			"Config.ExtendEvery": {svc, "a", consumer.Config{ExtendEvery: time.Microsecond}},
		} {
			_, err := consumer.New(c.svc, c.name, &c.cfg)
			if refused, ok := errors.AsType[*redisidem.InvalidError](err); !ok || refused.Field != "consumer."+field {
				t.Errorf("%s: %v", field, err)
			}
		}
	})
}
