package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/idemtest"
)

// TestCrashMatrix kills the checkout inside this process, on an embedded Redis, at each boundary of
// its flow.
func TestCrashMatrix(t *testing.T) {
	t.Parallel()
	for _, story := range []struct {
		name, token, variant string
		promise              map[string]idemtest.Times
	}{
		{"order", tokenOK, "book", map[string]idemtest.Times{"charged": idemtest.Exactly(1), "orders": idemtest.Exactly(1), "tax_lines": idemtest.Exactly(1)}},
		{"3-D Secure", token3DS, "book", map[string]idemtest.Times{"charged": idemtest.Exactly(1), "orders": idemtest.Exactly(1), "tax_lines": idemtest.Exactly(1)}},
		{"declined", tokenDecline, "book", map[string]idemtest.Times{"charged": idemtest.Exactly(0)}},
		{"sold out", tokenOK, "unicorn", map[string]idemtest.Times{"charged": idemtest.Exactly(1), "voided": idemtest.Exactly(1)}},
	} {
		t.Run(story.name, func(t *testing.T) {
			t.Parallel()
			idemtest.CrashMatrix(t, idemtest.CrashConfig{
				Promise: story.promise,
				World:   func(tb testing.TB) idemtest.World { return newWorld(tb, story.token, story.variant) },
			})
		})
	}
}

// newWorld makes a shop with one cart, and a payment provider.
func newWorld(tb testing.TB, token, variant string) idemtest.World {
	tb.Helper()
	const cart = "cart_1"
	ctx := context.Background()
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	dir := tb.TempDir()
	p, err := openProvider(ctx, filepath.Join(dir, "provider.db"))
	must(err)
	server := httptest.NewServer(p.handler())
	s, err := openShop(ctx, filepath.Join(dir, "shop.db"))
	must(err)
	tb.Cleanup(func() {
		server.Close()
		if err := p.close(); err != nil {
			tb.Error(err)
		}
		if err := s.close(); err != nil {
			tb.Error(err)
		}
	})
	_, err = s.db.ExecContext(ctx, "INSERT INTO carts (id, payment_token) VALUES (?, ?)", cart, token)
	must(err)
	must(s.addItem(ctx, cart, variant, 1))
	pay := &payments{url: server.URL, client: server.Client()}
	return idemtest.World{
		Flow: (&checkout{shop: s, payments: pay}).flow,
		Request: redisidem.Request{
			Method: http.MethodPost, Path: "/store/carts/" + cart + "/complete", Params: request{Cart: cart},
		},
		Interim: func(key *redisidem.Key) { // the customer confirms
			_, err := p.db.ExecContext(ctx, "UPDATE payments SET state = ? WHERE state = ?", stateCharged, stateConfirm)
			if err != nil {
				tb.Error(err)
			}
		},
		Effects: func() map[string]int {
			happened := make(map[string]int)
			counts, err := s.counts(ctx, cart)
			if err != nil {
				tb.Error(err)
			}
			charged, returned, err := p.counts(ctx, cart)
			if err != nil {
				tb.Error(err)
			}
			counts["charged"], counts["voided"] = charged, returned
			for name, n := range counts {
				if n > 0 {
					happened[name] = int(n)
				}
			}
			return happened
		},
	}
}
