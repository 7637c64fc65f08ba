package watermillidem_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/contrib/watermillidem"
	"github.com/redisidem/redisidem/internal/faultnet"
	"github.com/redisidem/redisidem/redisidem"
)

// answering is a handler that counts its runs, and returns one message with a fresh UUID.
func answering(runs *atomic.Int64) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		answer := message.NewMessage(watermill.NewUUID(), []byte("answer to "+string(msg.Payload)))
		answer.Metadata.Set("run", fmt.Sprint(runs.Add(1)))
		return message.Messages{answer}, nil
	}
}

func TestMessageIsHandledOnceByEachHandler(t *testing.T) {
	e := newEnv(t)
	var runs [2]atomic.Int64
	e.run(func(r *message.Router) {
		r.AddMiddleware(e.consumer(nil).Middleware)
		r.AddHandler("a", "orders", e.queue, "answers of a", e.queue, answering(&runs[0]))
		r.AddHandler("b", "orders", e.queue, "answers of b", e.queue, answering(&runs[1]))
	})
	for range 3 {
		e.publish("orders", "order 1", "a book")
	}
	for i, topic := range []string{"answers of a", "answers of b"} {
		answers := e.receive(topic, 3)
		for _, answer := range answers {
			if !answer.Equals(answers[0]) || string(answer.Payload) != "answer to a book" || answer.Metadata.Get("run") != "1" {
				t.Errorf("%s: %v, want %v", topic, answer, answers[0])
			}
		}
		if runs[i].Load() != 1 {
			t.Errorf("%s: %d runs", topic, runs[i].Load())
		}
	}
}

// torn is a publisher that fails at first, as a broker that is away does.
type torn struct {
	message.Publisher
	failed atomic.Bool
}

func (p *torn) Publish(topic string, messages ...*message.Message) error {
	if p.failed.CompareAndSwap(false, true) {
		return errors.New("the broker is away")
	}
	return p.Publisher.Publish(topic, messages...)
}

// TestMessagesOfAHandlerAreNotLost is about a handler whose messages cannot be published after they
// were stored.
func TestMessagesOfAHandlerAreNotLost(t *testing.T) {
	e := newEnv(t)
	var runs atomic.Int64
	e.run(func(r *message.Router) {
		r.AddMiddleware(e.consumer(nil).Middleware)
		r.AddHandler("a", "orders", e.queue, "answers", &torn{Publisher: e.queue}, answering(&runs))
	})
	e.publish("orders", "order 1", "a book")
	if answer := e.receive("answers", 1)[0]; answer.Metadata.Get("run") != "1" || runs.Load() != 1 {
		t.Errorf("%v after %d runs", answer, runs.Load())
	}
}

// TestMessageOfADeadProcessIsHandledByAnother is about a process that dies while it handles a
// message, before the broker delivers the message again.
func TestMessageOfADeadProcessIsHandledByAnother(t *testing.T) {
	e := newEnv(t)
	var network faultnet.Network
	rdb := e.client()
	network.Attach(rdb)
	svc, err := redisidem.New(rdb, &redisidem.Config{CommitRetry: -1, Lease: time.Second, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	dying, err := watermillidem.New(svc, "billing", nil)
	if err != nil {
		t.Fatal(err)
	}
	var dead atomic.Bool
	died := make(chan struct{})
	e.publish("orders", "order 1", "a book")
	stop := e.run(func(r *message.Router) {
		r.AddMiddleware(func(h message.HandlerFunc) message.HandlerFunc {
			return func(msg *message.Message) ([]*message.Message, error) {
				if dead.Load() {
					<-msg.Context().Done() // a dead process handles nothing
					return nil, errors.New("the process has died")
				}
				return h(msg)
			}
		}, dying.Middleware)
		r.AddHandler("a", "orders", e.queue, "answers", e.queue, func(*message.Message) ([]*message.Message, error) {
			network.RefuseWith(redis.ErrClosed)
			dead.Store(true)
			close(died)
			return nil, errors.New("the process has died")
		})
	})
	<-died
	stop()
	_ = svc.Close(context.Background()) // Redis does not hear of it

	var runs atomic.Int64
	attempts := make(chan int, 1)
	e.run(func(r *message.Router) {
		r.AddMiddleware(e.consumer(nil).Middleware)
		r.AddHandler("a", "orders", e.queue, "answers", e.queue, func(msg *message.Message) ([]*message.Message, error) {
			attempts <- watermillidem.Stage(msg.Context()).Attempt()
			return answering(&runs)(msg)
		})
	})
	e.receive("answers", 1)
	if <-attempts != 2 {
		t.Error("it was not the second attempt")
	}
}

func TestMessageThatFailsIsADeadLetter(t *testing.T) {
	e := newEnv(t)
	var runs, extensions atomic.Int64
	e.run(func(r *message.Router) {
		r.AddMiddleware(e.consumer(&watermillidem.Config{
			ID:          func(msg *message.Message) string { return msg.Metadata.Get("order") + msg.UUID },
			DeadLetters: e.queue, DeadLetterTopic: "dead", MaxAttempts: 3, ExtendEvery: time.Millisecond,
			Extend: func(context.Context, *message.Message) error {
				extensions.Add(1)
				return nil
			},
		}).Middleware)
		r.AddConsumerHandler("a", "orders", e.queue, func(*message.Message) error {
			for before := extensions.Load(); extensions.Load() == before; {
				runtime.Gosched()
			}
			runs.Add(1)
			return errors.New("no such customer")
		})
	})
	e.publish("orders", "order 1", "a book")
	letter := e.receive("dead", 1)[0]
	if letter.UUID != "order 1" || string(letter.Payload) != "a book" || letter.Metadata.Get("reason_poisoned") != "no such customer" ||
		letter.Metadata.Get("handler_poisoned") != "a" || letter.Metadata.Get("topic_poisoned") != "orders" || runs.Load() != 3 {
		t.Errorf("%v after %d runs", letter, runs.Load())
	}
}

// TestMessagesThatCannotBeStoredAreNoResult returns more than a record can hold. The key stays
// unfinished, so that the message can be delivered again.
func TestMessagesThatCannotBeStoredAreNoResult(t *testing.T) {
	e := newEnv(t)
	var runs atomic.Int64
	e.run(func(r *message.Router) {
		r.AddMiddleware(e.consumer(&watermillidem.Config{DeadLetters: e.queue, DeadLetterTopic: "dead"}).Middleware)
		r.AddHandler("a", "orders", e.queue, "answers", e.queue, func(*message.Message) ([]*message.Message, error) {
			size := 1 << 20
			if runs.Add(1) > 1 {
				size = 1
			}
			return message.Messages{message.NewMessage("answer", make([]byte, size))}, nil
		})
	})
	e.publish("orders", "order 1", "a book")
	e.receive("dead", 1)
	e.publish("orders", "order 1", "a book")
	if answer := e.receive("answers", 1)[0]; len(answer.Payload) != 1 || runs.Load() != 2 {
		t.Errorf("%d bytes after %d runs", len(answer.Payload), runs.Load())
	}
}

// TestResultOfAnotherKindIsADeadLetter replaces a handler of stages by one that returns messages.
func TestResultOfAnotherKindIsADeadLetter(t *testing.T) {
	e := newEnv(t)
	handled := make(chan struct{})
	stop := e.run(func(r *message.Router) {
		r.AddConsumerHandler("a", "orders", e.queue, e.consumer(nil).Handler(func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			close(handled)
			return redisidem.Finish(redisidem.JSON(200, "shipped")), nil
		}))
	})
	e.publish("orders", "order 1", "a book")
	<-handled
	stop()
	var runs atomic.Int64
	e.run(func(r *message.Router) {
		r.AddMiddleware(e.consumer(&watermillidem.Config{DeadLetters: e.queue, DeadLetterTopic: "dead"}).Middleware)
		r.AddHandler("a", "orders", e.queue, "answers", e.queue, answering(&runs))
	})
	e.publish("orders", "order 1", "a book")
	if letter := e.receive("dead", 1)[0]; letter.UUID != "order 1" || runs.Load() != 0 {
		t.Errorf("%v after %d runs", letter, runs.Load())
	}
}

func TestStageAsAHandler(t *testing.T) {
	e := newEnv(t)
	var runs atomic.Int64
	handled := make(chan *message.Message, 2)
	e.run(func(r *message.Router) {
		work := e.consumer(nil).Handler(func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			runs.Add(1)
			if watermillidem.Stage(ctx) != st {
				t.Error("the stage is another one")
			}
			handled <- watermillidem.Message(ctx)
			return redisidem.Finish(redisidem.Response{}), nil
		})
		r.AddConsumerHandler("a", "orders", e.queue, func(msg *message.Message) error {
			before := msg.Context()
			err := work(msg)
			if msg.Context() != before {
				t.Error("the message keeps the context of the stage")
			}
			if err == nil && runs.Load() == 1 {
				e.publish("handled", msg.UUID, "")
			}
			return err
		})
	})
	e.publish("orders", "order 1", "a book")
	e.publish("orders", "order 1", "a book")
	e.receive("handled", 2)
	if msg := <-handled; msg.UUID != "order 1" || runs.Load() != 1 {
		t.Errorf("%v after %d runs", msg, runs.Load())
	}
	if watermillidem.Message(t.Context()) != nil || watermillidem.Stage(t.Context()) != nil {
		t.Error("a context outside of a handler has a message")
	}
}

// TestReconcileFindsTheWorkOfAMessage has stages that fail after they have done their work. The
// message that was done is acknowledged, and the other one becomes a dead letter.
func TestReconcileFindsTheWorkOfAMessage(t *testing.T) {
	e := newEnv(t)
	handled := make(chan struct{}, 2)
	e.run(func(r *message.Router) {
		work := e.consumer(&watermillidem.Config{
			DeadLetters: e.queue, DeadLetterTopic: "dead", MaxAttempts: 1,
			Reconcile: func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
				if string(watermillidem.Message(ctx).Payload) == "done" {
					return redisidem.Finish(redisidem.Response{}), nil
				}
				return redisidem.Outcome{}, redisidem.ErrNothingDone
			},
		}).Handler(func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Outcome{}, errors.New("the reply was lost")
		})
		r.AddConsumerHandler("a", "orders", e.queue, func(msg *message.Message) error {
			err := work(msg)
			if err != nil {
				t.Errorf("%s: %v", msg.UUID, err)
			}
			handled <- struct{}{}
			return err
		})
	})
	e.publish("orders", "order 1", "done")
	e.publish("orders", "order 2", "not done")
	<-handled
	<-handled
	if letter := e.receive("dead", 1)[0]; letter.UUID != "order 2" {
		t.Errorf("%v", letter)
	}
}

// TestReconciledResultWithoutMessagesIsADeadLetter is about a handler that returns messages. An
// outcome that does not have them must not pass for its result.
func TestReconciledResultWithoutMessagesIsADeadLetter(t *testing.T) {
	e := newEnv(t)
	e.run(func(r *message.Router) {
		r.AddMiddleware(e.consumer(&watermillidem.Config{
			DeadLetters: e.queue, DeadLetterTopic: "dead", MaxAttempts: 1,
			Reconcile: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Finish(redisidem.JSON(200, "another kind")), nil
			},
		}).Middleware)
		r.AddHandler("a", "orders", e.queue, "answers", e.queue, func(*message.Message) ([]*message.Message, error) {
			return nil, errors.New("the reply was lost")
		})
	})
	e.publish("orders", "order 1", "a book")
	if letter := e.receive("dead", 1)[0]; letter.UUID != "order 1" {
		t.Errorf("%v", letter)
	}
}

func TestConsumerThatIsWrong(t *testing.T) {
	e := newEnv(t)
	svc := e.service()
	for field, c := range map[string]struct {
		group string
		cfg   watermillidem.Config
	}{
		"watermillidem.group":                  {"billing/eu", watermillidem.Config{}},
		"watermillidem.Config.DeadLetterTopic": {"a", watermillidem.Config{DeadLetters: e.queue}},
		"consumer.Config.MaxAttempts":          {"a", watermillidem.Config{MaxAttempts: -1}},
	} {
		_, err := watermillidem.New(svc, c.group, &c.cfg)
		if refused, ok := errors.AsType[*redisidem.InvalidError](err); !ok || refused.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := watermillidem.New(nil, "a", nil); !errors.Is(err, redisidem.ErrInvalid) {
		t.Error(err)
	}
	msg := message.NewMessage("order 1", nil)
	if _, err := e.consumer(nil).Middleware(message.PassthroughHandler)(msg); !errors.Is(err, redisidem.ErrInvalid) {
		t.Errorf("outside of a router: %v", err)
	}
}

// TestExtendReadsTheMessageWhileItsHandlerChangesIt is for the race detector.
func TestExtendReadsTheMessageWhileItsHandlerChangesIt(t *testing.T) {
	e := newEnv(t)
	e.publish("orders", "m1", "an order")
	type delivery struct{}
	var calls atomic.Int64
	extended := make(chan struct{})
	var seen atomic.Value
	c := e.consumer(&watermillidem.Config{ExtendEvery: time.Millisecond, Extend: func(_ context.Context, msg *message.Message) error {
		seen.Store(fmt.Sprint(msg.UUID, " ", msg.Metadata.Get("tries"), " ", msg.Context().Value(delivery{})))
		if calls.Add(1) == 20 {
			close(extended)
		}
		return nil
	}})
	e.run(func(r *message.Router) {
		r.AddMiddleware(func(next message.HandlerFunc) message.HandlerFunc {
			return func(msg *message.Message) ([]*message.Message, error) {
				msg.SetContext(context.WithValue(msg.Context(), delivery{}, "of the broker"))
				return next(msg)
			}
		}, c.Middleware)
		r.AddConsumerHandler("bill", "orders", e.queue, func(msg *message.Message) error {
			for {
				msg.SetContext(context.WithValue(msg.Context(), delivery{}, "of the handler"))
				msg.Metadata.Set("tries", "1")
				select {
				case <-extended:
					e.publish("done", "m1", "")
					return nil
				case <-time.After(time.Millisecond):
				}
			}
		})
	})
	e.receive("done", 1)
	if got := seen.Load(); got != "m1  of the broker" {
		t.Errorf("Extend got %q", got)
	}
}
