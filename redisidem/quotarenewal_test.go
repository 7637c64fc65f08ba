package redisidem_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// TestQuotaOfAKilledProcess covers the shares of a process that is gone.
func TestQuotaOfAKilledProcess(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := redisidem.QuotaConfig{InFlight: 100, Stored: 1000, Window: time.Hour}
		killed, lives := b.quota(cfg), b.quota(cfg)
		dones := fill(b, killed)
		killed.Kill()
		time.Sleep(14 * time.Second)
		between(b, "admitted while its share holds", len(fill(b, lives)), 0, 12)
		time.Sleep(3 * time.Second)
		rest := fill(b, lives)
		between(b, "admitted after its share has lapsed", len(rest), 80, 100)
		use, err := redisidem.NewInspector(b.service(redisidem.Config{})).ScopeUse(ctx, "acme")
		mustBe(b, err, nil)
		// Each place of the killed process may have become a record.
		between(b, "records", use.Stored, 100, 100+1000/8)
		if use.Processes != 1 {
			b.Errorf("%+v", use)
		}
		_ = dones
	})
}

// TestQuotaOfAKilledProcessWithoutOthers lets a share lapse while no process uses the scope. Its
// places still count as records.
func TestQuotaOfAKilledProcessWithoutOthers(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := redisidem.QuotaConfig{Stored: 100, Window: time.Hour}
		killed := b.quota(cfg)
		dones := fill(b, killed)
		killed.Kill()
		time.Sleep(20 * time.Second)
		b.server.FastForward(0)
		next := b.quota(cfg)
		_ = refused(b, next, "acme")
		time.Sleep(59 * time.Minute)
		_ = refused(b, next, "acme")
		time.Sleep(6 * time.Minute)
		between(b, "admitted after the window", len(fill(b, next)), len(dones), 100)
		for _, done := range dones {
			done(true)
		}
	})
}

// TestQuotaOfAPausedProcess covers a process that is stopped for longer than its share lasts.
func TestQuotaOfAPausedProcess(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := redisidem.QuotaConfig{InFlight: 100}
		paused, lives := b.quota(cfg), b.quota(cfg)
		var dones []func(bool)
		for range 30 {
			dones = append(dones, admitted(b, paused, "acme"))
		}
		paused.Kill() // nothing renews
		time.Sleep(16 * time.Second)
		rest := fill(b, lives)
		between(b, "admitted by another", len(rest), 88, 100)
		_ = refused(b, paused, "acme") // it has no share
		for _, done := range dones {
			done(false)
		}
		for range 40 {
			rest[0](false)
			rest = rest[1:]
		}
		time.Sleep(60 * time.Millisecond)
		again := fill(b, paused, lives)
		between(b, "in flight", len(rest)+len(again), 88, 100)
	})
}

// TestS6_QuotasForgetScopesThatAreNotUsed covers scopes that are no longer used, and a process that
// ends.
func TestS6_QuotasForgetScopesThatAreNotUsed(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := redisidem.QuotaConfig{InFlight: 100}
		q, other := b.quota(cfg), b.quota(cfg)
		for i := range 500 {
			admitted(b, q, fmt.Sprint(i))(false)
		}
		stays := admitted(b, q, "stays")
		if n := q.Stats().Scopes; n != 501 {
			b.Errorf("%d scopes", n)
		}
		time.Sleep(12 * time.Second)
		if n := q.Stats().Scopes; n != 1 {
			b.Errorf("%d scopes are kept", n)
		}
		if keys := b.server.Keys(); len(keys) != 1 {
			b.Errorf("Redis has %q", keys)
		}
		stays(false)
		dones := fill(b, q)
		for _, done := range dones {
			done(false)
		}
		mustBe(b, q.Close(ctx), nil)
		between(b, "admitted when the other has left", len(fill(b, other)), 100, 100)
		alone := admitted(b, q, "acme")
		alone(false)
		mustBe(b, q.Close(ctx), nil)
	})
}

func TestQuotaForgetsRecordsWithTheirWindow(t *testing.T) {
	inBubble(t, func(b *bubble) {
		q := b.quota(redisidem.QuotaConfig{Stored: 100, Window: time.Hour})
		admitted(b, q, "acme")(true)
		time.Sleep(30 * time.Minute)
		if keys := b.server.Keys(); len(keys) != 1 || q.Stats().Scopes != 0 {
			b.Errorf("Redis has %q, and %+v", keys, q.Stats())
		}
		time.Sleep(35 * time.Minute)
		b.server.FastForward(0)
		if keys := b.server.Keys(); len(keys) != 0 {
			b.Errorf("Redis has %q", keys)
		}
	})
}

// TestQuotaLosesRepliesAndFindsDuplicates covers a call that was applied although its reply was
// lost, and its duplicate that arrives later.
func TestQuotaLosesRepliesAndFindsDuplicates(t *testing.T) {
	inBubble(t, func(b *bubble) {
		q := b.quota(redisidem.QuotaConfig{InFlight: 10, Stored: 100, Window: time.Hour})
		in := redisidem.NewInspector(b.service(redisidem.Config{}))
		stored := func() int {
			use, err := in.ScopeUse(ctx, "acme")
			mustBe(b, err, nil)
			return use.Stored
		}
		for range 5 {
			admitted(b, q, "acme")(true)
		}
		b.mute()
		time.Sleep(6 * time.Second) // a renewal that reports the records
		b.thaw()
		time.Sleep(6 * time.Second)
		if n := stored(); n != 5 {
			b.Errorf("%d records are counted, want 5", n)
		}
		stays := admitted(b, q, "acme")
		late := b.repeated()
		more := admitted(b, q, "acme")
		late()
		use, err := in.ScopeUse(ctx, "acme")
		mustBe(b, err, nil)
		if use.InFlightHeld != 2 || use.Stored != 5 {
			b.Errorf("a late duplicate has changed the share: %+v", use)
		}
		more(true)
		stays(true)
		time.Sleep(20 * time.Second)
		if n := stored(); n != 7 {
			b.Errorf("%d records are counted, want 7", n)
		}
	})
}

// TestQuotaLosesTheReplyToAGiveBack covers give-backs that are repeated: one that Redis has seen,
// and one that it has not.
func TestQuotaLosesTheReplyToAGiveBack(t *testing.T) {
	for name, lose := range map[string]func(b *bubble){"reply": (*bubble).mute, "call": (*bubble).freeze} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				q := b.quota(redisidem.QuotaConfig{Stored: 100, Window: time.Hour})
				done := admitted(b, q, "acme")
				time.Sleep(12 * time.Second) // renewals without a new request
				lose(b)
				done(true)
				time.Sleep(6 * time.Second)
				b.thaw()
				time.Sleep(20 * time.Second)
				use, err := redisidem.NewInspector(b.service(redisidem.Config{})).ScopeUse(ctx, "acme")
				mustBe(b, err, nil)
				if use.Stored != 1 || use.Processes != 0 || q.Stats().Scopes != 0 {
					b.Errorf("%+v %+v", use, q.Stats())
				}
			})
		})
	}
}

// TestQuotaLapsesWhileItIsGivenBack lets Redis count the places of a share as records before its
// process, which could not give it back, reports its record.
func TestQuotaLapsesWhileItIsGivenBack(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := redisidem.QuotaConfig{Stored: 100, Window: time.Hour}
		q, other := b.quota(cfg), b.quota(cfg)
		in := redisidem.NewInspector(b.service(redisidem.Config{}))
		done := admitted(b, q, "acme")
		time.Sleep(12 * time.Second)
		use, err := in.ScopeUse(ctx, "acme")
		mustBe(b, err, nil)
		b.freeze()
		done(true)
		time.Sleep(25 * time.Second)
		b.thaw()
		admitted(b, other, "acme")(false)
		time.Sleep(20 * time.Second)
		held := use.StoredHeld
		use, err = in.ScopeUse(ctx, "acme")
		mustBe(b, err, nil)
		if held == 0 || use.Stored != held || q.Stats().Scopes != 0 {
			b.Errorf("%d records are counted of %d places: %+v", use.Stored, held, q.Stats())
		}
	})
}

// TestQuotaEndsBeforeItsRequests closes a quota while requests run. Their places stay in use for
// 15 s.
func TestQuotaEndsBeforeItsRequests(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := redisidem.QuotaConfig{InFlight: 100, Stored: 1000, Window: time.Hour}
		ends, other := b.quota(cfg), b.quota(cfg)
		dones := fill(b, ends)
		for _, done := range dones[40:] {
			done(false)
		}
		mustBe(b, ends.Close(ctx), nil)
		between(b, "admitted by the other", len(fill(b, other)), 100-40-12, 100-40)
		time.Sleep(16 * time.Second)
		between(b, "admitted by the other at last", len(fill(b, other)), 40, 52)
		for _, done := range dones[:40] {
			done(true)
		}
	})
}

// TestQuotaEndsWithoutRedis closes a quota with many shares while Redis does not answer.
func TestQuotaEndsWithoutRedis(t *testing.T) {
	inBubble(t, func(b *bubble) {
		q := b.quota(redisidem.QuotaConfig{InFlight: 100})
		for i := range 500 {
			admitted(b, q, fmt.Sprint(i))(false)
		}
		b.mute()
		start := time.Now()
		mustBe(b, q.Close(ctx), nil)
		if took := time.Since(start); took > 2*time.Second {
			b.Errorf("it took %v", took)
		}
		b.thaw()
	})
}

// quotaServer is a hook on the connections to one server of a cluster. While the server is away,
// calls about quotas get no answer.
type quotaServer struct {
	away  atomic.Bool
	calls atomic.Int64 // about quotas, while the server answers
}

func (*quotaServer) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *quotaServer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if args := cmd.Args(); len(args) < 4 || args[1] != lua.Quota.SHA && args[1] != lua.Quota.Source {
			return next(ctx, cmd)
		}
		if h.away.Load() {
			<-ctx.Done()
			return ctx.Err()
		}
		h.calls.Add(1)
		return next(ctx, cmd)
	}
}

func (*quotaServer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestQuotaOfAServerThatAnswersIsRenewed has a thousand scopes on a server of a cluster that does
// not answer. Calls to it take minutes in all, which is longer than a share lasts.
func TestQuotaOfAServerThatAnswersIsRenewed(t *testing.T) {
	t.Parallel()
	needServer(t)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: rediscase.Cluster(t).Addrs(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	var mu sync.Mutex
	servers := make(map[string]*quotaServer)
	server := func(addr string) *quotaServer {
		mu.Lock()
		defer mu.Unlock()
		if servers[addr] == nil {
			servers[addr] = &quotaServer{}
		}
		return servers[addr]
	}
	client.OnNewNode(func(node *redis.Client) { node.AddHook(server(node.Options().Addr)) })
	svc, err := redisidem.New(client, &redisidem.Config{Timeout: 5 * time.Second})
	mustBe(t, err, nil)
	t.Cleanup(func() { _ = svc.Close(ctx) })
	q := mustQuota(t, svc, redisidem.QuotaConfig{InFlight: 100})
	of := func(scope string) *quotaServer {
		node, err := client.MasterForKey(ctx, protocol.QuotaKey(svc.Config().Namespace, scope))
		mustBe(t, err, nil)
		return server(node.Options().Addr)
	}
	answers := of("acme")
	var silent *quotaServer
	dones := []func(bool){admitted(t, q, "acme")}
	defer func() {
		for _, done := range dones {
			done(false)
		}
	}()
	for i := 0; len(dones) <= 1000; i++ {
		scope := fmt.Sprint(i)
		s := of(scope)
		if s == answers || silent != nil && s != silent {
			continue
		}
		silent = s
		dones = append(dones, admitted(t, q, scope))
	}
	silent.away.Store(true)
	defer silent.away.Store(false)
	before := answers.calls.Load()
	for end := time.Now().Add(8 * time.Second); answers.calls.Load() == before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the share of a scope is not renewed, although its server answers")
		}
	}
}
