package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/sqltest"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/idemtest"
)

// matrixStories are checkouts that are killed at each boundary within this process. After an
// interim answer the customer does the next step.
var matrixStories = []struct {
	name, token, variant string
	promise              promise
	customer             func(w *matrixWorld, key *redisidem.Key)
}{
	{"order", tokenOK, "book", oneOrder, nil},
	{"3-D Secure", token3DS, "book", oneOrder, (*matrixWorld).confirm},
	{"declined", tokenDecline, "book", promise{"charged": idemtest.Exactly(0)}, nil},
	{"sold out", tokenOK, "unicorn", promise{"charged": idemtest.Exactly(1), "voided": idemtest.Exactly(1)}, nil},
	{"withdrawn", token3DS, "book", promise{"charged": idemtest.Exactly(0)}, (*matrixWorld).withdraw},
	{"expired", token3DS, "book", promise{"charged": idemtest.Exactly(0)}, (*matrixWorld).wait},
}

type promise = map[string]idemtest.Times

var oneOrder = promise{
	"charged": idemtest.Exactly(1), "orders": idemtest.Exactly(1), "tax_lines": idemtest.Exactly(1), "events": idemtest.Exactly(1),
}

// TestCrashMatrix kills the checkout at each boundary of its flow, on each database.
func TestCrashMatrix(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		for _, story := range matrixStories {
			t.Run(story.name, func(t *testing.T) {
				t.Parallel()
				server, database := idemtest.NewServer(t), ""
				if url != "" {
					database = sqltest.Postgres(t).PostgresURL() // of its own
				}
				idemtest.CrashMatrix(t, idemtest.CrashConfig{
					Promise: story.promise,
					Config:  &redisidem.Config{Lease: redisidem.DefaultLease},
					Client: func(testing.TB) redis.UniversalClient {
						server.FastForward(redisidem.DefaultLease) // the process before may have left its lease
						return redis.NewClient(server.Options())
					},
					World: func(tb testing.TB) idemtest.World {
						tb.Helper()
						w := newMatrixWorld(tb, database, story.token, story.variant)
						w.redis = server
						world := w.world()
						if story.customer != nil {
							world.Interim = func(key *redisidem.Key) { story.customer(w, key) }
						}
						return world
					},
				})
			})
		}
	})
}

// matrixWorld is a shop with one cart, a payment provider, and their customer.
type matrixWorld struct {
	testing.TB
	shop     *shop
	provider *provider
	payments *payments
	redis    *idemtest.Server
}

const matrixCart = "cart_1"

func newMatrixWorld(tb testing.TB, url, token, variant string) *matrixWorld {
	tb.Helper()
	ctx := context.Background()
	w := &matrixWorld{TB: tb}
	dir := tb.TempDir()
	var err error
	w.provider, err = openProvider(ctx, filepath.Join(dir, "provider.db"))
	w.must(err)
	server := httptest.NewServer(w.provider.handler())
	if url != "" { // each case begins with an empty database
		db, err := openPostgres(ctx, url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
		w.must(err)
		w.must(db.Close())
	}
	w.shop, err = openShop(ctx, url, dir)
	w.must(err)
	tb.Cleanup(func() {
		server.Close()
		w.must(w.provider.close())
		w.must(w.shop.close())
	})
	_, err = w.shop.db.ExecContext(ctx, "INSERT INTO carts (id, payment_token) VALUES ($1, $2)", matrixCart, token)
	w.must(err)
	w.must(w.shop.addItem(ctx, matrixCart, variant, 1))
	w.payments = &payments{url: server.URL, client: server.Client()}
	return w
}

func (w *matrixWorld) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *matrixWorld) world() idemtest.World {
	c := &checkout{shop: w.shop, payments: w.payments, confirmWithin: time.Hour, askEvery: 10 * time.Millisecond}
	return idemtest.World{
		Flow: c.newFlow,
		Request: redisidem.Request{
			Method: http.MethodPost, Path: "/store/carts/" + matrixCart + "/complete", Params: request{Cart: matrixCart},
		},
		Effects: w.effects,
	}
}

// effects returns what has happened.
func (w *matrixWorld) effects() map[string]int {
	ctx := context.Background()
	counts, err := w.shop.counts(ctx, matrixCart)
	w.must(err)
	counts["charged"], counts["voided"], err = w.provider.counts(ctx, matrixCart)
	w.must(err)
	backlog, err := w.shop.store.Backlog(ctx)
	w.must(err)
	counts["events"] = backlog.Events
	happened := make(map[string]int)
	for name, n := range counts {
		if n > 0 {
			happened[name] = int(n)
		}
	}
	return happened
}

// confirm is what a customer does who wants the order.
func (w *matrixWorld) confirm(*redisidem.Key) {
	_, err := w.provider.db.ExecContext(context.Background(), "UPDATE payments SET state = ? WHERE state = ?", stateCharged, stateConfirm)
	w.must(err)
}

// withdraw is what a customer does who does not.
func (w *matrixWorld) withdraw(key *redisidem.Key) {
	names, err := w.redis.Client().Keys(context.Background(), "idemtest-*").Result()
	w.must(err)
	namespace, _, _ := strings.Cut(names[0], ":")
	svc := w.redis.Service(&redisidem.Config{Namespace: namespace})
	w.must(svc.Scope(key.Scope).Cancel(context.Background(), key.Value))
}

// wait is what a customer does who forgets about it.
func (w *matrixWorld) wait(*redisidem.Key) { w.redis.FastForward(time.Hour) }
