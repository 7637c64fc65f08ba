package redisidem_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
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
