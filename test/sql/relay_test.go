//go:build unix

package sql

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/contrib/sqlidem"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/child"
	"github.com/redisidem/redisidem/test/internal/rung"
)

const (
	outboxes       = 6                      // at the same time, because their relays wait most of the time for a lease
	relayLease     = 2 * time.Second        // the shortest
	publishTimeout = 300 * time.Millisecond // less than a relay's share of its lease
	longestRelay   = 200 * time.Millisecond // from the first publication of a relay to its death
	keyPause       = 40 * time.Millisecond  // between two keys that publish
	receiverTime   = time.Millisecond       // from the publication of an event to its acknowledgement
	eventsPerStage = 2
)

// publishing are the recovery points of the flow that publishes events.
var publishing = []string{redisidem.Started, "reserved", "charged", "shipped"}

var errRolledBack = errors.New("the stage fails after it has published")

// newPublisher returns a flow whose stages publish events. Each event has another text whenever its
// stage runs, and is also a row of the business table, which is written in the same transaction.
// One run in ten fails after that.
func newPublisher(store *sqlidem.Store) (*redisidem.Flow, error) {
	cfg := redisidem.FlowConfig{Name: "publisher", Version: 1}
	for i, point := range publishing {
		cfg.Stages = append(cfg.Stages, store.FlowStage(redisidem.FlowStage{Point: point},
			func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) (redisidem.Outcome, error) {
				for n := i * eventsPerStage; n < (i+1)*eventsPerStage; n++ {
					text := fmt.Sprint(st.Key().Value, " ", n, " ", rand.Text())
					if err := store.Publish(ctx, tx, st, sqlidem.Event{Topic: "orders", Payload: []byte(text)}); err != nil {
						return redisidem.Outcome{}, err
					}
					if _, err := tx.ExecContext(ctx, "INSERT INTO business (key, stage) VALUES ($1, $2)", st.Key().Value, text); err != nil {
						return redisidem.Outcome{}, err
					}
				}
				switch {
				case mathrand.IntN(10) == 0:
					return redisidem.Outcome{}, errRolledBack
				case i == len(publishing)-1:
					return redisidem.Finish(redisidem.JSON(201, "shipped")), nil
				}
				return redisidem.Next(), nil
			}, nil))
	}
	return redisidem.NewFlow(cfg)
}

// relay is the main function of a process that relays events to the ledger, which is killed. One
// publication in 200 fails, and of another one in 200 the acknowledgement is lost.
func relay() {
	number, _ := strconv.ParseUint(os.Getenv(numberVariable), 10, 64)
	seed, _ := strconv.ParseUint(os.Getenv(seedVariable), 10, 64)
	random := mathrand.New(mathrand.NewPCG(seed, number))
	db, err := sql.Open("pgx", os.Getenv(postgresVariable))
	if err != nil {
		panic(err)
	}
	store, err := sqlidem.New(db, sqlidem.Config{Dialect: sqlidem.PostgreSQL})
	if err != nil {
		panic(err)
	}
	pen := child.Own()
	var first sync.Once
	r, err := store.NewRelay(sqlidem.RelayConfig{
		Lease: relayLease, PublishTimeout: publishTimeout, Poll: 5 * time.Millisecond, Batch: 20, MaxBackoff: time.Second,
		Publish: func(_ context.Context, e sqlidem.Event) error {
			first.Do(func() { child.Tell("publishing") })
			switch random.IntN(200) {
			case 0:
				return errors.New("the receiver does not answer")
			case 1:
				pen.Write("event %s", e.Payload)
				pen.Write("unacknowledged")
				return errors.New("the receiver's answer was lost")
			}
			pen.Write("event %s", e.Payload)
			time.Sleep(receiverTime)
			return nil
		},
	})
	if err != nil {
		panic(err)
	}
	child.Tell("ready")
	r.Run(context.Background())
}

// relaying counts what has happened to the relays of all outboxes.
type relaying struct{ kills, stops, events, repeated, unacknowledged atomic.Int64 }

// outbox is an outbox with two relays.
type outbox struct {
	*world
	*relaying
	ledger child.Ledger
	number int
	seed   uint64
	struck atomic.Int64 // relays of this outbox that were killed or stopped
}

// TestKilledRelaysPublishEachEventInOrder kills and stops the relays of several outboxes, two of
// each, while keys publish events.
func TestKilledRelaysPublishEachEventInOrder(t *testing.T) {
	seed, kills := rung.Seed(t), max(4, rung.Size(t, 12, 240, 1_800))
	many := min(outboxes, kills/2)
	var counts relaying
	addr := rediscase.Server(t).Addr()
	var all []*outbox
	for i := range many {
		all = append(all, &outbox{world: newWorldOn(t, addr), relaying: &counts, ledger: child.NewLedger(t), number: i, seed: seed})
	}
	began := time.Now()
	var wg sync.WaitGroup
	for _, o := range all {
		wg.Go(func() {
			stop := o.publish(t)
			o.disturb(t, kills/many)
			stop()
			o.drain(t)
		})
	}
	wg.Wait()
	took := time.Since(began)
	for _, o := range all {
		o.judge(t)
	}
	if kills >= 12 && (counts.stops.Load() == 0 || counts.repeated.Load() == 0) {
		t.Errorf("seed %d: too little has happened: %d relays stopped, %d events repeated", seed, counts.stops.Load(), counts.repeated.Load())
	}
	rung.Figure(t, "R25", "%d relays killed in %.0f s, two at a time on each of %d outboxes in PostgreSQL, %d stopped past their lease, %d acknowledgements lost; "+
		"%d events, 0 lost, 0 out of the order of their key, 0 of a transaction that was rolled back; %d published again",
		counts.kills.Load(), took.Seconds(), many, counts.stops.Load(), counts.unacknowledged.Load(), counts.events.Load(), counts.repeated.Load())
}

// publish runs flows that publish events, until stop is called. All of them are finished then.
func (o *outbox) publish(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		flow, err := newPublisher(o.store)
		if err != nil {
			t.Error(err)
			return
		}
		for i := 0; ctx.Err() == nil && !t.Failed(); i++ {
			o.finish(t, flow, fmt.Sprintf("key-%d-%d", o.number, i))
			time.Sleep(keyPause)
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// disturb runs two relays at a time until so many were killed.
func (o *outbox) disturb(t *testing.T, kills int) {
	t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for n := int(next.Add(1)); n <= kills && !t.Failed(); n = int(next.Add(1)) {
				o.live(t, n)
			}
		})
	}
	wg.Wait()
}

// live runs a relay and kills it when it has published something for a while. One in four is killed
// earlier, and one in four is stopped for longer than its lease before.
func (o *outbox) live(t *testing.T, number int) {
	t.Helper()
	random := mathrand.New(mathrand.NewPCG(o.seed, uint64(o.number)<<32|uint64(number)))
	p := o.start(t, number)
	if p == nil {
		return
	}
	kind := (number + o.number) % 4
	if kind != 0 { // until then the other relay has the lease, or its lease ends
		if err := p.Await("publishing", patience); err != nil {
			t.Error(err)
			return
		}
	}
	time.Sleep(time.Duration(random.Int64N(int64(longestRelay))))
	if kind == 1 {
		o.stop(t, p)
	}
	p.Kill()
	o.kills.Add(1)
	o.struck.Add(1)
	if !p.Killed() {
		t.Errorf("seed %d: relay %d ended by itself", o.seed, number)
	}
}

// stop stops a relay for longer than its lease, which the database counts in whole seconds.
func (o *outbox) stop(t *testing.T, p *child.Process) {
	t.Helper()
	if err := p.Stop(); err != nil {
		t.Error(err)
		return
	}
	o.stops.Add(1)
	o.struck.Add(1)
	time.Sleep(relayLease + time.Second)
	if err := p.Continue(); err != nil {
		t.Error(err)
	}
	time.Sleep(50 * time.Millisecond) // in which it publishes what it had begun to
}

// start starts a relay. It returns nil if it has failed the test.
func (o *outbox) start(t *testing.T, number int) *child.Process {
	t.Helper()
	p, err := child.Start(t, "relay", o.ledger, postgresVariable+"="+o.postgres.PostgresURL(),
		numberVariable+"="+strconv.Itoa(o.number<<16|number), seedVariable+"="+strconv.FormatUint(o.seed, 10))
	if err == nil {
		err = p.Await("ready", patience)
	}
	if err != nil {
		t.Error(err)
		return nil
	}
	return p
}

// drain runs two relays until the outbox is empty.
func (o *outbox) drain(t *testing.T) {
	t.Helper()
	for range 2 {
		o.start(t, 0) // it ends with the test
	}
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		b, err := o.store.Backlog(t.Context())
		switch {
		case err != nil:
			t.Error(err)
		case b.Events == 0 || t.Failed():
			return
		case time.Since(began) > patience:
			t.Errorf("seed %d: the outbox still has %+v", o.seed, b)
			return
		}
	}
}

// judge compares the ledger with the committed events. Each is published, and first so after the
// events of its key that were committed before. A repetition has its reason: a relay that was
// killed or stopped, or an acknowledgement that was lost.
func (o *outbox) judge(t *testing.T) {
	t.Helper()
	committed := o.committed(t)
	seen, next := make(map[string]bool), make(map[string]int)
	repeated, reasons := 0, 0
	o.ledger.Each(t, func(line string) {
		text, ok := strings.CutPrefix(line, "event ")
		var name, token string
		var n int
		switch _, err := fmt.Sscan(text, &name, &n, &token); {
		case line == "unacknowledged":
			reasons++
			o.unacknowledged.Add(1)
		case !ok || err != nil:
			t.Errorf("the ledger has %q", line)
		case !committed[text]:
			t.Errorf("seed %d: %s was published, and not committed", o.seed, text)
		case seen[text]:
			repeated++
		case n != next[name]:
			t.Errorf("seed %d: %s was published before the event %d of its key", o.seed, text, next[name])
		default:
			seen[text] = true
			next[name]++
		}
	})
	if len(seen) != len(committed) || len(seen) != len(next)*len(publishing)*eventsPerStage {
		t.Errorf("seed %d: %d of %d events of %d keys were published", o.seed, len(seen), len(committed), len(next))
	}
	if most := reasons + int(o.struck.Load()); repeated > most {
		t.Errorf("seed %d: %d events were published again, with %d reasons for it", o.seed, repeated, most)
	}
	o.events.Add(int64(len(seen)))
	o.repeated.Add(int64(repeated))
}

// committed returns the texts of the events that were committed.
func (o *outbox) committed(t *testing.T) map[string]bool {
	t.Helper()
	rows, err := o.db.QueryContext(t.Context(), "SELECT stage FROM business")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	texts := make(map[string]bool)
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		texts[text] = true
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return texts
}
