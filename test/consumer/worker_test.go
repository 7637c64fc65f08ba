//go:build unix

package consumer

import (
	"context"
	"os"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/contrib/watermillidem"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/child"
)

const (
	redisVariable = "REDISIDEM_TEST_REDIS"
	natsVariable  = "REDISIDEM_TEST_NATS"
)

// process is what each process that handles messages has.
type process struct {
	idem       *watermillidem.Consumer
	subscriber *wnats.Subscriber
	router     *message.Router
	pen        child.Pen
}

func newProcess(cfg *watermillidem.Config) *process {
	p := &process{pen: child.Own()}
	client := redis.NewClient(&redis.Options{Addr: os.Getenv(redisVariable), ContextTimeoutEnabled: true, DisableIdentity: true})
	svc, err := redisidem.New(client, &redisidem.Config{Lease: lease})
	if err != nil {
		panic(err)
	}
	if p.idem, err = watermillidem.New(svc, "billing", cfg); err != nil {
		panic(err)
	}
	p.subscriber, err = wnats.NewSubscriber(wnats.SubscriberConfig{
		URL: os.Getenv(natsVariable), QueueGroupPrefix: "billing", SubscribersCount: subscribers, AckWaitTimeout: ackWait,
		Unmarshaler: &wnats.NATSMarshaler{},
		JetStream: wnats.JetStreamConfig{
			DurablePrefix: "billing",
			// Without ManualAck, nats.go acknowledges a message when Watermill's subscriber stops
			// waiting for its handler.
			SubscribeOptions: []nats.SubOpt{nats.ManualAck(), nats.AckExplicit(), nats.AckWait(ackWait), nats.MaxAckPending(1_000)},
		},
	}, watermill.NopLogger{})
	if err != nil {
		panic(err)
	}
	if p.router, err = message.NewRouter(message.RouterConfig{}, watermill.NopLogger{}); err != nil {
		panic(err)
	}
	return p
}

// run handles messages until the process is killed.
func (p *process) run() {
	go func() {
		<-p.router.Running()
		child.Tell("ready")
	}()
	panic(p.router.Run(context.Background()))
}

// began writes that the work of a message has begun.
func (p *process) began(uuid string, st *redisidem.Stage) { p.pen.Write("run %s %d", uuid, st.Fence()) }

// work is the main function of a process that answers each message.
func work() {
	p := newProcess(nil)
	publisher, err := wnats.NewPublisher(wnats.PublisherConfig{URL: os.Getenv(natsVariable), Marshaler: &wnats.NATSMarshaler{}}, watermill.NopLogger{})
	if err != nil {
		panic(err)
	}
	p.router.AddMiddleware(p.handled, p.idem.Middleware)
	p.router.AddHandler("charge", orders, p.subscriber, receipts, publisher, func(msg *message.Message) ([]*message.Message, error) {
		p.began(msg.UUID, watermillidem.Stage(msg.Context()))
		time.Sleep(workTime)
		return message.Messages{message.NewMessage(watermill.NewUUID(), []byte(msg.UUID))}, nil
	})
	p.run()
}

// handled is a middleware that writes that the result of a message is stored.
func (p *process) handled(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		produced, err := next(msg)
		if err == nil {
			p.pen.Write("handled %s", msg.UUID)
		}
		return produced, err
	}
}
