//go:build unix

// Package consumer tests the promise of package watermillidem with a real broker and real
// processes: each message of a queue is handled once.
//
// Messages are published to NATS JetStream, a fifth of them twice. The processes that handle them
// with a Watermill router are killed again and again: one process at a time, or two that compete,
// some of which are stopped for longer than their lease. Each message is answered by a message with
// a fresh UUID, so that a second answer to the same message would be seen. The processes write down
// each run of the handler. In another test the handler is a stage of package sqlidem, which writes
// a row for each message.
//
//	go test -count=1 -v ./test/consumer -size change  # 10,000 messages, a kill each second
package consumer

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
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
)

func TestMain(m *testing.M) {
	flag.Parse()
	child.Main(m, map[string]func(){"worker": work, "booker": book})
}

// TestEachMessageIsHandledOnceByKilledConsumers publishes messages, a fifth of them twice, and
// kills the process that handles them.
func TestEachMessageIsHandledOnceByKilledConsumers(t *testing.T) {
	messages := rung.Size(t, 10_000, 10_000, 50_000)
	b := newBroker(t)
	server := rediscase.Server(t)
	sent := b.publishAll(t, rand.New(rand.NewPCG(rung.Seed(t), 0)), messages)

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

	answers := b.mustHaveOneAnswerEach(t, messages)
	begun := runsOf(t, ledger)
	if kills == 0 || answers < sent {
		t.Errorf("too little has happened: %d kills, %d answers", kills, answers)
	}
	rung.Figure(t, "R22", "%d messages and %d duplicates through NATS JetStream in %.0f s, the consumer killed %d times: "+
		"each has one answer, published %d times; %d runs of the handler were cut off and repeated",
		messages, sent-messages, took.Seconds(), kills, answers, begun-messages)
}
