//go:build unix

package soak

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/history"
	"github.com/redisidem/redisidem/test/internal/workload"
)

// quietPhase cuts the network once more and lets some workers die meanwhile. It waits until all
// keys are finished, and compares everything. At its end all workers are idle.
func (s *soak) quietPhase(ctx context.Context) measure {
	s.t.Helper()
	s.die(ctx)
	close(*s.hurry.Load())
	s.network.connect()
	s.recover(ctx)

	s.gate.Lock()
	defer s.gate.Unlock()
	s.finish(ctx, s.unfinished(ctx)) // keys that were begun after the first check
	s.compare(ctx)
	m := s.measure()
	s.ledger.turn()
	s.turn.Add(1)
	s.begin()
	return m
}

// orphans is the number of keys whose workers die in each cut. The numbers of these keys follow all
// others.
const orphans = 6

// die takes leases, cuts the network, and lets the worker die, so that no lease is given back.
func (s *soak) die(ctx context.Context) {
	s.t.Helper()
	mortal := newWorker(s, "mortal", s.network.addrs[0], redisidem.Config{})
	for i := range orphans {
		value := workload.Value(int(s.turn.Load())*perTurn + perTurn/2 + i)
		// The connections of the storm may need a moment to close.
		taken := func() error {
			_, err := mortal.sc.InitializeRequest(ctx, value, workload.Request)
			if err == nil {
				_, err = mortal.sc.Lock(ctx, value)
			}
			return err
		}
		err := taken()
		for began := time.Now(); err != nil && time.Since(began) < patience; err = taken() {
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil {
			s.t.Errorf("key %s cannot be locked: %v", value, err)
		}
	}
	s.network.cut()
	s.network.number["cut"]++
	over, cancel := context.WithCancel(ctx)
	cancel()
	_ = mortal.leave(over)
	time.Sleep(time.Duration(s.network.between(50, 2500)) * time.Millisecond)
}

// recover measures how long it takes, after the cut has ended, until every unfinished key can be
// finished.
func (s *soak) recover(ctx context.Context) {
	s.t.Helper()
	began := time.Now()
	late := lateness()
	s.finish(ctx, s.unfinished(ctx))
	took := time.Since(began)
	stolen := late()
	if s.slowest = max(s.slowest, took); took > bound+stolen {
		s.t.Errorf("recovery took %v, more than %v, and timers were late by %v", took, bound, stolen)
	}
}

// lateness measures how late timers are on a busy machine, until the returned function is called.
func lateness() (end func() time.Duration) {
	const tick = 10 * time.Millisecond
	var late time.Duration
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			began := time.Now()
			time.Sleep(tick)
			late += max(0, time.Since(began)-2*tick)
		}
	})
	return func() time.Duration {
		cancel()
		wg.Wait()
		return late
	}
}

// finish finishes keys, through the proxy.
func (s *soak) finish(ctx context.Context, values []string) {
	s.t.Helper()
	var wg sync.WaitGroup
	queue := make(chan string, len(values))
	for _, v := range values {
		queue <- v
	}
	close(queue)
	p := s.workers[0]
	for range 16 {
		wg.Go(func() {
			for v := range queue {
				err := p.Do(ctx, p.sc.Wait(bound), workload.Use{Key: v})
				for began := time.Now(); err != nil && time.Since(began) < patience; {
					time.Sleep(5 * time.Millisecond)
					err = p.Do(ctx, p.sc.Wait(bound), workload.Use{Key: v})
				}
				if err != nil {
					s.ledger.report(history.Violation{Rule: history.Unfinished, Key: v, Text: err.Error()})
				}
			}
		})
	}
	wg.Wait()
}

// records returns the names of all records.
func (s *soak) records(ctx context.Context) (names []string) {
	s.t.Helper()
	it := s.watcher.client.ScanType(ctx, 0, "*", 1000, "hash").Iterator()
	for it.Next(ctx) {
		names = append(names, it.Val())
	}
	if err := it.Err(); err != nil {
		s.t.Errorf("not all records were looked at: %v", err)
	}
	return names
}

// unfinished returns the unfinished keys of this turn.
func (s *soak) unfinished(ctx context.Context) (values []string) {
	s.t.Helper()
	for value, point := range s.points(ctx) {
		if point != redisidem.Finished {
			values = append(values, value)
		}
	}
	return values
}

// points returns the recovery points of the keys of this turn.
func (s *soak) points(ctx context.Context) map[string]string {
	s.t.Helper()
	names := s.records(ctx)
	pipe := s.watcher.client.Pipeline()
	for _, name := range names {
		pipe.HMGet(ctx, name, "request", "recovery_point")
	}
	replies, err := pipe.Exec(ctx)
	if err != nil && len(names) > 0 {
		s.t.Error(err)
	}
	points := make(map[string]string)
	for _, reply := range replies {
		// A record may have expired since the scan.
		words := reply.(*redis.SliceCmd).Val()
		request, ok := words[0].(string)
		if value := history.KeyOf(request); ok && s.ofThisTurn(value) {
			points[value], _ = words[1].(string)
		}
	}
	return points
}

func (s *soak) ofThisTurn(value string) bool {
	var n int
	_, number, _ := strings.Cut(value, "-")
	_, err := fmt.Sscan(number, &n)
	return err == nil && n/perTurn == int(s.turn.Load())
}

// compare checks all keys of this turn, while no worker works.
func (s *soak) compare(ctx context.Context) {
	s.t.Helper()
	s.expiries(ctx)
	counted := workload.Counters(ctx, s.t, s.watcher.client)
	points := s.points(ctx)
	for _, value := range s.ledger.some(math.MaxInt) {
		if _, ok := points[value]; !ok {
			s.missed(value)
		}
	}
	for value := range points {
		s.keys++
		key, err := s.watcher.sc.Retrieve(ctx, value)
		if err != nil {
			s.t.Errorf("key %s: %v", value, err)
			continue
		}
		s.ledger.check(workload.RecordOf(key))
		if n := counted[value]; workload.Counted(value) && n != len(key.Journal) {
			s.ledger.report(history.Violation{
				Rule: history.WrongEffects, Key: value, Text: fmt.Sprintf("%d effects of %d commits", n, len(key.Journal)),
			})
		}
	}
}

// missed reports a key that has events but no record. Records are kept for longer than a turn.
func (s *soak) missed(value string) {
	since := time.Since(time.Unix(0, s.began.Load()))
	if s.ofThisTurn(value) && since < retention {
		s.ledger.report(history.Violation{
			Rule: history.Vanished, Key: value, Text: fmt.Sprintf("it has no record, %v after the turn began", since.Round(time.Millisecond)),
		})
	}
}

// watch checks some of the finished keys continuously.
func (s *soak) watch(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, time.Second)
		for _, value := range s.ledger.some(100) {
			key, err := s.watcher.sc.Retrieve(ctx, value)
			switch {
			case errors.Is(err, redisidem.ErrNotFound):
				s.missed(value)
			case err == nil && key.Finished() && s.ofThisTurn(value):
				s.ledger.check(workload.RecordOf(key))
			}
		}
		s.expiries(ctx)
	}
}

// expiries checks that every Redis key has a TTL.
func (s *soak) expiries(ctx context.Context) {
	it := s.watcher.client.Scan(ctx, 0, "*", 1000).Iterator()
	for it.Next(ctx) {
		left, err := s.watcher.client.PTTL(ctx, it.Val()).Result()
		if err != nil && ctx.Err() == nil {
			s.t.Errorf("the TTL of %s: %v", it.Val(), err)
		}
		if err == nil && left == -1 {
			s.t.Errorf("%s has no TTL", it.Val())
		}
	}
	if err := it.Err(); err != nil && ctx.Err() == nil {
		s.t.Errorf("not all keys were looked at: %v", err)
	}
}

func TestRecordThatVanishesIsNoticed(t *testing.T) {
	server := rediscase.Server(t)
	s := &soak{t: t, ledger: newLedger()}
	s.begin()
	s.watcher = newWorker(s, "watcher", server.Addr(), redisidem.Config{})
	defer func() {
		if err := s.watcher.leave(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	for n := range 3 {
		if err := s.watcher.Do(t.Context(), s.watcher.sc, workload.Use{Key: workload.Value(n)}); err != nil {
			t.Fatal(err)
		}
	}
	s.compare(t.Context())
	if s.keys != 3 || len(s.ledger.wrong) > 0 {
		t.Fatalf("of %d keys these are wrong before anything has happened: %v", s.keys, s.ledger.wrong)
	}

	gone, err := s.watcher.sc.Retrieve(t.Context(), workload.Value(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.watcher.sc.Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	s.compare(t.Context())
	if wrong := s.ledger.wrong; len(wrong) != 1 || wrong[0].Rule != history.Vanished || wrong[0].Key != gone.Value {
		t.Errorf("a record has vanished, and wrong is %v", wrong)
	}
}
