//go:build unix

// Package consumer tests the promise of package watermillidem with a real broker and real
// processes: each message of a queue is handled once.
//
// Messages are published to NATS JetStream, a part of them twice. A process that handles them with
// a Watermill router is killed again and again. Each message is answered by a message with a fresh
// UUID, so that a second answer to the same message would be seen.
//
//	go test -count=1 -v ./test/consumer -size change  # 10,000 messages, a kill each second
package consumer

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/contrib/watermillidem"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/child"
	"github.com/redisidem/redisidem/test/internal/rung"
)

const (
	patience    = 30 * time.Second
	limit       = 10 * time.Minute // for all messages
	lease       = time.Second / 2
	ackWait     = time.Second // after which the broker delivers again
	subscribers = 8           // in each process
	workTime    = 2 * time.Millisecond
	firstLife   = 150 * time.Millisecond // of the first process, for which all messages take too long
	laterLife   = time.Second

	orders, receipts = "orders", "receipts" // topics
	runs             = "runs"               // the Redis key that counts the runs of the handler

	redisVariable = "REDISIDEM_TEST_REDIS"
	natsVariable  = "REDISIDEM_TEST_NATS"
)

func TestMain(m *testing.M) {
	flag.Parse()
	child.Main(m, map[string]func(){"worker": work})
}

// work is the main function of a process that handles messages, which is killed.
func work() {
	client := redis.NewClient(&redis.Options{Addr: os.Getenv(redisVariable), ContextTimeoutEnabled: true, DisableIdentity: true})
	svc, err := redisidem.New(client, &redisidem.Config{Lease: lease})
	if err != nil {
		panic(err)
	}
	idem, err := watermillidem.New(svc, "billing", nil)
	if err != nil {
		panic(err)
	}
	url := os.Getenv(natsVariable)
	subscriber, err := wnats.NewSubscriber(wnats.SubscriberConfig{
		URL: url, QueueGroupPrefix: "billing", SubscribersCount: subscribers, AckWaitTimeout: ackWait, Unmarshaler: &wnats.NATSMarshaler{},
		JetStream: wnats.JetStreamConfig{
			DurablePrefix: "billing", SubscribeOptions: []nats.SubOpt{nats.AckExplicit(), nats.AckWait(ackWait), nats.MaxAckPending(1_000)},
		},
	}, watermill.NopLogger{})
	if err != nil {
		panic(err)
	}
	publisher, err := newPublisher(url)
	if err != nil {
		panic(err)
	}
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		panic(err)
	}
	router.AddMiddleware(idem.Middleware)
	router.AddHandler("charge", orders, subscriber, receipts, publisher, func(msg *message.Message) ([]*message.Message, error) {
		if err := client.Incr(msg.Context(), runs).Err(); err != nil {
			return nil, err
		}
		time.Sleep(workTime)
		return message.Messages{message.NewMessage(watermill.NewUUID(), []byte(msg.UUID))}, nil
	})
	go func() {
		<-router.Running()
		child.Tell("ready")
	}()
	panic(router.Run(context.Background()))
}

func newPublisher(url string) (*wnats.Publisher, error) {
	return wnats.NewPublisher(wnats.PublisherConfig{URL: url, Marshaler: &wnats.NATSMarshaler{}}, watermill.NopLogger{})
}

// broker is the test's own connection to NATS.
type broker struct {
	url      string
	js       nats.JetStreamContext
	complete atomic.Bool // all orders were published
}

func newBroker(t *testing.T) *broker {
	t.Helper()
	b := &broker{url: startNATS(t)}
	conn, err := nats.Connect(b.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if b.js, err = conn.JetStream(); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{orders, receipts} {
		if _, err := b.js.AddStream(&nats.StreamConfig{Name: topic, Subjects: []string{topic}}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// publish publishes an order. If the broker is busy, it does so again, which makes a duplicate.
func (b *broker) publish(uuid string) error {
	raw, err := (&wnats.NATSMarshaler{}).Marshal(orders, message.NewMessage(uuid, []byte(uuid)))
	if err != nil {
		return err
	}
	for range 5 {
		if _, err = b.js.PublishMsg(raw); !errors.Is(err, nats.ErrTimeout) {
			return err
		}
	}
	return err
}

// settled reports whether all orders were published and acknowledged.
func (b *broker) settled() bool {
	if !b.complete.Load() {
		return false
	}
	consumer, err := b.js.ConsumerInfo(orders, "billing")
	return err == nil && consumer.NumPending == 0 && consumer.NumAckPending == 0
}

// answers returns the UUIDs of the answers to each message, and how often an answer was published.
func (b *broker) answers(t *testing.T) (uuids map[string]map[string]bool, published int) {
	t.Helper()
	info, err := b.js.StreamInfo(receipts)
	if err != nil {
		t.Fatal(err)
	}
	published = int(info.State.Msgs) //nolint:gosec // a small number
	reader, err := b.js.SubscribeSync(receipts, nats.OrderedConsumer())
	if err != nil {
		t.Fatal(err)
	}
	uuids = make(map[string]map[string]bool)
	for range published {
		raw, err := reader.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		msg, err := (&wnats.NATSMarshaler{}).Unmarshal(raw)
		if err != nil {
			t.Fatal(err)
		}
		of := string(msg.Payload)
		if uuids[of] == nil {
			uuids[of] = make(map[string]bool)
		}
		uuids[of][msg.UUID] = true
	}
	return uuids, published
}

// TestEachMessageIsHandledOnceByKilledConsumers publishes messages, a fifth of them twice, and
// kills the process that handles them.
func TestEachMessageIsHandledOnceByKilledConsumers(t *testing.T) {
	messages := rung.Size(t, 10_000, 10_000, 50_000)
	random := rand.New(rand.NewPCG(rung.Seed(t), 0))
	b := newBroker(t)
	server := rediscase.Server(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = client.Close() })

	var names []string
	for i := range messages {
		names = append(names, "order-"+strconv.Itoa(i))
	}
	for i := range messages / 5 {
		names = append(names, names[i])
	}
	random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	var publishing sync.WaitGroup
	defer publishing.Wait()
	publishing.Go(func() {
		for _, name := range names {
			if err := b.publish(name); err != nil {
				t.Error(err)
			}
		}
		b.complete.Store(true)
	})

	ledger := child.NewLedger(t)
	began, kills := time.Now(), 0
	life := firstLife // so that messages are left, also of a few
	for settled := false; !settled; {
		p, err := child.Start(t, "worker", ledger, redisVariable+"="+server.Addr(), natsVariable+"="+b.url)
		if err == nil {
			err = p.Await("ready", patience)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(life)
		life = laterLife
		if settled = b.settled(); !settled {
			kills++ // with messages that are not handled
		}
		p.Kill()
		switch {
		case !p.Killed():
			t.Fatal("the process ended by itself")
		case !settled && time.Since(began) > limit:
			t.Fatalf("after %v the queue is not empty", limit)
		}
	}
	took := time.Since(began)

	uuids, published := b.answers(t)
	differing := 0
	for _, answers := range uuids {
		if len(answers) > 1 {
			differing++
		}
	}
	begun, err := client.Get(t.Context(), runs).Int()
	if err != nil {
		t.Fatal(err)
	}
	if differing > 0 || len(uuids) != messages {
		t.Errorf("%d messages have more than one answer; %d of %d have one", differing, len(uuids), messages)
	}
	if kills == 0 || published < len(names) || begun < messages {
		t.Errorf("too little has happened: %d kills, %d answers, %d runs", kills, published, begun)
	}
	rung.Figure(t, "R22", "%d messages and %d duplicates through NATS JetStream in %.0f s, the consumer killed %d times: "+
		"each has one answer, published %d times; %d runs of the handler were cut off and repeated",
		messages, len(names)-messages, took.Seconds(), kills, published, begun-messages)
}
