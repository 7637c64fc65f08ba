//go:build linux

package topology

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/test/internal/rung"
)

// underSentinel creates a client of the group.
func underSentinel(t testing.TB, g *redistest.Sentinel) *redis.Client {
	t.Helper()
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: g.MasterName, SentinelAddrs: g.Addrs(), ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1,
		DialTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout,
	})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// strike kills or freezes masters. Each returns when another one has taken over. With alone, its
// replicas are detached just before, so that callers receive answers that no replica has. strike
// returns how long the callers were without an answer: since the strike, and since the group could
// answer.
func strike(t testing.TB, g *redistest.Sentinel, l *load, r *rand.Rand, many int, alone bool) (took, own []time.Duration) {
	t.Helper()
	killed := make([]bool, many)
	for i := range killed {
		killed[i] = i%2 == 0
	}
	r.Shuffle(many, func(i, j int) { killed[i], killed[j] = killed[j], killed[i] })
	for _, kill := range killed {
		// The sentinels begin no other failover for eight seconds. The end of the last failover has
		// taken part of them.
		time.Sleep(7*time.Second + time.Duration(r.Int64N(int64(200*time.Millisecond))))
		master, err := g.Master()
		if err != nil {
			t.Fatal(err)
		}
		followAgain := func() {}
		if alone {
			followAgain = detach(t, g, l, master)
		}
		if kill {
			master.Kill()
		} else if err := master.Pause(); err != nil {
			t.Fatal(err)
		}
		followAgain()
		struck := time.Now()
		l.refusals()
		// The time until the group has a master with a replica again does not count as the
		// library's. Until then no replica can acknowledge a write.
		until(t, func() bool {
			next, err := g.Master() // may differ from the master of a moment ago
			return err == nil && next != master && followed(next)
		})
		able := time.Since(struck)
		// The replica that has acknowledged a write can be lost again, when the sentinels elect
		// another master.
		recovering, stop := context.WithCancel(context.Background())
		var watching sync.WaitGroup
		watching.Go(func() {
			for ; recovering.Err() == nil; time.Sleep(20 * time.Millisecond) {
				if now, err := g.Master(); err != nil || now == master || !followed(now) {
					able = time.Since(struck)
				}
			}
		})
		waited := l.await(t, struck)
		stop()
		watching.Wait()
		took = append(took, waited...)
		for _, w := range waited {
			own = append(own, max(0, w-able))
		}
		recovered, why := slices.Max(waited), l.refusals()
		// Two sentinels that each lead a failover promote one replica each. For some seconds both
		// replicas are masters. A server that returned meanwhile could follow either, and
		// acknowledge writes that are then lost: see docs/reliability.md.
		if err := g.AwaitReplaced(master); err != nil {
			t.Fatal(err)
		}
		if kill {
			err = master.Restart()
		} else {
			err = master.Resume()
		}
		if err == nil {
			err = g.AwaitReady()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("killed: %v; a master with a replica after %v, callers recovered within %v; answers forgotten so far: %d; answered "+
			"meanwhile: %v", kill, able.Round(time.Millisecond), recovered.Round(time.Millisecond), l.forgotten(), why)
	}
	return took, own
}

// detach stops replicas from following their master until the returned function is called. It
// blocks until callers have received answers that only the master stores.
func detach(t testing.TB, g *redistest.Sentinel, l *load, master *redistest.Server) (followAgain func()) {
	t.Helper()
	var replicas []*redistest.Server
	for _, server := range g.Data {
		if server != master {
			replicas = append(replicas, server)
		}
	}
	for _, replica := range replicas {
		if err := replica.Pause(); err != nil {
			t.Fatal(err)
		}
	}
	// The data that the master sends to a stopped process would otherwise wait in the connection.
	client := master.Client()
	err := client.Do(context.Background(), "CLIENT", "KILL", "TYPE", "replica").Err()
	if err = errors.Join(err, client.Close()); err != nil {
		t.Fatal(err)
	}
	before := l.answers()
	until(t, func() bool { return l.answers() > before+2*callers }) // each caller may have received one answer that was stored before
	return func() {
		for _, replica := range replicas {
			if err := replica.Resume(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// followed reports whether a replica acknowledges the writes of a master. A connected replica alone
// does not show that.
func followed(master *redistest.Server) bool {
	ctx, client := context.Background(), master.Client()
	conn := client.Conn()
	defer func() { _ = errors.Join(conn.Close(), client.Close()) }()
	if conn.Set(ctx, "probe", "followed", time.Minute).Err() != nil {
		return false
	}
	acknowledged, err := conn.Wait(ctx, 1, 100*time.Millisecond).Result()
	return err == nil && acknowledged > 0
}

func TestSentinelFailoversLoseNothing(t *testing.T) {
	many := or(*failovers, rung.Size(t, 4, 100, 100))
	seed := rung.Seed(t)
	g := rediscase.Sentinel(t)
	l := newLoad(t, underSentinel(t, g), 1, lease)
	l.begin(seed)
	took, own := strike(t, g, l, rand.New(rand.NewPCG(seed, 1000)), many, false)
	report(t, l.finish(t, underSentinel(t, g)))
	recovered, bound := p99(own), 5*time.Second
	if len(own) < 100 {
		bound = 30 * time.Second // the slowest of all calls, which a busy machine may have delayed
	}
	if recovered > bound {
		t.Errorf("callers were without an answer for %v (p99 of %d) after the group could give one", recovered, len(own))
	}
	rung.Figure(t, "R8", "%d failovers, half by kill -9 and half frozen: 0 of %d acknowledged commits lost, 0 double; "+
		"callers recovered within %v of the strike, %v of the group's own recovery (p99)", many, 2*len(l.known), p99(took), recovered)
}

// TestSentinelFailoversWithoutDurability shows why durability is needed, and that the test would
// notice a loss. Answers given just before a failover have reached no replica, and are lost.
func TestSentinelFailoversWithoutDurability(t *testing.T) {
	many := rung.Size(t, 2, 10, 10)
	seed := rung.Seed(t)
	g := rediscase.Sentinel(t)
	l := newLoad(t, underSentinel(t, g), 0, lease)
	l.begin(seed)
	strike(t, g, l, rand.New(rand.NewPCG(seed, 1000)), many, true)
	l.finish(t, underSentinel(t, g))
	t.Logf("%d failovers without durability: %d of %d answers forgotten", many, len(l.lost), len(l.known))
	if len(l.lost) == 0 {
		t.Error("nothing was lost, or the loss was not seen")
	}
}
