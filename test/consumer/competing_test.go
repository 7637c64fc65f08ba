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
	shortestLife = 50 * time.Millisecond // of a process that competes
	longestLife  = 600 * time.Millisecond
	stopEvery    = 4                     // one process in so many is stopped
	stopTime     = ackWait + lease/2     // longer than the lease, and until the broker delivers again
	afterStop    = 50 * time.Millisecond // in which a process that was stopped works on
)

// fates counts what has happened to the processes that compete.
type fates struct{ kills, stops atomic.Int64 }

// compete runs two processes at a time until all messages are handled. Each is killed after a
// random time. One in four is stopped for longer than its lease before that, while the other takes
// its messages over.
func (b *broker) compete(t *testing.T, seed uint64, start func(number int) (*child.Process, error)) *fates {
	t.Helper()
	var f fates
	var number atomic.Int64
	began := time.Now()
	var wg sync.WaitGroup
	for slot := range 2 {
		random := rand.New(rand.NewPCG(seed, uint64(slot)+1)) //nolint:gosec // 0 or 1
		wg.Go(func() {
			for !t.Failed() && !b.settled() {
				if time.Since(began) > limit {
					t.Errorf("after %v the queue is not empty", limit)
					return
				}
				n := int(number.Add(1))
				p, err := start(n)
				if err == nil {
					err = p.Await("ready", patience)
				}
				if err != nil {
					t.Error(err)
					return
				}
				life := shortestLife
				if n > 2 { // the first two die while messages are left, also of a few
					life += time.Duration(random.Int64N(int64(longestLife - shortestLife)))
				}
				time.Sleep(life)
				if n%stopEvery == 0 && p.Stop() == nil { // it may have killed itself
					f.stops.Add(1)
					time.Sleep(stopTime)
					_ = p.Continue()
					time.Sleep(afterStop)
				}
				if !b.settled() {
					f.kills.Add(1) // with messages that are not handled
				}
				p.Kill()
				if !p.Killed() {
					t.Errorf("process %d ended by itself", n)
				}
			}
		})
	}
	wg.Wait()
	return &f
}

// runsOf returns how often a handler began. It checks that no message was run after its result was
// stored. A process that was stopped between its claim and the run may begin later, with an older
// fence than the run whose result is stored.
func runsOf(t *testing.T, ledger child.Ledger) (begun int) {
	t.Helper()
	newest, final := make(map[string]int64), make(map[string]int64)
	ledger.Each(t, func(line string) {
		var uuid string
		var fence int64
		if _, err := fmt.Sscanf(line, "run %s %d", &uuid, &fence); err == nil {
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

// TestEachMessageIsHandledOnceByCompetingConsumers has two processes of one subscription that work
// side by side.
func TestEachMessageIsHandledOnceByCompetingConsumers(t *testing.T) {
	seed, messages := rung.Seed(t), max(300, rung.Size(t, 1_000, 20_000, 50_000))
	b := newBroker(t)
	server := rediscase.Server(t)
	sent := b.publishAll(t, rand.New(rand.NewPCG(seed, 0)), messages)
	ledger := child.NewLedger(t)
	began := time.Now()
	f := b.compete(t, seed, func(int) (*child.Process, error) {
		return child.Start(t, "worker", ledger, redisVariable+"="+server.Addr(), natsVariable+"="+b.url)
	})
	took := time.Since(began)

	answers := b.mustHaveOneAnswerEach(t, messages)
	begun := runsOf(t, ledger)
	if kills := f.kills.Load(); kills == 0 || answers < sent || messages >= 1_000 && f.stops.Load() == 0 {
		t.Errorf("too little has happened: %d kills, %d stops, %d answers", kills, f.stops.Load(), answers)
	}
	rung.Figure(t, "R23", "%d messages and %d duplicates in %.0f s through two consumers side by side, %d killed and %d stopped past their lease: "+
		"each has one answer, published %d times; %d runs of the handler were cut off and repeated, none of them after the result was stored",
		messages, sent-messages, took.Seconds(), f.kills.Load(), f.stops.Load(), answers, begun-messages)
}
