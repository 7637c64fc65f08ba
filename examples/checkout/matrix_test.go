package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/idemtest"
)

// TestCheckoutIsHarmlessTheSecondTime kills checkouts at each boundary with the library's test kit, which takes milliseconds where
// processes take seconds. It needs no server.
func TestCheckoutIsHarmlessTheSecondTime(t *testing.T) {
	t.Parallel()
	for _, story := range stories {
		t.Run(story.name, func(t *testing.T) {
			t.Parallel()
			promise := make(map[string]idemtest.Times)
			for effect, n := range story.want {
				if effect != "mails" { // which the relay sends
					promise[effect] = idemtest.Exactly(int(n))
				}
			}
			idemtest.CrashMatrix(t, idemtest.Crashes{
				World:   func(tb testing.TB) idemtest.World { return newWorld(tb, story.token, story.variant) },
				Promise: promise,
				Depth:   2,
			})
		})
	}
}

// newWorld is a town with one cart in it.
func newWorld(tb testing.TB, token, variant string) idemtest.World {
	tb.Helper()
	ctx := context.Background()
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	p, err := openProvider(ctx, filepath.Join(tb.TempDir(), "provider.db"))
	must(err)
	server := httptest.NewServer(p.handler())
	db, err := openShop(ctx, filepath.Join(tb.TempDir(), "shop.db"))
	must(err)
	tb.Cleanup(func() {
		server.Close()
		must(p.close())
		must(db.close())
	})
	cart, err := db.createCart(ctx)
	must(err)
	must(db.addItem(ctx, cart, variant, 2))
	must(db.choosePayment(ctx, cart, token))
	return idemtest.World{
		Request: redisidem.Request{Method: http.MethodPost, Path: "/store/carts/complete", Params: completion{Cart: cart}},
		Flow: func() (*redisidem.Flow, error) {
			c := &checkout{shop: db, payments: &payments{url: server.URL, client: server.Client()}, recoverAfter: time.Minute}
			return c.flow()
		},
		Mask: func(r *redisidem.Response) {
			var answer struct{ Data order }
			must(json.Unmarshal(r.Body, &answer))
			for id, name := range map[string]string{cart: "CART", answer.Data.ID: "ORDER", answer.Data.Payment: "PAYMENT"} {
				if id != "" {
					r.Body = bytes.ReplaceAll(r.Body, []byte(id), []byte(name))
				}
			}
		},
		Effects: func() map[string]int {
			charged, voided, err := p.counts(ctx, cart)
			must(err)
			rows, err := db.counts(ctx, cart)
			must(err)
			return map[string]int{
				"charged": int(charged), "voided": int(voided), "orders": int(rows["orders"]), "tax_lines": int(rows["tax_lines"]),
			}
		},
	}
}
