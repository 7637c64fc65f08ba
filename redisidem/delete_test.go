package redisidem_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// TestDeleteTakesTheKeyOutOfItsIndexes deletes a key that is due and a dead letter.
func TestDeleteTakesTheKeyOutOfItsIndexes(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.MaxAttempts = 1
			c.Stages[1].Work = fails(errStage)
		}))
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		for list, sweeps := range map[string]bool{"due": false, "dead": true} {
			_, err := sc.DoFlow(ctx, list, request, flow)
			mustBe(b, err, errStage)
			if sweeps {
				time.Sleep(time.Minute)
				mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, DeadLettered: 1})
			}
			if n := b.indexed(list); n != 1 {
				b.Fatalf("%d keys are %s, want 1", n, list)
			}
			key, err := sc.Retrieve(ctx, list)
			mustBe(b, err, nil)
			mustBe(b, sc.Delete(ctx, key), nil)
			if due, dead := b.indexed("due"), b.indexed("dead"); due+dead != 0 {
				b.Errorf("the deleted key is in the due index %d times and in the dead letters %d times", due, dead)
			}
		}
	})
}

// TestDeleteWorksOnAServerWhoseMemoryIsFull checks that records can be deleted to free memory.
func TestDeleteWorksOnAServerWhoseMemoryIsFull(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t, redistest.Args("--maxmemory-policy", "noeviction"))
	e := &env{t: t, namespace: freshNamespace(), client: func() redis.UniversalClient {
		client := redis.NewClient(options(server.Addr(), 3))
		t.Cleanup(func() { _ = client.Close() })
		return client
	}}
	sc, raw := e.service().Scope("a"), e.client()
	kept, lost := start(t, sc, "kept"), start(t, sc, "lost")
	record, _ := e.place(lost)
	mustBe(t, raw.Del(ctx, record).Err(), nil)
	mustBe(t, raw.ConfigSet(ctx, "maxmemory", "1").Err(), nil)
	mustBe(t, sc.Delete(ctx, kept), nil)
	mustBe(t, sc.Delete(ctx, lost), nil)
	for _, key := range []*redisidem.Key{kept, lost} {
		record, _ := e.place(key)
		if fields := raw.HGetAll(ctx, record).Val(); len(fields) != 1 || fields["generation"] == "" {
			t.Errorf("the tombstone of %s holds %q", key.Value, fields)
		}
	}
}

// TestDamagedRecordIsDeletedByItsName deletes by the key's name, as programs do, and as operators
// do what an Inspector has read.
func TestDamagedRecordIsDeletedByItsName(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc, raw := e.service(), e.client()
		sc, in := svc.Scope("a"), redisidem.NewInspector(svc)
		for name, damage := range map[string]func(record string) error{
			"another version": func(record string) error { return raw.HSet(ctx, record, "control", "9 of another version").Err() },
			"no control":      func(record string) error { return raw.HDel(ctx, record, "control").Err() },
			"no request":      func(record string) error { return raw.HDel(ctx, record, "request").Err() },
			"flow":            func(record string) error { return raw.HSet(ctx, record, "flow", "ca\nrt/1").Err() },
			"journal":         func(record string) error { return raw.HSet(ctx, record, "j:0", "x").Err() },
			"a string": func(record string) error {
				return errors.Join(raw.Del(ctx, record).Err(), raw.Set(ctx, record, "x", time.Hour).Err())
			},
		} {
			for _, by := range []string{"program", "operator"} {
				key := start(t, sc, name)
				record, _ := e.place(key)
				mustBe(t, damage(record), nil)
				_, err := sc.Retrieve(ctx, name)
				mustBe(t, err, redisidem.ErrDamaged)
				if by == "program" {
					mustBe(t, sc.Delete(ctx, &redisidem.Key{Value: name, Scope: "a"}), nil)
				} else {
					info, err := in.Get(ctx, "a", name)
					mustBe(t, err, nil)
					mustBe(t, info.Err, redisidem.ErrDamaged)
					mustBe(t, in.Delete(ctx, info, act), nil)
				}
				if _, err = sc.Retrieve(ctx, name); !errors.Is(err, redisidem.ErrNotFound) {
					t.Errorf("%s: after a delete by the %s the key is there: %v", name, by, err)
				}
			}
		}
	})
}

// charging returns a stage that calls another service with an outbound key and receives no answer.
func charging(sent *[]string) redisidem.StageFunc {
	return func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		*sent = append(*sent, st.OutboundKey("charge"))
		return redisidem.Outcome{}, errStage
	}
}

// TestOutboundKeysAreNewAfterADelete compares the outbound keys of a record with those of its
// successor. The successor is made by each call that makes records, in several processes, and after
// Redis lost the record.
func TestOutboundKeysAreNewAfterADelete(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, other, raw := e.service().Scope("a"), e.service().Scope("a"), e.client()
		// charge runs the stage in each way, and returns the key that all runs have.
		charge := func(key *redisidem.Key) string {
			t.Helper()
			var sent []string
			if key != nil {
				_, err := sc.WorkStage(ctx, key, charging(&sent))
				mustBe(t, err, errStage)
			}
			_, err := other.Do(ctx, "k", request, charging(&sent))
			mustBe(t, err, errStage)
			_, err = sc.WorkStage(ctx, start(t, sc, "k"), charging(&sent))
			mustBe(t, err, errStage)
			held, err := sc.Lock(ctx, "k")
			mustBe(t, err, nil)
			_, err = other.WorkStage(ctx, held.Key(), charging(&sent))
			mustBe(t, err, redisidem.ErrLocked)
			mustBe(t, held.Abandon(ctx), nil)
			key, err = sc.Update(ctx, start(t, sc, "k"), redisidem.Advance(redisidem.Started+"/2"))
			mustBe(t, err, nil)
			_, err = sc.WorkStage(ctx, key, charging(&sent))
			mustBe(t, err, errStage)
			for _, k := range sent[1 : len(sent)-1] {
				if k != sent[0] {
					t.Errorf("runs of one stage have the outbound keys %q", sent)
				}
			}
			return sent[0] + " and " + sent[len(sent)-1] // of the second stage
		}
		lose := func() {
			t.Helper()
			record, _ := e.place(start(t, sc, "k"))
			mustBe(t, raw.Del(ctx, record).Err(), nil)
		}
		first := charge(start(t, sc, "k"))
		lose()
		if again := charge(nil); again != first {
			t.Errorf("a lost record had %s, and the next one has %s, want the same", first, again)
		}
		seen := []string{first}
		for _, blind := range []bool{false, true, false} {
			key := start(t, sc, "k")
			if blind {
				key = &redisidem.Key{Value: "k", Scope: "a"}
			}
			mustBe(t, sc.Delete(ctx, key), nil)
			if blind {
				key = nil
			} else {
				key = start(t, sc, "k")
			}
			next := charge(key)
			if slices.Contains(seen, next) {
				t.Errorf("after %d deletes the keys are %s again", len(seen), next)
			}
			seen = append(seen, next)
		}
		lose()
		if again := charge(nil); again != first {
			t.Errorf("the first record had %s; when all was lost the next one has %s, want the same", first, again)
		}
		e.mustBeTidy(raw)
	})
}

// TestVoidedChargeIsNotReplayedAfterADelete has a flow that fails permanently and is compensated,
// and an operator who deletes its key so that the customer may try again.
func TestVoidedChargeIsNotReplayedAfterADelete(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		charges := make(map[string]bool) // by outbound key; false: voided
		stock := false
		flow := mustFlow(b, redisidem.FlowConfig{Name: "order", Version: 1, Stages: []redisidem.FlowStage{
			{
				Point: redisidem.Started,
				Work: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					k := st.OutboundKey("charge")
					if _, known := charges[k]; !known {
						charges[k] = true
					}
					return redisidem.Next().WithState(k), nil
				},
				Compensate: func(_ context.Context, st *redisidem.Stage) error {
					charges[st.CommittedKey(st.Compensates(), "charge")] = false
					return nil
				},
			},
			{Point: "charged", Work: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				if !stock {
					return redisidem.Fail(redisidem.JSON(409, "out of stock")), nil
				}
				var k string
				if err := st.State(&k); err != nil {
					return redisidem.Outcome{}, err
				}
				return redisidem.Finish(redisidem.JSON(201, charges[k])), nil
			}},
		}})
		for round, want := range []string{`"out of stock"`, `"out of stock"`, "true"} {
			stock = round == 2
			key, err := sc.DoFlow(ctx, "k", request, flow)
			mustBe(b, err, nil)
			if string(key.Response.Body) != want {
				b.Errorf("round %d: %s, want %s: %v", round, key.Response.Body, want, charges)
			}
			if !stock {
				mustBe(b, sc.Delete(ctx, key), nil)
			}
		}
		if live := slices.Collect(maps.Values(charges)); len(live) != 3 {
			b.Errorf("the charges are %v, want two that are voided and one that is not", charges)
		}
	})
}

// TestTombstoneIsNotARecord compares each call on a deleted key with the same call on a key that
// never existed.
func TestTombstoneIsNotARecord(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		flow := mustFlow(t, cart(recoverable, func(c *redisidem.FlowConfig) { c.Stages[1].Work = fails(errStage) }))
		svc := e.service()
		sc, raw := svc.Scope("a"), e.client()
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, errStage)
		late, err := sc.Lock(ctx, "k")
		mustBe(t, err, nil)
		completer := mustCompleter(t, svc, flow)
		mustSweep(t, completer, redisidem.SweepResult{}) // it remembers its flow
		seen := late.Key()
		record, lock := e.place(seen)
		mustBe(t, raw.Del(ctx, lock).Err(), nil) // it lapses
		mustBe(t, sc.Delete(ctx, seen), nil)
		fields := raw.HGetAll(ctx, record).Val()
		if generation := fields["generation"]; len(fields) != 1 || !strings.HasPrefix(generation, "1 ") {
			t.Errorf("the tombstone holds %q", fields)
		}
		want := svc.Config().Retention
		if ttl := raw.PTTL(ctx, record).Val(); ttl > want || ttl < want-time.Minute {
			t.Errorf("the tombstone lives for %v, want %v", ttl, want)
		}

		e.mustNotChange(raw, "a tombstone", func() {
			_, err := sc.Retrieve(ctx, "k")
			mustBe(t, err, redisidem.ErrNotFound)
			_, err = sc.Update(ctx, seen, redisidem.Advance("on"))
			mustBe(t, err, redisidem.ErrNotFound)
			_, err = sc.Lock(ctx, "k")
			mustBe(t, err, redisidem.ErrNotFound)
			_, err = sc.WorkStage(ctx, seen, never(t))
			mustBe(t, err, redisidem.ErrNotFound)
			_, err = sc.WorkFlow(ctx, seen, flow)
			mustBe(t, err, redisidem.ErrNotFound)
			mustBe(t, sc.Unlock(ctx, "k"), redisidem.ErrNotFound)
			mustBe(t, sc.Requeue(ctx, seen), redisidem.ErrNotFound)
			mustBe(t, late.Renew(ctx), redisidem.ErrLeaseLost)
			_, err = late.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "late")))
			mustBe(t, err, redisidem.ErrOutcomeUnknown)
			for key, err := range svc.DeadLetters(ctx, "cart") {
				t.Errorf("%+v, %v is listed, want no dead letter", key, err)
			}
			mustSweep(t, completer, redisidem.SweepResult{})
		})
		// A hash with other fields and without those of a record is damaged.
		mustBe(t, raw.HSet(ctx, record, "fingerprint", "f").Err(), nil)
		_, err = sc.Do(ctx, "k", request, never(t))
		mustBe(t, err, redisidem.ErrDamaged)
		_, err = sc.InitializeRequest(ctx, "k", request)
		mustBe(t, err, redisidem.ErrDamaged)
		_, err = sc.Retrieve(ctx, "k")
		mustBe(t, err, redisidem.ErrDamaged)
		mustBe(t, sc.Delete(ctx, seen), nil)
		if fields := raw.HGetAll(ctx, record).Val(); len(fields) != 1 {
			t.Errorf("the tombstone holds %q", fields)
		}
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, errStage)
		if key.Attempts != 1 || key.Revision != 1 {
			t.Errorf("the next record is %+v", key)
		}
	})
}

// TestRepeatedDeleteLeavesTheNextRecordAlone loses the reply of a delete. Before it is repeated,
// another caller uses the key again.
func TestRepeatedDeleteLeavesTheNextRecordAlone(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		for name, blind := range map[string]bool{"as it was read": false, "by its name": true} {
			svc, w := e.wired()
			sc, other, raw := svc.Scope("a"), e.service().Scope("a"), e.client()
			seen := start(t, sc, name)
			record, _ := e.place(seen)
			if blind {
				seen = &redisidem.Key{Value: name, Scope: "a"}
			}
			var sent []string
			w.mu.Lock()
			w.lose, w.then = lua.Delete, func() {
				if _, err := other.Do(ctx, name, request, charging(&sent)); !errors.Is(err, errStage) {
					t.Error(err)
				}
			}
			w.mu.Unlock()
			mustBe(t, sc.Delete(ctx, seen), nil)
			_, err := other.Do(ctx, name, request, charging(&sent))
			mustBe(t, err, errStage)
			if len(sent) != 2 || sent[0] != sent[1] {
				t.Errorf("deleted %s: the runs of the next record have the outbound keys %q", name, sent)
			}
			if n := raw.HGet(ctx, record, "generation").Val(); !strings.HasPrefix(n, "1 ") {
				t.Errorf("deleted %s: the next record's generation is %q", name, n)
			}
		}
	})
}

// TestTombstoneLivesForARetention has a provider that remembers keys for no longer than a
// retention.
func TestTombstoneLivesForARetention(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{Retention: time.Hour}).Scope("a")
		var sent []string
		for _, pause := range []time.Duration{0, 59 * time.Minute, 61 * time.Minute} {
			_, err := sc.Do(ctx, "k", request, charging(&sent))
			mustBe(b, err, errStage)
			mustBe(b, sc.Delete(ctx, start(b, sc, "k")), nil)
			time.Sleep(pause)
		}
		_, err := sc.Do(ctx, "k", request, charging(&sent))
		mustBe(b, err, errStage)
		if sent[0] == sent[1] || sent[1] == sent[2] || sent[0] == sent[2] || sent[3] != sent[0] {
			b.Errorf("the outbound keys are %q, want the first again after the tombstone is gone, and not before", sent)
		}
		// A record that was lost before its delete leaves a tombstone too: the delete succeeded.
		lost := start(b, sc, "k")
		b.server.FlushAll()
		mustBe(b, sc.Delete(ctx, lost), nil)
		_, err = sc.Do(ctx, "k", request, charging(&sent))
		mustBe(b, err, errStage)
		if slices.Contains(sent[:1], sent[4]) {
			b.Errorf("a lost record that was deleted is made again with %s", sent[4])
		}
	})
}
