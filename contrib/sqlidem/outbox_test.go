package sqlidem_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisidem/redisidem/contrib/sqlidem"
	"github.com/redisidem/redisidem/redisidem"
)

// publishing returns a flow of two stages that publish two events each.
func publishing(t *testing.T, store *sqlidem.Store, fail error) *redisidem.Flow {
	t.Helper()
	step := func(name string, o redisidem.Outcome, err error) redisidem.StageFunc {
		return store.Stage(func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) (redisidem.Outcome, error) {
			for i := range 2 {
				if err := store.Publish(ctx, tx, st, sqlidem.Event{Topic: "orders", Payload: []byte(fmt.Sprint(st.Key().Value, " ", name, i))}); err != nil {
					return redisidem.Outcome{}, err
				}
			}
			return o, err
		})
	}
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "f", Version: 1, Stages: []redisidem.FlowStage{
		{Point: redisidem.Started, Work: step("one", redisidem.Next(), nil)},
		{Point: "two", Work: step("two", redisidem.Finish(redisidem.JSON(200, "")), fail)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return flow
}

// receiver is where events go.
type receiver struct {
	mu   sync.Mutex
	got  []string
	ids  map[int64]int
	fail func(e sqlidem.Event) error
}

func (r *receiver) publish(_ context.Context, e sqlidem.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		if err := r.fail(e); err != nil {
			return err
		}
	}
	if r.ids == nil {
		r.ids = make(map[int64]int)
	}
	r.ids[e.ID]++
	r.got = append(r.got, string(e.Payload))
	return nil
}

// of returns the events of a key, in the order in which they came.
func (r *receiver) of(key string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var mine []string
	for _, e := range r.got {
		if name, ok := strings.CutPrefix(e, key+" "); ok {
			mine = append(mine, name)
		}
	}
	return strings.Join(mine, " ")
}

func relay(t *testing.T, store *sqlidem.Store, r *receiver, change ...func(*sqlidem.RelayConfig)) *sqlidem.Relay {
	t.Helper()
	cfg := sqlidem.RelayConfig{Publish: r.publish, Poll: 5 * time.Millisecond, Lease: 2 * time.Second}
	for _, c := range change {
		c(&cfg)
	}
	relay, err := store.NewRelay(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return relay
}

func TestEventsExistOnceIfTheirStageWasCommitted(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, server := scope(t)
		store := db.store(t)
		boom := errors.New("boom")
		if _, err := sc.DoFlow(t.Context(), "k", request, publishing(t, store, boom)); !errors.Is(err, boom) {
			t.Fatal(err)
		}
		var r receiver
		if n, err := relay(t, store, &r).Drain(t.Context()); err != nil || n != 2 || r.of("k") != "one0 one1" {
			t.Errorf("%d, %v: %q", n, err, r.of("k"))
		}
		for range 2 {
			if _, err := sc.DoFlow(t.Context(), "k", request, publishing(t, store, nil)); err != nil {
				t.Fatal(err)
			}
			if err := server.Client().FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}
		b, err := store.Backlog(t.Context())
		if err != nil || b.Events != 2 || b.Failing != 0 || b.Age > time.Hour {
			t.Errorf("%+v, %v", b, err)
		}
	})
}

func TestRelayKeepsTheOrderOfEachKey(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, _ := scope(t)
		store := db.store(t, func(c *sqlidem.Config) { c.Tries = 100 })
		flow := publishing(t, store, nil)
		const keys = 20
		var failures sync.Map
		r := receiver{fail: func(e sqlidem.Event) error {
			// The first event of the key 3 fails twice.
			n, _ := failures.LoadOrStore("3", 0)
			if string(e.Payload) == "3 one0" && n.(int) < 2 {
				failures.Store("3", n.(int)+1)
				return errors.New("no answer")
			}
			return nil
		}}
		ctx, stop := context.WithCancel(t.Context())
		var relays sync.WaitGroup
		for range 2 {
			relays.Go(func() {
				relay(t, store, &r, func(c *sqlidem.RelayConfig) { c.Batch, c.MaxBackoff = 3, time.Second }).Run(ctx)
			})
		}
		var wg sync.WaitGroup
		for i := range keys {
			wg.Go(func() {
				if _, err := sc.DoFlow(t.Context(), fmt.Sprint(i), request, flow); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			if b, err := store.Backlog(t.Context()); err == nil && b.Events == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Error("the outbox does not become empty")
				break
			}
		}
		stop()
		relays.Wait()
		for i := range keys {
			// A relay that is held up for too long is replaced, and its batch comes again.
			var first []string
			for _, event := range strings.Fields(r.of(fmt.Sprint(i))) {
				if !slices.Contains(first, event) {
					first = append(first, event)
				}
			}
			if got := strings.Join(first, " "); got != "one0 one1 two0 two1" {
				t.Errorf("the events of %d came as %q", i, r.of(fmt.Sprint(i)))
			}
		}
	})
}

// TestFailedEventIsNotOvertakenInItsBatch has all events of a key in one batch.
func TestFailedEventIsNotOvertakenInItsBatch(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, _ := scope(t)
		store := db.store(t)
		if _, err := sc.DoFlow(t.Context(), "k", request, publishing(t, store, nil)); err != nil {
			t.Fatal(err)
		}
		const all = "one0 one1 two0 two1"
		failed := false
		r := receiver{fail: func(sqlidem.Event) error {
			if !failed {
				failed = true
				return errors.New("no answer")
			}
			return nil
		}}
		relay := relay(t, store, &r)
		for deadline := time.Now().Add(time.Minute); r.of("k") != all; time.Sleep(20 * time.Millisecond) {
			if _, err := relay.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := r.of("k"); got != all[:min(len(got), len(all))] || time.Now().After(deadline) {
				t.Fatalf("the events came as %q", got)
			}
		}
	})
}

func TestAnotherRelayTakesOverFromOneThatDied(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		sc, _, _ := scope(t)
		store := db.store(t)
		if _, err := sc.DoFlow(t.Context(), "k", request, publishing(t, store, nil)); err != nil {
			t.Fatal(err)
		}
		var first, second receiver
		first.fail = func(sqlidem.Event) error { runtime.Goexit(); return nil } // it published, and then died
		var died sync.WaitGroup
		died.Go(func() {
			_, err := relay(t, store, &first).Drain(t.Context())
			t.Errorf("the first relay ended with %v", err)
		})
		died.Wait()
		next := relay(t, store, &second)
		if n, err := next.Drain(t.Context()); n != 0 || err != nil {
			t.Errorf("the second relay published %d, %v, although the first has the lease", n, err)
		}
		db.exec(t, "UPDATE redisidem_relay SET expires_at = 1")
		if n, err := next.Drain(t.Context()); n != 4 || err != nil || second.of("k") != "one0 one1 two0 two1" {
			t.Errorf("%d, %v: %q", n, err, second.of("k"))
		}
	})
}

func TestBadEventsAndRelaysNameTheField(t *testing.T) {
	t.Parallel()
	db := open(t, sqlidem.SQLite)
	store := db.store(t)
	sc, _, _ := scope(t)
	_, err := sc.Do(t.Context(), "k", request, store.Stage(func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Outcome{}, store.Publish(ctx, tx, st, sqlidem.Event{Topic: "t"}, sqlidem.Event{})
	}))
	if !errors.Is(err, redisidem.ErrInvalid) || !strings.Contains(err.Error(), "events[1].Topic") {
		t.Error(err)
	}
	publish := func(context.Context, sqlidem.Event) error { return nil }
	for field, cfg := range map[string]sqlidem.RelayConfig{
		"Publish": {}, "Batch": {Publish: publish, Batch: -1}, "Poll": {Publish: publish, Poll: -1},
		"Lease": {Publish: publish, Lease: time.Second}, "MaxBackoff": {Publish: publish, MaxBackoff: time.Millisecond},
		"PublishTimeout": {Publish: publish, Lease: 4 * time.Second, PublishTimeout: 3*time.Second + 1},
	} {
		if _, err := store.NewRelay(cfg); !errors.Is(err, redisidem.ErrInvalid) || !strings.Contains(err.Error(), "RelayConfig."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
