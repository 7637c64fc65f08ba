package redisidem_test

import (
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestScopeUseIsThatOfAllProcesses(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		in := redisidem.NewInspector(e.service())
		use, err := in.ScopeUse(ctx, "acme")
		mustBe(t, err, nil)
		if use != (redisidem.ScopeUse{}) {
			t.Errorf("the use of an unused scope is %+v", use)
		}
		cfg := redisidem.QuotaConfig{InFlight: 10, Stored: 12}
		one, two := mustQuota(t, e.service(), cfg), mustQuota(t, e.service(), cfg)
		admitted(t, one, "acme")(true)
		stays := admitted(t, one, "acme")
		defer stays(false)
		defer admitted(t, two, "acme")(false)
		until(t, "the record is counted", func() bool {
			use, err = in.ScopeUse(ctx, "acme")
			return err != nil || use.Stored == 1 && use.InFlight+use.InFlightHeld > 2
		})
		want := redisidem.ScopeUse{Processes: 2, InFlight: use.InFlight, InFlightHeld: 2, InFlightLimit: 10, Stored: 1, StoredHeld: 2, StoredLimit: 12}
		if err != nil || use != want {
			t.Errorf("%+v, %v, want %+v", use, err, want)
		}
	})
}

func TestScopeUseIsRead(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Retention: time.Hour})
		in := redisidem.NewInspector(svc)
		q := mustQuota(b, svc, redisidem.QuotaConfig{Stored: 1000})
		admitted(b, q, "acme")(true)
		mustBe(b, q.Close(ctx), nil)
		key := b.server.Keys()[0]
		b.server.HSet(key, "s:other", "of a later version", "c:x", "y", "new", "1")
		use, err := in.ScopeUse(ctx, "acme")
		mustBe(b, err, nil)
		if use != (redisidem.ScopeUse{Stored: 1}) {
			b.Errorf("%+v", use)
		}
		time.Sleep(time.Hour + 4*time.Minute)
		use, err = in.ScopeUse(ctx, "acme")
		mustBe(b, err, nil)
		if use != (redisidem.ScopeUse{}) {
			b.Errorf("%+v after the window", use)
		}
		b.server.Del(key)
		mustBe(b, b.server.Set(key, "a text"), nil)
		_, err = in.ScopeUse(ctx, "acme")
		mustBe(b, err, redisidem.ErrDamaged)
		q = mustQuota(b, svc, redisidem.QuotaConfig{Stored: 2})
		admitted(b, q, "acme")(false) // alone
		b.freeze()
		_, err = in.ScopeUse(ctx, "acme")
		mustBe(b, err, redisidem.ErrUnavailable)
		b.thaw()
		mustBe(b, svc.Close(ctx), nil)
		_, err = in.ScopeUse(ctx, "acme")
		mustBe(b, err, redisidem.ErrClosed)
	})
}
