//go:build unix

package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	wnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"

	"github.com/redisidem/redisidem/test/internal/child"
)

// requireVariable is the environment variable that, set to 1, fails tests that would be skipped for
// lack of a program.
const requireVariable = "REDISIDEM_REQUIRE_PROGRAMS"

// startNATS starts a NATS server with JetStream for the test, on a loopback port that it chooses
// itself, and returns its URL.
func startNATS(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("nats-server")
	if err != nil {
		if os.Getenv(requireVariable) == "1" {
			t.Fatal(err)
		}
		t.Skip("nats-server is missing (Debian: apt-get install nats-server): ", err)
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "--addr", "127.0.0.1", "--port", "-1", "--jetstream", "--store_dir", dir,
		"--ports_file_dir", dir, "--log", filepath.Join(dir, "log"))
	cmd.SysProcAttr = child.DieWithParent()
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	file := filepath.Join(dir, "nats-server_"+strconv.Itoa(cmd.Process.Pid)+".ports")
	for began := time.Now(); time.Since(began) < patience; time.Sleep(10 * time.Millisecond) {
		var ports struct {
			NATS []string `json:"nats"`
		}
		text, err := os.ReadFile(file)
		if err == nil && json.Unmarshal(text, &ports) == nil && len(ports.NATS) > 0 {
			return ports.NATS[0]
		}
	}
	log, _ := os.ReadFile(filepath.Join(dir, "log"))
	t.Fatalf("nats-server does not answer: %s", log)
	return ""
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

// publishAll publishes messages, and a fifth of them a second time, in random order. It returns how
// many it publishes, at once. The test ends when all were published.
func (b *broker) publishAll(t *testing.T, random *rand.Rand, messages int) (published int) {
	t.Helper()
	var names []string
	for i := range messages {
		names = append(names, "order-"+strconv.Itoa(i))
	}
	names = append(names, names[:messages/5]...)
	random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	var publishing sync.WaitGroup
	t.Cleanup(publishing.Wait)
	publishing.Go(func() {
		for _, name := range names {
			if err := b.publish(name); err != nil {
				t.Error(err)
			}
		}
		b.complete.Store(true)
	})
	return len(names)
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

// mustHaveOneAnswerEach checks that each message has one answer. It returns how often answers were
// published.
func (b *broker) mustHaveOneAnswerEach(t *testing.T, messages int) (published int) {
	t.Helper()
	uuids, published := b.answers(t)
	differing := 0
	for _, answers := range uuids {
		if len(answers) > 1 {
			differing++
		}
	}
	if differing > 0 || len(uuids) != messages {
		t.Errorf("%d messages have more than one answer; %d of %d have one", differing, len(uuids), messages)
	}
	return published
}
