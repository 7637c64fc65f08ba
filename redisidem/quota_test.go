package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// quota makes a quota as another process would have it. The first end of the test ends it.
func (b *bubble) quota(cfg redisidem.QuotaConfig) *redisidem.Quota {
	b.Helper()
	return mustQuota(b, b.service(redisidem.Config{Timeout: time.Second}), cfg)
}

func mustQuota(t testing.TB, svc *redisidem.Service, cfg redisidem.QuotaConfig) *redisidem.Quota {
	t.Helper()
	q, err := redisidem.NewQuota(svc, cfg)
	mustBe(t, err, nil)
	t.Cleanup(func() {
		closing, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		mustBe(t, q.Close(closing), nil)
	})
	return q
}

// admitted returns the done function of a request that must be admitted.
func admitted(t testing.TB, q *redisidem.Quota, scope string) func(created bool) {
	t.Helper()
	done, err := q.Admit(ctx, scope)
	mustBe(t, err, nil)
	return done
}

// refused checks that a request is refused.
func refused(t testing.TB, q *redisidem.Quota, scope string) *redisidem.QuotaError {
	t.Helper()
	done, err := q.Admit(ctx, scope)
	refusal, ok := errors.AsType[*redisidem.QuotaError](err)
	if !ok || done != nil {
		t.Fatalf("error is %v, want a refusal", err)
	}
	if strings.Contains(err.Error(), scope) {
		t.Errorf("%q names the scope", err)
	}
	return refusal
}

// fill admits requests until one is refused.
func fill(t testing.TB, qs ...*redisidem.Quota) (dones []func(created bool)) {
	t.Helper()
	for full := 0; full < len(qs); {
		full = 0
		for _, q := range qs {
			switch done, err := q.Admit(ctx, "acme"); {
			case err == nil:
				dones = append(dones, done)
			case errors.As(err, new(*redisidem.QuotaError)):
				full++
			default:
				t.Fatal(err)
			}
			if len(dones) > 10_000 {
				t.Fatal("there is no limit")
			}
		}
	}
	return dones
}

func between(t testing.TB, what string, n, least, most int) {
	t.Helper()
	if n < least || n > most {
		t.Errorf("%s: %d, want %d to %d", what, n, least, most)
	}
}

// TestQuotaHoldsRequestsInFlightToTheLimit lets requests come and go in three processes at random.
// There are never more than the limit, and a request is refused only if seven eighths are in use.
func TestQuotaHoldsRequestsInFlightToTheLimit(t *testing.T) {
	for _, limit := range []int{1, 2, 5, 16, 40, 100, 1000} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				random := rand.New(rand.NewPCG(1, uint64(limit))) //nolint:gosec // to repeat it
				cfg := redisidem.QuotaConfig{InFlight: limit}
				qs := []*redisidem.Quota{b.quota(cfg), b.quota(cfg), b.quota(cfg)}
				var dones []func(bool)
				refusals := 0
				for i := range 40 * limit {
					if more := i/(3*limit)%2 == 0; len(dones) > 0 && (random.IntN(10) < 3) == more {
						n := random.IntN(len(dones))
						dones[n](false)
						dones[n] = dones[len(dones)-1]
						dones = dones[:len(dones)-1]
						time.Sleep(60 * time.Millisecond)
						continue
					}
					switch done, err := qs[random.IntN(len(qs))].Admit(ctx, "acme"); {
					case err == nil:
						dones = append(dones, done)
					case len(dones) < limit-limit/8:
						b.Fatalf("%d: refused with %d in flight", i, len(dones))
					default:
						refusals++
						time.Sleep(60 * time.Millisecond)
					}
					if len(dones) > limit {
						b.Fatalf("%d are in flight", len(dones))
					}
				}
				if refusals == 0 {
					b.Error("the limit was never reached")
				}
				for _, done := range dones {
					done(false)
				}
			})
		})
	}
}

// TestQuotaAsksRedisRarely counts the calls of a common load.
func TestQuotaAsksRedisRarely(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := redisidem.QuotaConfig{InFlight: 100, Stored: 1_000_000, Window: time.Hour}
		qs := []*redisidem.Quota{b.quota(cfg), b.quota(cfg)}
		for _, q := range qs {
			admitted(b, q, "acme")(true) // the first request of the scope
		}
		before := qs[0].Stats().Calls + qs[1].Stats().Calls
		for i := range 10_000 {
			one, two := admitted(b, qs[i%2], "acme"), admitted(b, qs[i%2], "acme")
			one(true)
			two(false)
			time.Sleep(time.Millisecond)
		}
		// Ten seconds: two or three renewals of each process.
		if calls := qs[0].Stats().Calls + qs[1].Stats().Calls - before; calls < 2 || calls > 6 {
			b.Errorf("20,000 requests led to %d calls", calls)
		}
	})
}

// TestQuotaWhileRedisIsAway covers outages: a process goes on with its share, and then admits what
// the limit allows to one process.
func TestQuotaWhileRedisIsAway(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := redisidem.QuotaConfig{InFlight: 100, Stored: 1000}
		q, other := b.quota(cfg), b.quota(cfg)
		taken := fill(b, other)
		for range 60 {
			taken[0](false)
			taken = taken[1:]
		}
		time.Sleep(time.Second)
		dones := []func(bool){admitted(b, q, "acme")}
		b.freeze()
		calls := q.Stats().Calls
		dones = append(dones, admitted(b, q, "acme")) // by the share
		if n := q.Stats(); n.Calls != calls || n.Alone != 0 {
			b.Errorf("%+v", n)
		}
		start := time.Now()
		dones = append(dones, fill(b, q)...)
		if took := time.Since(start); took > 2*time.Second {
			b.Errorf("requests waited for %v", took)
		}
		between(b, "admitted by one process", len(dones), 100, 100)
		if n := q.Stats(); n.Alone < 90 || n.Failed == 0 {
			b.Errorf("%+v", n)
		}
		time.Sleep(30 * time.Second)
		start = time.Now()
		_ = refused(b, q, "acme")
		_ = refused(b, q, "acme")
		if took := time.Since(start); took > 2*time.Second {
			b.Errorf("requests waited for %v", took)
		}
		b.thaw()
		time.Sleep(10 * time.Second) // both have reported their requests
		_ = refused(b, q, "acme")
		dones = append(dones, fill(b, other)...) // by places of its share
		between(b, "in flight after the outage", len(taken)+len(dones), 140, 152)
		for _, done := range dones {
			done(false)
		}
		time.Sleep(60 * time.Millisecond)
		between(b, "in flight at last", len(taken)+len(fill(b, q, other)), 88, 100)
		if n := q.Stats(); n.InFlight < 0.8 || n.Scopes != 1 {
			b.Errorf("%+v", n)
		}
	})
}

// TestQuotaCountsOneScopeAlone damages what Redis has of one scope. Only that scope is counted by
// the process alone, and it stays so whatever the others do.
func TestQuotaCountsOneScopeAlone(t *testing.T) {
	inBubble(t, func(b *bubble) {
		q, other := b.quota(redisidem.QuotaConfig{InFlight: 10}), b.quota(redisidem.QuotaConfig{InFlight: 10})
		admitted(b, q, "damaged")(false)
		damaged := b.server.Keys()
		b.server.Del(damaged[0])
		mustBe(b, b.server.Set(damaged[0], "not a hash"), nil)
		dones := fill(b, other)
		for i := range 10 {
			dones = append(dones, admitted(b, q, "damaged"))
			_ = refused(b, q, "acme") // its places are in use elsewhere
			admitted(b, q, fmt.Sprint("healthy", i))(false)
		}
		if n := q.Stats(); n.Alone != 10 || n.Failed != 1 {
			b.Errorf("%+v", n)
		}
		_ = refused(b, q, "damaged")
		for _, done := range dones {
			done(false)
		}
		b.server.Del(damaged[0])
	})
}

// TestQuotaWaitsForNoLeader cancels the request that calls Redis, and one that waits for it.
func TestQuotaWaitsForNoLeader(t *testing.T) {
	inBubble(t, func(b *bubble) {
		q := b.quota(redisidem.QuotaConfig{InFlight: 10})
		b.mute()
		leaves, leave := context.WithCancel(ctx)
		var ended sync.WaitGroup
		for range 2 {
			ended.Go(func() {
				if done, err := q.Admit(leaves, "acme"); err == nil {
					done(false)
				}
			})
		}
		synctest.Wait()
		leave()
		ended.Wait()
		b.thaw()
		time.Sleep(20 * time.Second)
		if n := q.Stats(); n.Scopes != 0 {
			b.Errorf("%+v", n)
		}
		if dones := fill(b, q); len(dones) != 10 {
			b.Errorf("%d are admitted", len(dones))
		}
	})
}

func TestQuotaOutOfItsBounds(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		for field, cfg := range map[string]redisidem.QuotaConfig{
			"QuotaConfig.InFlight": {InFlight: -1}, "QuotaConfig.Stored": {Stored: -1}, "QuotaConfig": {},
			"QuotaConfig.Window": {Stored: 1, Window: time.Millisecond},
		} {
			_, err := redisidem.NewQuota(svc, cfg)
			mustBeInvalid(b, err, field)
		}
		mustBeInvalid(b, b.quota(redisidem.QuotaConfig{Stored: 1}).SetWindow(time.Millisecond), "QuotaConfig.Window")
	})
}

// TestQuotaOnEveryServer runs many requests of three processes at once. It counts those in flight
// and the records.
func TestQuotaOnEveryServer(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		const limit, stored = 20, 300
		var inFlight, most, made atomic.Int64
		var requests sync.WaitGroup
		for range 3 {
			q := mustQuota(t, e.service(), redisidem.QuotaConfig{InFlight: limit, Stored: stored})
			for range 10 {
				requests.Go(func() {
					for range 40 {
						done, err := q.Admit(ctx, "acme")
						if err != nil {
							if !errors.As(err, new(*redisidem.QuotaError)) {
								t.Error(err)
							}
							continue
						}
						n := inFlight.Add(1)
						for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
						}
						made.Add(1)
						inFlight.Add(-1)
						done(true)
					}
				})
			}
		}
		requests.Wait()
		between(t, "in flight at once", int(most.Load()), 1, limit)
		between(t, "records", int(made.Load()), 1, stored)
		e.mustBeTidy(e.client())
	})
}
