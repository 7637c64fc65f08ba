//go:build unix

package consumer

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/test/internal/child"
	"github.com/redisidem/redisidem/test/internal/rung"
)

const (
	messagesPerKill = 60
	shortestLife    = 50 * time.Millisecond // of a process that competes
	longestLife     = 600 * time.Millisecond
	stopEvery       = 4                     // one process in so many is stopped
	stopTime        = ackWait + lease/2     // longer than the lease, and until the broker delivers again
	afterStop       = 50 * time.Millisecond // in which a process that was stopped works on
)

// competition is two processes that handle the messages of a broker side by side.
type competition struct {
	b            *broker
	start        func(number int) (*child.Process, error) // the number is 0 for a process that is to live on
	kills, stops atomic.Int64
}

// run runs two processes at a time. Each is killed after a random time. One in four is stopped for
// longer than its lease before that, while the other takes its messages over. After a number of
// kills the processes live on until all messages are handled: otherwise the last ones would be cut
// off again and again.
func (c *competition) run(t *testing.T, seed uint64, messages int) (took time.Duration) {
	t.Helper()
	var number atomic.Int64
	began := time.Now()
	var wg sync.WaitGroup
	for slot := range 2 {
		random := rand.New(rand.NewPCG(seed, uint64(slot)+1)) //nolint:gosec // 0 or 1
		wg.Go(func() {
			for n := int(number.Add(1)); n <= messages/messagesPerKill && !t.Failed() && !c.b.settled(); n = int(number.Add(1)) {
				life := shortestLife
				if n > 2 { // the first two die while messages are left, also of a few
					life += time.Duration(random.Int64N(int64(longestLife - shortestLife)))
				}
				c.live(t, n, life)
			}
			c.finish(t)
		})
	}
	wg.Wait()
	return time.Since(began)
}

// live starts a process and kills it after a time.
func (c *competition) live(t *testing.T, number int, life time.Duration) {
	t.Helper()
	p := c.ready(t, number)
	if p == nil {
		return
	}
	time.Sleep(life)
	if number%stopEvery == 0 && p.Stop() == nil { // it may have killed itself
		c.stops.Add(1)
		time.Sleep(stopTime)
		_ = p.Continue()
		time.Sleep(afterStop)
	}
	if !c.b.settled() {
		c.kills.Add(1) // with messages that are not handled
	}
	p.Kill()
	if !p.Killed() {
		t.Errorf("process %d ended by itself", number)
	}
}

// finish runs a process until all messages are handled.
func (c *competition) finish(t *testing.T) {
	t.Helper()
	if c.b.settled() {
		return
	}
	p := c.ready(t, 0)
	if p == nil {
		return
	}
	for began := time.Now(); !t.Failed() && !c.b.settled(); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > limit {
			t.Errorf("after %v the queue is not empty", limit)
		}
	}
	p.Kill()
}

// ready starts a process and waits until it handles messages. It returns nil if it has failed the
// test.
func (c *competition) ready(t *testing.T, number int) *child.Process {
	t.Helper()
	p, err := c.start(number)
	if err == nil {
		err = p.Await("ready", patience)
	}
	if err != nil {
		t.Error(err)
		return nil
	}
	return p
}

// runsOf returns how often a handler began. It checks that no message was run after its result was
// stored. A process that was stopped between its claim and the run may begin later, with an older
// fence than the run whose result is stored.
func runsOf(t *testing.T, ledger child.Ledger) (begun int) {
	t.Helper()
	newest, final := make(map[string]int64), make(map[string]int64)
	ledger.Each(t, func(line string) {
		if uuid, fence, run := runOf(line); run {
			begun++
			newest[uuid] = max(newest[uuid], fence)
			if last, handled := final[uuid]; handled && fence > last {
				t.Errorf("%s was handled, and then run again with the fence %d", uuid, fence)
			}
			return
		}
		uuid, ok := strings.CutPrefix(line, "handled ")
		if !ok {
			t.Errorf("the ledger has %q", line)
			return
		}
		if _, again := final[uuid]; !again {
			final[uuid] = newest[uuid]
		}
	})
	return begun
}

// runOf returns the message and the fence of a run that has begun.
func runOf(line string) (uuid string, fence int64, ok bool) {
	_, err := fmt.Sscanf(line, "run %s %d", &uuid, &fence)
	return uuid, fence, err == nil
}

// TestEachMessageIsHandledOnceByCompetingConsumers has two processes of one subscription that work
// side by side.
func TestEachMessageIsHandledOnceByCompetingConsumers(t *testing.T) {
	seed, messages := rung.Seed(t), max(300, rung.Size(t, 1_000, 20_000, 50_000))
	b := newBroker(t)
	server := rediscase.Server(t)
	sent := b.publishAll(t, rand.New(rand.NewPCG(seed, 0)), messages)
	ledger := child.NewLedger(t)
	c := competition{b: b, start: func(int) (*child.Process, error) {
		return child.Start(t, "worker", ledger, redisVariable+"="+server.Addr(), natsVariable+"="+b.url)
	}}
	took := c.run(t, seed, messages)

	answers := b.mustHaveOneAnswerEach(t, messages)
	begun := runsOf(t, ledger)
	if kills := c.kills.Load(); kills == 0 || answers < sent || messages >= 1_000 && c.stops.Load() == 0 {
		t.Errorf("too little has happened: %d kills, %d stops, %d answers", kills, c.stops.Load(), answers)
	}
	rung.Figure(t, "R23", "%d messages and %d duplicates in %.0f s through two consumers side by side, %d killed and %d stopped past their lease: "+
		"each has one answer, published %d times; %d runs of the handler were cut off and repeated, none of them after the result was stored",
		messages, sent-messages, took.Seconds(), c.kills.Load(), c.stops.Load(), answers, begun-messages)
}
